"""Weights as they were packed for this machine, kept on the shelf, so that the next start only reads them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from batch.engines.torch import linear, shelf
from batch.engines.torch.gemm import PARTS, PackedProduct
from batch.engines.torch.lean import weights
from batch.engines.torch.lean.config import LeanConfig
from batch.engines.torch.lean.model import LeanModel
from batch.engines.torch.lean.table import FileEmbedding
from batch.engines.torch.native import kernels

ALIGNED = 64
DTYPES = {str(kind): kind for kind in (torch.uint8, torch.float16, torch.float32, torch.bfloat16)}


def model_of(entry: shelf.Entry, embeddings: FileEmbedding) -> LeanModel:
    """The model of an entry, packed; raises ValueError or LookupError where that is not sound.

    `embeddings` is the table of the model's own file, which is not kept.
    """
    said = entry.about
    config = LeanConfig(**{**said["config"], "attention_bias": tuple(said["config"]["attention_bias"])})
    model = LeanModel(config, SimpleNamespace(**said["generation"]))
    model.model.embed_tokens = embeddings
    linear.fuse(model)
    memory, file = entry.numbers()
    packed = torch.frombuffer(memory, dtype=torch.uint8)
    rest = torch.frombuffer(file, dtype=torch.uint8, offset=said["packed"], count=said["size"] - said["packed"])
    for name, place in said["tensors"].items():
        weights.put(model, name, _tensor(rest, place))
    replaced: linear.Replaced = {}
    for name, product in said["products"].items():
        parts = {part: _tensor(packed, place) for part, place in product["parts"].items()}
        made = PackedProduct.restored(_kernels(), product["bits"], product["shape"], product["paired"], parts)
        old = _replace(model, name, linear.RoundedLinear.restored(made))
        replaced[old] = model.get_submodule(name)
    linear.relink(model, replaced)
    left = [name for name, value in model.named_parameters() if value.device.type == "meta"]
    if left:
        raise LookupError(f"it has no {left[0]}")
    model.eval()
    return model


def keep(name: str, model: Any, about: Mapping[str, Any]) -> threading.Thread | None:
    """Write an entry in a thread, where the model is one of ours and packed by our kernels; else nothing is done.

    `about`: what the next start is to know beside. Only the end of the thread is told by it: what fails leaves nothing.
    """
    if not name or not isinstance(model, LeanModel):
        return None
    products = {
        path: module.product
        for path, module in model.named_modules()
        if isinstance(getattr(module, "product", None), PackedProduct)
    }
    place = shelf.folder()
    if not products or place is None or (place / name).exists():
        return None
    said = {"config": asdict(model.config), "generation": vars(model.generation_config), **about}
    thread = threading.Thread(target=_write, args=(place, name, model, products, said), name="prepared", daemon=True)
    thread.start()
    return thread


def _write(
    place: Path, name: str, model: LeanModel, products: Mapping[str, PackedProduct], about: Mapping[str, Any]
) -> None:
    with contextlib.suppress(OSError):
        shelf.sweep(place)
        scratch = shelf.scratch(place)
        try:
            with (scratch / "numbers").open("wb") as file:
                said = {**_put_all(file, model, products), **about}
                file.flush()
                os.fsync(file.fileno())
            if said["size"] <= shelf.MOST_BYTES // 2:
                with (scratch / "index.json").open("w", encoding="utf-8") as index:
                    json.dump({"index": said, "sum": shelf.sum_of(said)}, index)
                    index.flush()
                    os.fsync(index.fileno())
                scratch.rename(place / name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        shelf.bound(place)


def _put_all(file: Any, model: LeanModel, products: Mapping[str, PackedProduct]) -> dict[str, Any]:
    """Write all numbers; what the index says of them."""
    at, total = 0, 0

    def put(tensor: torch.Tensor) -> list[Any]:
        nonlocal at, total
        raw = memoryview(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy())
        place = [at, str(tensor.dtype), list(tensor.shape)]
        for part in (raw, bytes(-len(raw) % ALIGNED)):
            for first in range(0, len(part), shelf.CHUNK):
                total = zlib.crc32(part[first : first + shelf.CHUNK], total)
                file.write(part[first : first + shelf.CHUNK])
        at += len(raw) + -len(raw) % ALIGNED
        return place

    packed = {
        path: {
            "bits": product.bits,
            "shape": [product.outputs, product.inputs],
            "paired": product.paired,
            "parts": {part: put(value) for part in PARTS if (value := getattr(product, part)) is not None},
        }
        for path, product in products.items()
    }
    size = at
    tensors = {path: put(value) for path, value in model.named_parameters()}
    moved = {path: [place[0] - size, *place[1:]] for path, place in tensors.items()}
    return {"products": packed, "tensors": moved, "packed": size, "size": at, "sum": total}


def _tensor(numbers: torch.Tensor, place: list[Any]) -> torch.Tensor:
    at, kind, shape = place
    dtype = DTYPES[kind]
    size = torch.Size(shape).numel() * dtype.itemsize
    if at < 0 or at % ALIGNED or at + size > len(numbers):
        raise ValueError("a tensor lies outside of its numbers")
    return numbers[at : at + size].view(dtype).view(shape)


def _replace(model: nn.Module, name: str, made: nn.Module) -> nn.Module:
    """A layer in the place of a linear one of the same shape, which is returned."""
    parent, _, leaf = name.rpartition(".")
    old = model.get_submodule(name)
    if type(old) is not nn.Linear or (old.out_features, old.in_features) != (made.out_features, made.in_features):
        raise ValueError(f"it has no layer {name} of that shape")
    setattr(model.get_submodule(parent), leaf, made)
    return old


def _kernels() -> Any:
    quick = kernels()
    if quick is None or not quick.panel:
        raise LookupError("there are no kernels for it")
    return quick
