"""The packed step with torch's own attention, over a slot of the cache for each row."""

from __future__ import annotations

from typing import Any

import torch

from batch.engines.torch.attention import CALL_BYTES, Plan, group_slots
from batch.engines.torch.packed import STEP_TOKENS, PackedRunner, before, decodes, unshared
from batch.engines.torch.segments import Segment, Shared
from batch.engines.torch.slots import Prefix, SlotCache, cache_for


class PlainPackedRunner(PackedRunner):
    """Neighbouring rows that decode are read together, a prompt by itself, and what rows share once for all of them."""

    name = "packed"

    def __init__(
        self,
        model: Any,
        max_batch: int,
        *,
        share: bool = True,
        step_tokens: int = STEP_TOKENS,
        cache_dtype: torch.dtype | None = None,
    ) -> None:
        cache = cache_for(model, SlotCache)(cache_dtype, max_batch)
        super().__init__(model, cache, share=share, step_tokens=step_tokens)

    def _plan(self, parts: list[tuple[int, int]]) -> Plan:
        segments = self._decode_segments([i for i, _ in parts if decodes(self.rows[i])])  # they come first
        shared: dict[Prefix, Shared] = {}
        at = 0
        for i, count in parts:
            row = self.rows[i]
            if not decodes(row):
                end = unshared(row, row.filled + count)
                segments.append(Segment(at, at + count, i, [end], decode=False, width=end, before=[before(row)]))
            if row.cache is not None:
                own = shared.setdefault(row.cache, Shared(row.cache, [], []))
                own.tokens += range(at, at + count)
                own.positions += range(row.filled, row.filled + count)
            at += count
        return Plan(self._cache, segments, list(shared.values()))

    def _plan_alone(self, row: int, first: int, count: int) -> Plan:
        end = first + count
        return Plan(self._cache, [Segment(0, count, row, [end], decode=False, width=end, before=[0])], [])

    def _decode_segments(self, slots: list[int]) -> list[Segment]:
        lengths = [unshared(self.rows[i], self.rows[i].filled + 1) for i in slots]
        # Products of bf16 copy what is not in one piece, so they read whole slots.
        whole = self._cache.dtype is not None
        call_cost = CALL_BYTES * len(self._cache.layers) / max(self._cache.bytes_per_token(), 1)
        if whole:
            call_cost = float("inf")
        return [
            Segment(
                first,
                last,
                slots[first],
                lengths[first:last],
                decode=True,
                width=self._cache.columns if whole else max(lengths[first:last]),
                before=[before(self.rows[i]) for i in slots[first:last]],
            )
            for first, last in group_slots(slots, lengths, call_cost)
        ]
