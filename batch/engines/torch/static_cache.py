"""The static runner's KV cache: slots in memory that stays where it is, and attention over so many of their columns."""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, CacheLayerMixin

from batch.engines.torch.slots import PlacedLayer, Prefix

NAME = "ai_router_static"
ROUND = 64  # a slot has a multiple of this many columns
# What steps are padded to, in rows and in columns read: never by more than a third, but for the smallest.
ROWS = [1, 2, 4, *range(8, 64, 8), *range(64, 256, 32), *range(256, 4097, 64)]
COLUMNS = sorted({ROUND, *(part * 2**power for part in (2, 3) for power in range(6, 24))})


def bucket(count: int, sizes: list[int], most: int) -> int:
    """The least of the sizes that is enough, but no more than `most`."""
    at = bisect_left(sizes, count)
    return min(sizes[at] if at < len(sizes) else most, most)


def rounded(columns: int) -> int:
    """So many columns in whole rounds."""
    return -(-columns // ROUND) * ROUND


@dataclass(slots=True)
class Reads:
    """What a step's tokens attend to: a rectangle of rows times the most tokens of one row."""

    slots: slice | torch.Tensor  # of each row
    width: int  # columns that are read
    last: torch.Tensor  # [rows, tokens], the newest column that each token sees, its own
    places: tuple[torch.Tensor, torch.Tensor] | None = None  # row and token of each in the line; None: one a row
    masks: dict[tuple[int | None, int], torch.Tensor] = field(default_factory=dict)  # by sliding window, and group
    group: int = 1  # most query heads a KV head, of the layers that have run

    def mask(self, group: int, window: int | None, like: torch.Tensor) -> torch.Tensor:
        """What to add to the scores, [rows, 1, tokens × group, width]; made once a step."""
        self.group = max(self.group, group)
        if (window, group) not in self.masks:
            columns = torch.arange(self.width, device=like.device)
            last = self.last.unsqueeze(-1)
            hidden = columns > last
            if window is not None:
                hidden |= columns <= last - window
            mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
            mask = mask.masked_fill_(hidden, float("-inf")).repeat_interleave(group, dim=1)
            self.masks[window, group] = mask.unsqueeze(1)
        return self.masks[window, group]


_now = threading.local()


def set_reads(reads: Reads | None) -> None:
    """What this thread's step attends to."""
    _now.reads = reads


def static_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Query: [1, heads, tokens, size]; key and value: [rows, KV heads, width, size]. Returns [1, tokens, heads, size].

    The query heads of a group stand in line as further queries of their KV head, so that no key or value is repeated
    for them, and the mask alone says who sees what: one call of PyTorch's attention, whatever the rows' lengths.
    """
    strange = [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]
    if strange or attention_mask is not None:
        raise ValueError(f"the static attention does not do this: {strange}")
    reads: Reads = _now.reads
    rows, tokens = reads.last.shape
    heads, size = query.shape[1], query.shape[3]
    kv_heads, group = key.shape[1], heads // key.shape[1]
    line = query[0].transpose(0, 1)  # [tokens of all rows, heads, size]
    if reads.places is None:
        q = line
    else:
        q = line.new_zeros(rows, tokens, heads, size)
        q[reads.places] = line
    q = q.reshape(rows, tokens, kv_heads, group, size).transpose(1, 2).reshape(rows, kv_heads, tokens * group, size)
    mask = reads.mask(group, sliding_window, q)
    out = torch.nn.functional.scaled_dot_product_attention(q, key, value, attn_mask=mask, scale=scaling)
    out = out.reshape(rows, kv_heads, tokens, group, -1).transpose(1, 2).reshape(rows, tokens, heads, -1)
    out = out[:, 0] if reads.places is None else out[reads.places]
    return out.unsqueeze(0), None


class StaticLayer(PlacedLayer, CacheLayerMixin):  # type: ignore[misc]
    """One layer of the cache, as the model sees it."""

    def __init__(self, cache: StaticSlots, index: int) -> None:
        super().__init__()
        self._cache, self._index = cache, index

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """The whole cache is allocated with its first layer."""
        self._cache.allocate(key_states, value_states)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the step's tokens to their slots; return what the step reads."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        slot, column = self._cache.writes
        found = []
        for whole, states in zip(self._cache.views(), (key_states, value_states), strict=True):
            layer = whole[self._index]
            layer[slot, :, column] = states[0].transpose(0, 1)  # [tokens, heads, size]
            found.append(layer[_now.reads.slots, :, : _now.reads.width])
        return found[0], found[1]


class StaticSlots(Cache):  # type: ignore[misc]
    """All layers in two tensors, keys and values, divided into slots of so many columns.

    The memory is taken once, for `capacity` columns. A longer row, or more rows, divide it anew; it moves only when it
    is too small for one row alone.
    """

    def __init__(self, layers: int) -> None:
        self.slots = self.columns = self.capacity = 0
        self.writes: tuple[torch.Tensor, torch.Tensor] = (torch.empty(0), torch.empty(0))  # slot, column of each token
        self._depth = layers
        self._pools: list[torch.Tensor] = []  # keys and values, [layers, capacity, heads, size]
        super().__init__(layer_class_to_replicate=lambda: StaticLayer(self, len(self.layers)))

    def allocate(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """For states of this shape, [batch, heads, tokens, size], in every layer; nothing where it was done."""
        if not self._pools:
            self._pools = [
                states.new_zeros(self._depth, self.capacity, states.shape[1], states.shape[3])
                for states in (key_states, value_states)
            ]

    def views(self) -> list[torch.Tensor]:
        """Keys and values as they are divided now: [layers, slots, heads, columns, size]."""
        return [_divided(pool, self.slots, self.columns) for pool in self._pools]

    def divide(self, slots: int, columns: int, capacity: int, keep: tuple[int, int]) -> None:
        """So many slots of so many columns; `keep`: the slots and columns that are in use."""
        had, had_columns = self.slots, self.columns
        rows, width = min(keep[0], had, slots), min(keep[1], had_columns, columns)
        self.slots, self.columns = slots, columns
        larger = capacity > self.capacity
        self.capacity = max(capacity, self.capacity)
        for i, pool in enumerate(self._pools):
            new = pool.new_empty(self._depth, self.capacity, *pool.shape[2:]) if larger else pool
            for before, after in zip(_divided(pool, had, had_columns), _divided(new, slots, columns), strict=True):
                kept = before[:rows, :, :width].clone()  # layer by layer, as the two places overlap
                after.zero_()  # what a mask hides must still be a number
                after[:rows, :, :width] = kept
            self._pools[i] = new

    def move(self, source: int, target: int, columns: int) -> None:
        """Put the first columns of one slot in another's place."""
        for view in self.views():
            view[:, target, :, :columns] = view[:, source, :, :columns]

    def wipe(self, slot: int) -> None:
        """Zero a slot that may hold what is not a number: hidden or not, it would spread to the next tenant."""
        for view in self.views():
            view[:, slot].zero_()

    def take_prefix(self, slot: int, length: int) -> Prefix:
        """A copy of the first tokens of a slot, all layers in one: [layers, heads, length, size]."""
        keys, values = (view[:, slot, :, :length].clone() for view in self.views())
        return Prefix(length, [(keys, values)])

    def put_prefix(self, slot: int, prefix: Prefix) -> None:
        """Begin a slot with it."""
        for view, part in zip(self.views(), prefix.layers[0], strict=True):
            view[:, slot, :, : prefix.length] = part

    def bytes_per_token(self) -> int:
        """What one column of one slot takes in all layers; 0 before the first forward pass."""
        return sum(pool.shape[0] * pool.shape[2] * pool.shape[3] * pool.element_size() for pool in self._pools)


def _divided(pool: torch.Tensor, slots: int, columns: int) -> torch.Tensor:
    layers, _, heads, size = pool.shape
    used = pool.flatten(1)[:, : slots * columns * heads * size]
    return used.view(layers, slots, heads, columns, size)


AttentionInterface.register(NAME, static_attention)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
