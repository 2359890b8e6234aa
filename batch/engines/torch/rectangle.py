"""Runs all rows as one padded rectangle, over a cache that they share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from batch.engines.torch.cache import SharedCache
from batch.engines.torch.sequence import Sequence
from batch.engines.torch.turns import InTurns, forward_options


class BatchRunner(InTurns):
    """All rows in one forward pass, over a cache they share."""

    name = "rectangle"

    def __init__(self, model: Any, max_batch: int) -> None:
        self.rows: list[Sequence] = []
        self._model = model
        self._max_batch = max_batch
        self._cache = SharedCache()
        self._end = 0  # column after the newest tokens
        self._options = forward_options(model)

    @property
    def bytes_per_token(self) -> int:
        """Of cache, measured; 0 before the first pass."""
        return self._cache.bytes_per_token()

    def prefill(self, sequences: list[Sequence]) -> torch.Tensor:
        """Take sequences in, left-padded to the longest, as new rows that end where the others do."""
        longest = max(len(s.prompt) for s in sequences)
        self._reserve(len(sequences), longest)
        first = len(self.rows)
        self.rows += sequences
        # [rows, longest]
        ids = torch.tensor([[0] * (longest - len(s.prompt)) + s.prompt for s in sequences])
        return self._forward(ids, first=first, start=self._end - longest, lengths=[len(s.prompt) for s in sequences])

    def decode(self) -> torch.Tensor:
        """One more column: the newest token of every row."""
        self._reserve(0, 0, columns=1)
        self._end += 1
        lengths = [s.cached + 1 for s in self.rows]
        ids = torch.tensor([[s.last_token] for s in self.rows])  # [rows, 1]
        return self._forward(ids, first=0, start=self._end - max(lengths), lengths=lengths)

    def release(self, sequences: Iterable[Sequence], *, broken: bool = False) -> None:
        """Give up rows; the last row moves into each gap, so that rows stay dense."""
        start = self._end - max((s.cached for s in self.rows), default=0)
        for sequence in sequences:
            row, last = self.rows.index(sequence), len(self.rows) - 1
            if broken:
                self._cache.wipe_row(row)
            if row != last:
                self._cache.copy_row(last, row, start, self._end)
                self.rows[row] = self.rows[last]
            self.rows.pop()
        if not self.rows:
            self._end = 0

    def _forward(self, ids: torch.Tensor, *, first: int, start: int, lengths: list[int]) -> torch.Tensor:
        """The last position's logits. ids: [rows, new]; lengths: tokens of each row, the new ones included."""
        window = self._cache.window
        window.first, window.last = first, first + ids.shape[0]
        window.start, window.end, window.new = start, self._end, ids.shape[1]
        width = self._end - start
        columns = torch.arange(width)
        position = columns - (width - torch.tensor(lengths).unsqueeze(1))  # [rows, width]; below 0 is padding
        device = self._model.device
        options = dict(self._options)
        if options.pop("position_ids", False):
            options["position_ids"] = position[:, -ids.shape[1] :].clamp(min=0).to(device)
        out = self._model(
            input_ids=ids.to(device),
            attention_mask=(position >= 0).long().to(device),
            past_key_values=self._cache,
            use_cache=True,
            **options,
        )
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    def _reserve(self, rows: int, longest: int, columns: int = 0) -> None:
        """Room for more rows, for prompts as long as the window's columns, and for more columns at its end."""
        start = self._end - max((s.cached for s in self.rows), default=0)
        width, held = self._end - start, len(self.rows)
        needed = max(width, longest) + columns
        if held + rows > self._cache.rows:
            self._cache.reserve(max(held + rows, min(2 * self._cache.rows, self._max_batch)), needed)
        if self._end + columns > self._cache.columns or self._end < longest:
            # The window leaves its place. A quarter of free columns after it makes that rare.
            self._cache.reserve(0, needed + max(needed // 4, 64))
            end = max(width, longest)
            if held and end != self._end:
                self._cache.shift(held, start, self._end, to=end - width)
            self._end = end
