"""A GGUF file to a model of transformers: config, tokenizer and weights from the file, one tensor at a time.

What becomes of a file's names and values is transformers' own mapping; the file is read by our header reader, which is
a hundred times faster on large vocabularies, and no copy of the whole model is made beside the one that runs. What the
mapping passes over although it changes answers is refused: llama.cpp runs such a file.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from batch.engines.gguf.header import GgufArray, GgufError, GgufHeader, GgufTensor, read_array, read_header
from batch.engines.gguf.known import unknown
from batch.engines.gguf.types import ARRAY, SCALARS
from batch.engines.torch import gguf_own
from batch.engines.torch.gguf_tokenizer import CONTROL, ELSEWHERE
from batch.errors import FatalError, MissingExtraError

# Control tokens that end a turn, whatever `eos` says: llama.cpp ends an answer at them too.
TURN_ENDS = frozenset(
    {"<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|eom_id|>", "<|endoftext|>", "<turn|>"}
)
ROPE = "rope_freqs.weight"
EPSILONS = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_eps", "norm_epsilon")
_ONE_AT_A_TIME = threading.Lock()


def open_header(file: Path) -> GgufHeader:
    """The header of a model's file; raises FatalError in words."""
    try:
        header = read_header(file)
    except (GgufError, OSError) as error:
        raise FatalError(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    if why := header.why_not():
        raise FatalError(f"{file} is {why}")
    return header


def end_ids(header: GgufHeader) -> frozenset[int]:
    """The tokens that end an answer by the file's own account."""
    values = header.values
    keys = ("eos_token_id", "eot_token_id", "eom_token_id")
    named = {value for key in keys if isinstance(value := values.get(f"tokenizer.ggml.{key}"), int)}
    tokens, kinds = (values.get(f"tokenizer.ggml.{key}") for key in ("tokens", "token_type"))
    if isinstance(tokens, GgufArray) and isinstance(kinds, GgufArray):
        control = [i for i, kind in enumerate(read_array(header.files[0], kinds)) if kind == CONTROL]
        texts = read_array(header.files[0], tokens)
        named |= {i for i in control if i < len(texts) and texts[i] in TURN_ENDS}
    return frozenset(named)


def load_model(file: Path, header: GgufHeader, dtype: Any, device: str, *, int8: bool) -> Any:
    """The model with the file's weights, in that type; with `int8`, every layer quantised as soon as it is read."""
    import torch
    import transformers

    config = _config(file, header)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.eval()
    _fill_buffers(model, device)
    _slow_down(file, header, model)
    _fill(file, header, model, dtype, device, int8=int8)
    model.tie_weights()
    empty = [name for name, value in model.named_parameters() if value.device.type == "meta"]
    empty += [name for name, value in model.named_buffers() if value.device.type == "meta"]
    if empty:
        raise FatalError(f"{file}: the weights lack {len(empty)} of the model's tensors, {empty[0]} among them")
    return model


def _config(file: Path, header: GgufHeader) -> Any:
    """The model's config as transformers makes it of a file; refused where it passes over what changes answers."""
    import transformers

    try:
        if header.architecture in gguf_own.TABLES:
            said = gguf_own.config_of(header)
        else:
            from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

            with _our_reader(header):
                said = load_gguf_checkpoint(str(file), return_tensors=False)["config"] | _not_mapped(header)
        config = transformers.AutoConfig.for_model(**said)
    except ImportError as error:
        raise MissingExtraError("local", "reading GGUF in the torch engine") from error
    except KeyError as error:
        raise FatalError(f"{file} has no {error.args[0]}, which its architecture needs") from error
    except Exception as error:
        raise FatalError(f"{file}: {' '.join(str(error).split())[:300]}; {ELSEWHERE}") from error
    if problem := _passed_over(header, config):
        raise FatalError(f"{file}: {problem}; {ELSEWHERE}")
    return config


def _not_mapped(header: GgufHeader) -> dict[str, Any]:
    """What a file says, or llama.cpp has for its architecture, and transformers does not put into a config."""
    arch, number = header.architecture, header.number
    said: dict[str, Any] = {}
    if arch in ("gemma2", "gemma3"):
        # Of the largest of each the attention's scale is another (llama.cpp, models/gemma2.cpp and gemma3.cpp).
        largest = number("block_count") == {"gemma2": 46, "gemma3": 62}[arch]
        heads, wide = number("attention.head_count") or 1, number("embedding_length") or 0
        said["query_pre_attn_scalar"] = wide // heads if largest else number("attention.key_length")
        for name in ("attn_logit_softcapping", "final_logit_softcapping"):
            if (cap := header.values.get(f"{arch}.{name}")) is not None:
                said[name] = cap
    if arch.endswith("moe"):
        said["moe_intermediate_size"] = number("expert_feed_forward_length")
        said["shared_expert_intermediate_size"] = number("expert_shared_feed_forward_length")
    if arch == "gpt2":
        said["n_positions"] = number("context_length")
    if arch == "minimax-m2" and (turned := number("rope.dimension_count")):
        theta, wide = header.values.get(f"{arch}.rope.freq_base"), number("attention.key_length") or turned
        said["rope_parameters"] = {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": turned / wide}
        said["intermediate_size"] = number("expert_feed_forward_length")
    if arch == "qwen3":
        said["head_dim"] = number("attention.key_length")
    return {name: value for name, value in said.items() if value is not None}


def _passed_over(header: GgufHeader, config: Any) -> str:
    """What the file says and the config does not have, as a clause; "" where nothing is lost."""
    arch = header.architecture
    if clause := unknown(header):
        return f"torch {clause}"
    if arch == "gemma4":  # whose config is made of all that the file says
        return ""
    heads = getattr(config, "num_attention_heads", None) or 1
    wide = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // heads
    for key in ("attention.key_length", "attention.value_length"):
        if (said := header.number(key)) is not None and said != wide:
            return f"its heads are {said} wide, and {wide} by the config"
    turned = header.number("rope.dimension_count") or wide
    part = getattr(config, "partial_rotary_factor", None)
    part = part or (getattr(config, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0)
    if turned != int(wide * part):
        return f"it turns {turned} of a head's {wide} dimensions"
    base = header.values.get(f"{arch}.rope.freq_base")
    known = (getattr(config, "rope_parameters", None) or {}).get("rope_theta") or getattr(config, "rope_theta", None)
    if isinstance(base, float) and isinstance(known, float | int) and abs(base - known) > 1e-3 * base:
        return f"its rotary base is {base:g}, and {known:g} by the config"
    window = header.number("attention.sliding_window")
    if window is not None and getattr(config, "sliding_window", None) != window:
        return f"its layers see a window of {window} tokens"
    swa = header.values.get(f"{arch}.rope.freq_base_swa")
    local = (getattr(config, "rope_parameters", None) or {}).get("sliding_attention") or {}
    if swa is not None and swa != local.get("rope_theta"):
        return f"the rotary base of its windows is {swa}, and {local.get('rope_theta')} by the config"
    for key in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"):
        said, has = header.values.get(f"{arch}.{key}"), [getattr(config, name, None) for name in EPSILONS]
        if isinstance(said, float) and not any(isinstance(x, float) and abs(x - said) < 1e-3 * said for x in has):
            return f"its norms have an epsilon of {said:g}"
    return ""


@contextmanager
def _our_reader(header: GgufHeader) -> Iterator[None]:
    """While it lasts, transformers reads this header instead of building the gguf library's own, token by token."""
    import gguf

    with _ONE_AT_A_TIME:
        theirs = gguf.GGUFReader
        gguf.GGUFReader = lambda path: _as_theirs(header)
        try:
            yield
        finally:
            gguf.GGUFReader = theirs


@contextmanager
def _names_mapped_once() -> Iterator[None]:
    """While it lasts, the gguf library makes its table of names once, and not anew for every module of a model."""
    import gguf

    with _ONE_AT_A_TIME:
        theirs = gguf.get_tensor_name_map
        gguf.get_tensor_name_map = cache(theirs)
        try:
            yield
        finally:
            gguf.get_tensor_name_map = theirs


def _as_theirs(header: GgufHeader) -> Any:
    fields: dict[str, Any] = {}
    for key, value in header.values.items():
        if key != "general.name":  # by which they take some Llamas for another architecture, and know no tensors of it
            fields[key] = _field(header.files[0], value)
    names = [SimpleNamespace(name=tensor.name) for tensor in header.tensors]
    return SimpleNamespace(fields=fields, tensors=names)


def _field(file: Path, value: Any) -> Any:
    if isinstance(value, GgufArray):
        if value.type in SCALARS and value.count < 10_000:
            numbers = read_array(file, value)
            return SimpleNamespace(parts=[(n,) for n in numbers], types=[ARRAY, value.type], data=range(len(numbers)))
        # Of the vocabulary a config needs the length alone.
        return SimpleNamespace(parts=[b""], types=[ARRAY, 8], data=[0] * value.count)
    if isinstance(value, str):
        return SimpleNamespace(parts=[value.encode()], types=[8], data=[0])
    kind = 7 if isinstance(value, bool) else 12 if isinstance(value, float) else 11
    return SimpleNamespace(parts=[(value,)], types=[kind], data=[0])


def _fill_buffers(model: Any, device: str) -> None:
    """Give what a model computes for itself (rotary frequencies) its numbers, which it has none of on "meta"."""
    import torch

    for module in model.modules():
        own = {name: value for name, value in module._buffers.items() if value is not None}
        if not any(value.device.type == "meta" for value in own.values()):
            continue
        for name, value in own.items():
            module._buffers[name] = torch.empty_like(value, device="cpu")
        model._init_weights(module)
        for name, value in list(module._buffers.items()):
            module._buffers[name] = None if value is None else value.to(device)


def _slow_down(file: Path, header: GgufHeader, model: Any) -> None:
    """Divide the rotary frequencies as the file has them divided: Llama 3's way to stretch its context."""
    import torch

    divisors = rope_divisors(header)
    if divisors is None or header.architecture == "gemma4":  # whose config has them
        return
    rotary = [module for module in model.modules() if "inv_freq" in module._buffers]
    if header.architecture != "llama" or len(rotary) != 1 or rotary[0].inv_freq.shape != (len(divisors),):
        raise FatalError(f"{file}: its {ROPE} has no place in the model; {ELSEWHERE}")
    for name in ("inv_freq", "original_inv_freq"):
        rotary[0]._buffers[name] = rotary[0].inv_freq / torch.tensor(divisors)


def rope_divisors(header: GgufHeader) -> list[float] | None:
    """What a file divides each rotary frequency by; None where it leaves them as they are."""
    found = next((tensor for tensor in header.tensors if tensor.name == ROPE), None)
    return None if found is None else [float(number) for number in numbers(found).reshape(-1)]


def _fill(file: Path, header: GgufHeader, model: Any, dtype: Any, device: str, *, int8: bool) -> None:
    """Put the file's tensors into the model, each dequantised by itself; every one must have a place there."""
    import torch
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    from batch.engines.torch import linear

    arch = header.architecture
    processor: Any
    places: Mapping[str, str]
    if arch in gguf_own.TABLES:
        processor, places = gguf_own.Processor(arch, model.config), gguf_own.places(header)
    else:
        processor = TENSOR_PROCESSORS.get(arch, TensorProcessor)(config=model.config.to_dict())
        with _names_mapped_once():
            places = get_gguf_hf_weights_map(model, processor)
    _check_halves(file, header)
    collected: dict[str, Any] = {"tensors": {}}  # experts, which are put together of several tensors
    waiting = _by_layer(header.tensors)
    unused = gguf_own.unused(header)
    for tensor in header.tensors:
        if tensor.name == ROPE or tensor.name.startswith(unused):
            continue
        made = processor.process(
            weights=numbers(tensor), name=tensor.name, tensor_key_mapping=places, parsed_parameters=collected
        )
        if made.name is not None:
            if made.name not in places:
                raise FatalError(f"{file}: its tensor {made.name} has no place in the model; {ELSEWHERE}")
            weights = torch.from_numpy(made.weights.copy() if not made.weights.flags.writeable else made.weights)
            _put(file, model, places[made.name], weights.to(dtype).contiguous(), device)
        layer = _layer(tensor.name)
        waiting[layer] -= 1
        if layer and not waiting[layer]:
            inside = _module_of(places, layer)
            for name in [name for name in collected["tensors"] if name.startswith(inside + ".")]:
                _put(file, model, name, collected["tensors"].pop(name).to(dtype), device)
            if int8:
                part = model.get_submodule(inside)
                linear.plain(part)
                linear.fuse(part)
                model.rounding = max(linear.quantise_told(part), getattr(model, "rounding", 0.0))
    for name, weights in collected["tensors"].items():
        _put(file, model, name, weights.to(dtype), device)


def _check_halves(file: Path, header: GgufHeader) -> None:
    """Raise FatalError where experts have a gate and nothing to be gated, or the other way about."""
    names = {tensor.name for tensor in header.tensors}
    for name in names:
        other = name.replace("ffn_gate_exps", "ffn_up_exps") if "ffn_gate_exps" in name else ""
        other = other or (name.replace("ffn_up_exps", "ffn_gate_exps") if "ffn_up_exps" in name else "")
        if other and other not in names:
            raise FatalError(f"{file}: it has {name}, and no {other}")


def _by_layer(tensors: tuple[GgufTensor, ...]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for tensor in tensors:
        counts[_layer(tensor.name)] = counts.get(_layer(tensor.name), 0) + 1
    return counts


def _layer(name: str) -> str:
    """`blk.3.` of a tensor of that layer; "" of others."""
    found = re.match(r"blk\.\d+\.", name)
    return found[0] if found else ""


def _module_of(places: Mapping[str, str], layer: str) -> str:
    """The name of the module that a layer's tensors go into: what their names there have in common."""
    names = [place for name, place in places.items() if name.startswith(layer)]
    number = layer.split(".")[1]
    head, _, _ = names[0].partition(f".{number}.")
    return f"{head}.{number}"


def numbers(tensor: GgufTensor) -> Any:
    """A tensor's numbers in fp32, from the mapped file."""
    from batch.engines.torch import stored

    return stored.of_gguf(tensor).floats().numpy()


def _put(file: Path, model: Any, name: str, weights: Any, device: str) -> None:
    from torch import nn

    module_name, _, leaf = name.rpartition(".")
    try:
        module = model.get_submodule(module_name)
        old = getattr(module, leaf)
    except AttributeError:
        raise FatalError(f"{file}: the model has no {name}; {ELSEWHERE}") from None
    if tuple(old.shape) != tuple(weights.shape):
        said = "×".join(map(str, weights.shape))
        raise FatalError(f"{file}: {name} is {said}, and the model has it {'×'.join(map(str, old.shape))}")
    if leaf in module._buffers:
        module._buffers[leaf] = weights.to(device)
    else:
        setattr(module, leaf, nn.Parameter(weights.to(device), requires_grad=False))
