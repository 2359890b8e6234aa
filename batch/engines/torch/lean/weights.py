"""A folder's or a GGUF file's weights into our own modules; None where transformers is to read them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from batch.engines.gguf.header import GgufHeader, GgufTensor
from batch.engines.torch import linear
from batch.engines.torch.lean import config as configs
from batch.engines.torch.lean.config import LeanConfig
from batch.engines.torch.lean.model import LeanModel

ROPE = "rope_freqs.weight"  # what Llama 3 divides its rotary frequencies by
GGUF_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
GGUF_PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def from_folder(folder: Path) -> LeanModel | None:
    """The model of a folder of safetensors, in float32."""
    found = configs.of_folder(folder)
    files = _files(folder)
    if found is None or not files:
        return None
    model = LeanModel(*found)
    wanted = _wanted(model)
    opened = []
    try:
        for file in files:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                    if name not in wanted or wanted.pop(name) != tuple(tensors.get_slice(name).get_shape()):
                        return None
                opened.append(file)
        if wanted:
            return None
        for file in opened:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    weights = tensors.get_tensor(name)
                    if not weights.is_floating_point():
                        return None
                    put(model, name, weights.float())
    except (OSError, SafetensorError):
        return None
    return whole(model)


def from_gguf(header: GgufHeader, numbers: Callable[[GgufTensor], Any], *, int8: bool) -> LeanModel | None:
    """The model of a GGUF file in float32; with `int8`, every layer quantised as soon as it is read.

    `numbers` reads a tensor as a float32 array.
    """
    config = configs.of_gguf(header)
    if config is None:
        return None
    if divided := [tensor for tensor in header.tensors if tensor.name == ROPE]:
        if config.model_type != "llama" or divided[0].shape != (config.head_dim // 2,):
            return None
        config.rope_parameters["divisors"] = numbers(divided[0]).tolist()
        header = replace(header, tensors=tuple(tensor for tensor in header.tensors if tensor.name != ROPE))
    model = LeanModel(config, _says_nothing())
    wanted = _wanted(model)
    places = {tensor.name: _place(tensor.name) for tensor in header.tensors}
    if {places[t.name]: tuple(t.shape) for t in header.tensors} != wanted:
        return None
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for layer, tensors in _by_layer(header):
            for tensor, found in zip(tensors, pool.map(numbers, tensors), strict=True):
                read = torch.from_numpy(found if found.flags.writeable else found.copy())
                put(model, places[tensor.name], _in_order(read, tensor.name, config).contiguous())
            if int8 and layer is not None:
                linear.fuse(model.model.layers[layer])
                linear.quantise(model.model.layers[layer])
    return whole(model)


def put(model: nn.Module, name: str, weights: torch.Tensor) -> None:
    """A tensor in its place."""
    module, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(module), leaf, nn.Parameter(weights, requires_grad=False))


def whole(model: LeanModel) -> LeanModel:
    """The model with its head tied to the embeddings, where it is so, ready to run."""
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.eval()
    return model


def _wanted(model: LeanModel) -> dict[str, tuple[int, ...]]:
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    if model.config.tie_word_embeddings:
        del shapes["lm_head.weight"]
    return shapes


def _files(folder: Path) -> list[Path]:
    """The files of weights, as transformers would choose them."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    try:
        names = json.loads(index.read_bytes())["weight_map"].values()
        files = sorted({folder / name for name in names})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    inside = all(file.parent == folder and file.is_file() for file in files)
    return files if inside else []


def _place(name: str) -> str:
    """The module's name for a tensor of a GGUF file; "" for one that has none."""
    parts = name.split(".")
    if len(parts) == 2:
        stem = GGUF_NAMES.get(parts[0])
    elif len(parts) == 4 and parts[0] == "blk" and parts[2] in GGUF_PARTS:
        stem = f"model.layers.{parts[1]}.{GGUF_PARTS[parts[2]]}"
    else:
        stem = None
    return f"{stem}.{parts[-1]}" if stem else ""


def _by_layer(header: GgufHeader) -> Iterator[tuple[int | None, list[GgufTensor]]]:
    layers: dict[int | None, list[GgufTensor]] = {}
    for tensor in header.tensors:
        parts = tensor.name.split(".")
        layers.setdefault(int(parts[1]) if parts[0] == "blk" else None, []).append(tensor)
    yield from layers.items()


def _in_order(weights: torch.Tensor, name: str, config: LeanConfig) -> torch.Tensor:
    """Rows as Hugging Face's Llama has them: llama.cpp has the two halves of a head's rotation side by side."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if config.model_type != "llama" or heads is None:
        return weights
    return weights.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _says_nothing() -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(eos_token_id=None)
