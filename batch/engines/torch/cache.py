"""The KV cache that the rows of a batch share: one rectangle a layer, all rows ending at the same column."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

ROUND = 64  # columns are allocated in multiples of this


class Window:
    """The part of the cache a forward pass reads: rows [first, last) and columns [start, end).

    The newest `new` columns are the ones it writes. Every row's newest token is in the same column, its oldest wherever
    its length says: left padding, which models already know how to mask. That makes a step one slice write a layer.
    """

    def __init__(self) -> None:
        self.first = self.last = self.start = self.end = self.new = 0


class SharedLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer. Shapes: [rows, heads, columns, head size]."""

    is_sliding = False  # a sliding layer keeps all columns; its mask hides the old ones

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window = window
        self.rows = self.columns = 0  # what must be there at the next write
        self.indexer: torch.Tensor | None = None  # [rows, 1, columns, size], where the model has one

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate, zeroed: what a mask hides must still be a number."""
        self.keys, self.values = (
            states.new_zeros(self.rows, states.shape[1], self.columns, states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new columns of the window, and return all of it."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        w = self.window
        rows = slice(w.first, w.last)
        self.keys[rows, :, w.end - w.new : w.end] = key_states
        self.values[rows, :, w.end - w.new : w.end] = value_states
        return self.keys[rows, :, w.start : w.end], self.values[rows, :, w.start : w.end]

    def update_indexer(self, states: torch.Tensor) -> torch.Tensor:
        """The same for what DeepSeek's sparse attention picks columns by, [rows, columns, size]."""
        w = self.window
        if self.indexer is None:
            self.indexer = states.new_zeros(self.rows, 1, self.columns, states.shape[2])
        rows = slice(w.first, w.last)
        self.indexer[rows, 0, w.end - w.new : w.end] = states
        return self.indexer[rows, 0, w.start : w.end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns the model sees, and the first one's number."""
        return self.window.end - self.window.start, 0

    def get_seq_length(self) -> int:
        """Columns before the new ones."""
        return self.window.end - self.window.start - self.window.new

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1

    get_max_cache_shape = get_max_length  # its name in transformers 5.0

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Keys and values, once there are any, and what an indexer keeps."""
        found = (self.keys, self.values) if self.is_initialized else ()
        return found if self.indexer is None else (*found, self.indexer)


class SharedCache(Cache):  # type: ignore[misc]
    """All layers, and the moves that keep the rectangle dense."""

    def __init__(self) -> None:
        self.window = Window()
        self.rows = self.columns = 0
        # Not `super()`: who is a model's own cache too has its layers from here.
        Cache.__init__(self, layer_class_to_replicate=self._new_layer)

    def _new_layer(self) -> SharedLayer:
        layer = SharedLayer(self.window)
        layer.rows, layer.columns = self.rows, self.columns
        return layer

    def reserve(self, rows: int, columns: int) -> None:
        """Make room for that many rows and columns, keeping what is there."""
        if rows <= self.rows and columns <= self.columns:
            return
        self.rows, self.columns = max(rows, self.rows), max(-(-columns // ROUND) * ROUND, self.columns)
        for layer in self.layers:
            layer.rows, layer.columns = self.rows, self.columns
            old = layer.tensors()
            if layer.is_initialized:
                layer.lazy_initialization(layer.keys, layer.values)
            if layer.indexer is not None:
                layer.indexer = layer.indexer.new_zeros(self.rows, 1, self.columns, layer.indexer.shape[3])
            for new, kept in zip(layer.tensors(), old, strict=True):
                new[: kept.shape[0], :, : kept.shape[2]] = kept

    def shift(self, rows: int, start: int, end: int, to: int) -> None:
        """Move the columns [start, end) of the first `rows` rows so that they start at `to`."""
        for tensor in self._tensors():
            # A copy in between, since the two places may overlap.
            tensor[:rows, :, to : to + end - start] = tensor[:rows, :, start:end].clone()

    def copy_row(self, source: int, target: int, start: int, end: int) -> None:
        """Put one row in another's place."""
        for tensor in self._tensors():
            tensor[target, :, start:end] = tensor[source, :, start:end]

    def wipe_row(self, row: int) -> None:
        """Zero a row that may hold what is not a number: hidden or not, it would spread to the next tenant."""
        for tensor in self._tensors():
            tensor[row].zero_()

    def bytes_per_token(self) -> int:
        """What one column of one row takes in all layers; 0 before the first forward pass."""
        return sum(t.shape[1] * t.shape[3] * t.element_size() for t in self._tensors())

    def _tensors(self) -> list[torch.Tensor]:
        return [tensor for layer in self.layers for tensor in layer.tensors()]
