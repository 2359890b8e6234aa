"""A folder's or a GGUF file's weights into our own modules; None where transformers is to read them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from batch.engines.gguf.header import GgufHeader
from batch.engines.torch import stored
from batch.engines.torch.lean import config as configs
from batch.engines.torch.lean import table
from batch.engines.torch.lean.config import LeanConfig
from batch.engines.torch.lean.model import LeanModel
from batch.engines.torch.stored import Stored

HEAD = "lm_head.weight"
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


class Source:
    """A model's numbers, read into its modules layer by layer; errors of the files are raised as they come.

    `tensors` are those of its files by the names of its modules. The table of embeddings stays in its file.
    """

    def __init__(self, model: LeanModel, tensors: Mapping[str, Stored]) -> None:
        self.model, self.tensors = model, tensors
        self.parameters = sum(math.prod(shape) for shape in _wanted(model).values())
        self.head = tensors[table.NAME if model.config.tie_word_embeddings else HEAD]
        model.model.embed_tokens = table.FileEmbedding(tensors[table.NAME])

    def layers(self) -> Iterator[nn.Module]:
        """Fill the model: its layers one after the other, each given when it is whole, and then its norm.

        So no more than one layer need be there in float32 at a time. The head is left to who fills it.
        """
        inside: dict[int | None, list[str]] = {}
        for name in self.tensors:
            if name not in (table.NAME, HEAD):
                inside.setdefault(_layer_of(name), []).append(name)
        for number, layer in enumerate(self.model.model.layers):
            self._fill(inside.get(number, []))
            yield layer
        self._fill(inside.get(None, []))
        self.model.eval()

    def _fill(self, names: Iterable[str]) -> None:
        for name in names:
            put(self.model, name, self.tensors[name].floats())

    def whole(self) -> LeanModel:
        """The model in float32, ready to run."""
        for _ in self.layers():
            pass
        put(self.model, HEAD, self.head.floats())
        return self.model


def open_folder(folder: Path) -> Source | None:
    """The model of a folder of safetensors."""
    found = configs.of_folder(folder)
    files = _files(folder)
    if found is None or not files:
        return None
    model = LeanModel(*found)
    tensors: dict[str, Stored] = {}
    try:
        for file in files:
            with safe_open(file, framework="pt") as opened:  # which looks at all that the header says
                names = set(opened.keys())
            own = stored.of_safetensors(file)
            if own.keys() != names or own.keys() & tensors.keys():
                return None
            tensors |= own
        return _source(model, tensors)
    except (OSError, SafetensorError, ValueError):
        return None


def open_gguf(header: GgufHeader) -> Source | None:
    """The model of a GGUF file."""
    config = configs.of_gguf(header)
    if config is None:
        return None
    tensors = {tensor.name: stored.of_gguf(tensor) for tensor in header.tensors}
    if (divisors := tensors.pop(ROPE, None)) is not None:
        if config.model_type != "llama" or divisors.shape != (config.head_dim // 2,):
            return None
        config.rope_parameters["divisors"] = divisors.floats().tolist()
    ordered = {_place(name): replace(own, order=_order(own, name, config)) for name, own in tensors.items()}
    return _source(LeanModel(config, _says_nothing()), ordered) if len(ordered) == len(tensors) else None


def _source(model: LeanModel, tensors: Mapping[str, Stored]) -> Source | None:
    """None where the tensors are not the model's."""
    alike = {name: own.shape for name, own in tensors.items()} == _wanted(model)
    return Source(model, tensors) if alike else None


def table_of(place: Path, header: GgufHeader | None) -> table.FileEmbedding:
    """The table of embeddings of a folder or a GGUF file; raises OSError or LookupError where it has none."""
    return table.of(header, [] if header is not None else _files(place))


def put(model: nn.Module, name: str, weights: torch.Tensor) -> None:
    """A tensor in its place."""
    module, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(module), leaf, nn.Parameter(weights, requires_grad=False))


def _wanted(model: LeanModel) -> dict[str, tuple[int, ...]]:
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    if model.config.tie_word_embeddings:
        del shapes[HEAD]
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


def _layer_of(place: str) -> int | None:
    """The number of the layer that a tensor is of; None for others."""
    parts = place.split(".")
    return int(parts[2]) if parts[:2] == ["model", "layers"] else None


def _order(weights: Stored, name: str, config: LeanConfig) -> Any:
    """Rows as Hugging Face's Llama has them: llama.cpp has the two halves of a head's rotation side by side."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if config.model_type != "llama" or heads is None or weights.rows % (2 * heads):
        return None
    return numpy.arange(weights.rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)


def _says_nothing() -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(eos_token_id=None)
