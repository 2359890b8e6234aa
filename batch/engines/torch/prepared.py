"""Weights as they were packed for this machine, kept in the user's cache, so that the next start only reads them.

A cache is never the truth: an entry's name is made of all that it depends on (the model's files with size and time,
libraries, kernels, processor, this engine's own sources), its numbers have a sum that is looked at each time, and what
does not fit, or cannot be read, is as good as not there. Entries appear whole; the least used go where they are too
many.

An entry is a folder: `index.json` (what the model is, and where each tensor lies) and `numbers` (those of the packed
products, then all others, each at a multiple of 64 bytes). Entries of tokenizers (`lean.kept`) lie beside them.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import tempfile
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from batch.engines.torch import linear
from batch.engines.torch.gemm import PackedProduct
from batch.engines.torch.lean import weights
from batch.engines.torch.lean.config import LeanConfig
from batch.engines.torch.lean.model import LeanModel
from batch.engines.torch.native import kernels

MOST_BYTES = 4 * 2**30  # of all entries together; one that is larger than half of it is not kept
ALIGNED = 64
PARTS = ("weight", "steps", "offsets", "scale", "bias")  # of a packed product
DTYPES = {str(kind): kind for kind in (torch.uint8, torch.float16, torch.float32, torch.bfloat16)}
STALE_SECONDS = 3600.0
CHUNK = 8 * 2**20


class Prepared:
    """An entry that was found: its numbers are read at once, beside whatever else the caller does until `model`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        read = json.loads((folder / "index.json").read_bytes())
        self.about: Mapping[str, Any] = read["index"]
        if read["sum"] != _sum_of(self.about):
            raise ValueError("its index is not the one that was written")
        self._numbers = (folder / "numbers").open("rb")
        size = os.fstat(self._numbers.fileno()).st_size
        if size != self.about["size"] or not 0 <= self.about["packed"] <= size:
            raise ValueError("it is not whole")
        # Read, and not mapped: large pages are quicker to look up in every step.
        self._packed = torch.empty(self.about["packed"], dtype=torch.uint8)
        self._sum = -1
        self._thread = threading.Thread(target=self._read, name="prepared", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        found, place = 0, memoryview(self._packed.numpy())
        with contextlib.suppress(OSError, ValueError):
            at = 0
            while at < len(place):
                count = self._numbers.readinto(place[at : at + CHUNK])
                if not count:
                    return
                found = zlib.crc32(place[at : at + count], found)
                at += count
            while part := self._numbers.read(CHUNK):
                found = zlib.crc32(part, found)
            self._sum = found

    def model(self) -> LeanModel:
        """The model, packed; raises ValueError or LookupError where the entry is not sound."""
        said = self.about
        config = LeanConfig(**{**said["config"], "attention_bias": tuple(said["config"]["attention_bias"])})
        model = weights.empty(config, SimpleNamespace(**said["generation"]))
        linear.fuse(model)
        rest = self._mapped()
        self._thread.join()
        if self._sum != said["sum"]:
            raise ValueError("its numbers are not those that were written")
        for name, place in said["tensors"].items():
            weights.put(model, name, _tensor(rest, place))
        replaced: linear.Replaced = {}
        for name, product in said["products"].items():
            parts = {part: _tensor(self._packed, place) for part, place in product["parts"].items()}
            made = PackedProduct.restored(_kernels(), product["bits"], product["shape"], product["paired"], parts)
            old = _replace(model, name, linear.RoundedLinear.restored(made))
            replaced[old] = model.get_submodule(name)
        linear.relink(model, replaced)
        if config.tie_word_embeddings and type(model.lm_head) is nn.Linear:
            model.lm_head.weight = model.model.embed_tokens.weight
        left = [name for name, value in model.named_parameters() if value.device.type == "meta"]
        if left:
            raise LookupError(f"it has no {left[0]}")
        model.eval()
        return model

    def _mapped(self) -> torch.Tensor:
        """What is not packed: an embedding's rows are read as they are needed."""
        size = self.about["size"] - self.about["packed"]
        whole = mmap.mmap(self._numbers.fileno(), 0, access=mmap.ACCESS_COPY)
        return torch.frombuffer(whole, dtype=torch.uint8, offset=self.about["packed"], count=size)


def find(name: str) -> Prepared | None:
    """The entry of that name; None where there is none, or none that is sound at first sight."""
    if not name or kernels() is None:
        return None
    place = folder()
    entry = place / name if place else None
    if entry is None or not entry.is_dir():
        return None
    try:
        found = Prepared(entry)
        os.utime(entry)  # used: others go first
        return found
    except (OSError, ValueError, LookupError, TypeError):
        forget(name)
        return None


def forget(name: str) -> None:
    """Remove an entry that is not what it says."""
    if (place := folder()) is not None:
        shutil.rmtree(place / name, ignore_errors=True)


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
    place = folder()
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
        sweep(place)
        scratch = Path(tempfile.mkdtemp(prefix="tmp-", dir=place))
        try:
            with (scratch / "numbers").open("wb") as file:
                said = {**_put_all(file, model, products), **about}
                file.flush()
                os.fsync(file.fileno())
            if said["size"] <= MOST_BYTES // 2:
                with (scratch / "index.json").open("w", encoding="utf-8") as index:
                    json.dump({"index": said, "sum": _sum_of(said)}, index)
                    index.flush()
                    os.fsync(index.fileno())
                scratch.rename(place / name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        bound(place)


def _put_all(file: Any, model: LeanModel, products: Mapping[str, PackedProduct]) -> dict[str, Any]:
    """Write all numbers; what the index says of them."""
    at, total = 0, 0

    def put(tensor: torch.Tensor) -> list[Any]:
        nonlocal at, total
        raw = memoryview(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy())
        place = [at, str(tensor.dtype), list(tensor.shape)]
        for part in (raw, bytes(-len(raw) % ALIGNED)):
            for first in range(0, len(part), CHUNK):
                total = zlib.crc32(part[first : first + CHUNK], total)
                file.write(part[first : first + CHUNK])
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


def _sum_of(index: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(index, sort_keys=True).encode())


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


def bound(place: Path) -> None:
    """Remove the entries that were used least lately, until the rest is small enough."""
    entries = sorted(
        (path for path in place.iterdir() if not path.name.startswith("tmp-")),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    total = 0
    for path in entries:
        total += sum(file.stat().st_size for file in path.iterdir())
        if total > MOST_BYTES:
            shutil.rmtree(path, ignore_errors=True)


def sweep(place: Path) -> None:
    """Remove what was left by those that were ended while they wrote."""
    for path in place.glob("tmp-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path)


def folder() -> Path | None:
    """Where entries are kept; None where that cannot be, or where others could write."""
    import platformdirs

    try:
        place = platformdirs.user_cache_path("ai-router") / "weights"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.stat()
    except OSError:
        return None
    safe = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
    return place if safe else None
