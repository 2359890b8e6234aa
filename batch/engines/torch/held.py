"""What a model keeps of a row, in bytes, whatever kind of object it keeps it in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn


def bytes_of(kept: Any) -> int:
    """The memory of all tensors that an object holds, each once; models and configs that it names are not its own."""
    storages = {}
    for tensor in _tensors(kept, set()):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _tensors(kept: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    if id(kept) in seen or isinstance(kept, nn.Module | type) or hasattr(kept, "model_type"):
        return
    seen.add(id(kept))
    if isinstance(kept, torch.Tensor):
        yield kept
    elif isinstance(kept, Mapping):
        for one in kept.values():
            yield from _tensors(one, seen)
    elif isinstance(kept, list | tuple):
        for one in kept:
            yield from _tensors(one, seen)
    elif hasattr(kept, "__dict__"):
        yield from _tensors(vars(kept), seen)
