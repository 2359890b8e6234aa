"""The packed runner's KV cache: a slot a row for what is its own, and prefixes that rows share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

ROUND = 64  # columns are allocated in multiples of this


@dataclass(slots=True, eq=False)
class Prefix:
    """Keys and values of tokens that prompts begin with, computed once. Shapes: [1, heads, length, head size]."""

    length: int
    layers: list[tuple[torch.Tensor, torch.Tensor]]
    users: int = 0  # running rows


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # NumPy's come from calloc, which touches no page; torch writes its zeros.
    size = torch.empty(0, dtype=dtype).element_size()
    flat = torch.from_numpy(numpy.zeros(math.prod(shape) * size, dtype=numpy.uint8))
    return flat.view(dtype).view(shape)


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer. Shapes: [slots, heads, columns, head size]; a row's own tokens begin at 0."""

    is_sliding = False  # old columns are hidden by the mask

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate for states of this shape, [batch, heads, tokens, head size]."""
        self.allocate(key_states.shape[1], (key_states.shape[3], value_states.shape[3]), key_states)

    def allocate(self, heads: int, sizes: tuple[int, int], like: torch.Tensor) -> None:
        """Zeroed: what a mask hides must still be a number. On a CPU memory is taken only as it is written to."""
        cache = self.cache
        self.keys, self.values = (
            _zeros((cache.slots, heads, cache.columns, size), cache.dtype or like.dtype, like.device) for size in sizes
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the step's tokens to their slots; the attention function reads the slots themselves."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        slot, column = self.cache.writes
        # [tokens, heads, head size]
        self.keys[slot, :, column] = key_states[0].transpose(0, 1).to(self.keys.dtype)
        self.values[slot, :, column] = value_states[0].transpose(0, 1).to(self.values.dtype)
        self.cache.reading = self
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """What a mask would span; none is made."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Positions are given to the model, never counted from here."""
        return 0

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1

    get_max_cache_shape = get_max_length  # its name in transformers 5.0


class SlotCache(Cache):  # type: ignore[misc]
    """All layers."""

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype  # None: the model's own
        self.slots = self.columns = 0
        self.writes: tuple[torch.Tensor, torch.Tensor] = (torch.empty(0), torch.empty(0))  # slot, column of each token
        self.reading: SlotLayer | None = None  # the layer whose attention comes next
        super().__init__(layer_class_to_replicate=lambda: SlotLayer(self))

    def layer(self, index: int, heads: int, size: int, like: torch.Tensor) -> SlotLayer:
        """A layer, allocated; for who writes to it without `update`."""
        while len(self.layers) <= index:
            self.layers.append(SlotLayer(self))
        layer: SlotLayer = self.layers[index]
        if not layer.is_initialized:
            layer.allocate(heads, (size, size), like)
        return layer

    def reserve(
        self, slots: int, columns: int, keep: tuple[int, int], *, spare: int = 0, exactly: bool = False
    ) -> None:
        """Make room for that many slots and columns.

        `keep`: the slots and columns that are in use. `spare`: columns to have beyond, where it takes a move anyway;
        with none, those far beyond are given back. `exactly`: give slots back as well.
        """
        least = -(-columns // ROUND) * ROUND
        slots = slots if exactly else max(slots, self.slots)
        enough = self.columns if least <= self.columns and (spare or self.columns <= least + 2 * ROUND) else 0
        if slots == self.slots and (least == self.columns if exactly else enough):
            return
        had = self.slots
        self.slots, self.columns = slots, least if exactly else enough or -(-(columns + spare) // ROUND) * ROUND
        rows, width = min(keep[0], self.slots, had), min(keep[1], self.columns)
        for layer in self.layers:
            if layer.is_initialized:
                old = layer.keys, layer.values
                layer.allocate(old[0].shape[1], (old[0].shape[3], old[1].shape[3]), old[0])
                for new, kept in zip((layer.keys, layer.values), old, strict=True):
                    new[:rows, :, :width] = kept[:rows, :, :width]

    def move(self, source: int, target: int, columns: int) -> None:
        """Put the first columns of one slot in another's place."""
        for layer in self.layers:
            for tensor in (layer.keys, layer.values):
                tensor[target, :, :columns] = tensor[source, :, :columns]

    def wipe(self, slot: int) -> None:
        """Zero a slot that may hold what is not a number: hidden or not, it would spread to the next tenant."""
        for layer in self.layers:
            layer.keys[slot].zero_()
            layer.values[slot].zero_()

    def take_prefix(self, slot: int, length: int) -> Prefix:
        """The first tokens of a slot as a prefix to share."""
        return Prefix(
            length,
            [
                (layer.keys[slot : slot + 1, :, :length].clone(), layer.values[slot : slot + 1, :, :length].clone())
                for layer in self.layers
            ],
        )

    def bytes_per_token(self) -> int:
        """What one column of one slot takes in all layers; 0 before the first forward pass."""
        return sum(
            t.shape[1] * t.shape[3] * t.element_size()
            for layer in self.layers
            if layer.is_initialized
            for t in (layer.keys, layer.values)
        )
