"""What a model of a GGUF file keeps of each answer while it runs: keys and values by the token, states by the row."""

from __future__ import annotations

import math

from batch.engines.gguf.header import GgufArray, GgufError, GgufHeader, read_array
from batch.engines.gguf.types import TEXT

MOST_LAYERS = 10_000
FLOAT = 4  # bytes of a state's number


def cache_bytes_per_token(header: GgufHeader) -> int | None:
    """Keys and values of one token in 16 bits, over all layers that have them; None where the file does not say."""
    layers, wide = _layers(header), header.number("embedding_length")
    heads = max(_each(header, "attention.head_count", layers), default=0)
    if not (layers and heads and wide):
        return 0 if layers and _state(header) else None
    kv = _each(header, "attention.head_count_kv", layers) or [heads] * layers
    every = header.number("full_attention_interval")
    windowed = _each(header, "attention.sliding_window_pattern", layers)
    layers -= header.number("attention.shared_kv_layers") or 0  # the last ones read what others keep
    total = 0
    for layer in range(layers):
        if every and (layer + 1) % every:
            continue
        suffix = "_swa" if windowed and windowed[layer] else ""
        key, value = (
            header.number(f"attention.{part}_length{suffix}") or header.number(f"attention.{part}_length")
            for part in ("key", "value")
        )
        total += kv[layer] * ((key or wide // heads) + (value or wide // heads))
    return 2 * total


def cache_bytes_per_row(header: GgufHeader) -> int:
    """The states of one answer, however short, over all layers that have them."""
    layers, state = _layers(header), _state(header)
    if not state:
        return 0
    kv, every = _each(header, "attention.head_count_kv", layers), header.number("full_attention_interval")
    differ = isinstance(header.values.get(f"{header.architecture}.attention.head_count_kv"), GgufArray)
    with_states = sum(not kv[n] for n in range(layers)) if differ else layers - layers // every if every else layers
    return FLOAT * with_states * state


def embeddings(header: GgufHeader) -> int:
    """Elements of the tables that tokens are looked up in."""
    return sum(tensor.elements for tensor in header.tensors if tensor.name.endswith("token_embd.weight"))


def _state(header: GgufHeader) -> int:
    """Numbers of a layer's state, and of the last inputs of its convolution."""
    if taps := header.number("shortconv.l_cache"):
        return taps * (header.number("embedding_length") or 0)
    inner, size, taps = (header.number(f"ssm.{key}") for key in ("inner_size", "state_size", "conv_kernel"))
    if not (inner and size and taps):
        return 0
    return inner * size + taps * (inner + 2 * (header.number("ssm.group_count") or 0) * size)


def _layers(header: GgufHeader) -> int:
    count = (header.number("block_count") or 0) - (header.number("nextn_predict_layers") or 0)
    return count if 0 < count <= MOST_LAYERS else 0


def _each(header: GgufHeader, key: str, layers: int) -> list[int]:
    """A value for each layer: as an array has them, or one for all; [] where the file says none."""
    value = header.values.get(f"{header.architecture}.{key}")
    if isinstance(value, GgufArray):
        if value.type == TEXT or value.count < layers or value.count > MOST_LAYERS:
            return []
        try:
            found = read_array(header.files[0], value)
        except (GgufError, OSError):
            return []
        return [int(number) if math.isfinite(number) and 0 <= number < 2**31 else 0 for number in found]
    number = header.number(key)
    return [number] * layers if number is not None else []
