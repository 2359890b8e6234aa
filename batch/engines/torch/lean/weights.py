"""A folder's or a GGUF file's weights into our own modules; None where transformers is to read them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from batch.engines.gguf.header import GgufHeader, GgufTensor
from batch.engines.torch.lean import config as configs
from batch.engines.torch.lean import table
from batch.engines.torch.lean.config import LeanConfig
from batch.engines.torch.lean.model import LeanModel

FLOATS = ("F64", "F32", "F16", "BF16")  # of safetensors
HEAD = "lm_head.weight"
TABLE = -1  # the group of the table of embeddings
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

    `groups` are what the numbers of each layer are read from, None's those of what is outside of the layers; `read`
    gives the tensors of one by their places, in float32. The table of embeddings stays in its file.
    """

    def __init__(
        self,
        model: LeanModel,
        groups: Mapping[int | None, list[Any]],
        read: Callable[[list[Any]], Iterable[tuple[str, torch.Tensor]]],
        embeddings: table.FileEmbedding,
    ) -> None:
        self.model = model
        self.parameters = sum(math.prod(shape) for shape in _wanted(model).values())
        self._groups, self._read = groups, read
        model.model.embed_tokens = embeddings

    def layers(self) -> Iterator[nn.Module]:
        """Fill the model: its layers one after the other, each given when it is whole, and then its norm and its head.

        So no more than one layer, or the head, need be there in float32 at a time.
        """
        for number, layer in enumerate(self.model.model.layers):
            self._fill(number)
            yield layer
        self._fill(None)
        if self.model.config.tie_word_embeddings:
            for _, tensor in self._read(self._groups[TABLE]):
                put(self.model, HEAD, tensor)
        self.model.eval()

    def _fill(self, group: int | None) -> None:
        for name, tensor in self._read(self._groups.get(group, [])):
            put(self.model, name, tensor)

    def whole(self) -> LeanModel:
        """The model in float32, ready to run."""
        for _ in self.layers():
            pass
        return self.model


def open_folder(folder: Path) -> Source | None:
    """The model of a folder of safetensors."""
    found = configs.of_folder(folder)
    files = _files(folder)
    if found is None or not files:
        return None
    model = LeanModel(*found)
    wanted = _wanted(model)
    groups: dict[int | None, list[tuple[Path, str]]] = {}
    try:
        for file in files:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                    part = tensors.get_slice(name)
                    if name not in wanted or wanted.pop(name) != tuple(part.get_shape()):
                        return None
                    if part.get_dtype() not in FLOATS:
                        return None
                    groups.setdefault(_group_of(name), []).append((file, name))
        embeddings = None if wanted else table.of(None, files)
    except (OSError, SafetensorError):
        return None
    return None if embeddings is None else Source(model, groups, _of_files, embeddings)


def _of_files(places: list[tuple[Path, str]]) -> Iterator[tuple[str, torch.Tensor]]:
    """Each call maps a file anew, so that what was read of it goes with the layer that it was read for."""
    for file in {file: None for file, _ in places}:
        with safe_open(file, framework="pt") as tensors:
            for _, name in (place for place in places if place[0] == file):
                read = tensors.get_tensor(name).float()
                yield name, read.clone() if read.dim() == 1 else read  # a small one would hold on to the whole file


def open_gguf(header: GgufHeader, numbers: Callable[[GgufTensor], Any]) -> Source | None:
    """The model of a GGUF file. `numbers` reads a tensor as a float32 array."""
    config = configs.of_gguf(header)
    if config is None:
        return None
    if divided := [tensor for tensor in header.tensors if tensor.name == ROPE]:
        if config.model_type != "llama" or divided[0].shape != (config.head_dim // 2,):
            return None
        config.rope_parameters["divisors"] = numbers(divided[0]).tolist()
        header = replace(header, tensors=tuple(tensor for tensor in header.tensors if tensor.name != ROPE))
    model = LeanModel(config, _says_nothing())
    places = {tensor.name: _place(tensor.name) for tensor in header.tensors}
    if {places[t.name]: tuple(t.shape) for t in header.tensors} != _wanted(model):
        return None
    groups: dict[int | None, list[GgufTensor]] = {}
    for tensor in header.tensors:
        groups.setdefault(_group_of(places[tensor.name]), []).append(tensor)

    def read(tensors: list[GgufTensor]) -> Iterator[tuple[str, torch.Tensor]]:
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            for tensor, found in zip(tensors, pool.map(numbers, tensors), strict=True):
                plain = torch.from_numpy(found if found.flags.writeable else found.copy())
                yield places[tensor.name], _in_order(plain, tensor.name, config).contiguous()

    return Source(model, groups, read, table.of(header, []))


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


def _group_of(place: str) -> int | None:
    """The number of the layer that a tensor is of; TABLE for the embeddings', None for others outside of them."""
    if place == table.NAME:
        return TABLE
    parts = place.split(".")
    return int(parts[2]) if parts[:2] == ["model", "layers"] else None


def _in_order(weights: torch.Tensor, name: str, config: LeanConfig) -> torch.Tensor:
    """Rows as Hugging Face's Llama has them: llama.cpp has the two halves of a head's rotation side by side."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if config.model_type != "llama" or heads is None:
        return weights
    return weights.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _says_nothing() -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(eos_token_id=None)
