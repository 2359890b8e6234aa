"""Who runs next: newcomers first, as long as there is room, then everyone by one token."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from batch.engines.torch.sequence import Sequence
from batch.items import ItemId

PREFILL_TOKENS = 4096  # most tokens, padding included, that one prefill runs over; a longer prompt runs alone


class Scheduler:
    """Holds waiting and running sequences.

    The KV cache is a rectangle, rows times the longest row, so a newcomer is admitted when the rectangle with it, grown
    to the full length of every row, still fits `cache_tokens`. One row is always admitted.
    """

    def __init__(
        self, max_batch: int, cache_tokens: int, prefill_tokens: int = PREFILL_TOKENS, *, longest_first: bool = False
    ) -> None:
        self.max_batch = max_batch
        self.cache_tokens = cache_tokens
        self.prefill_tokens = prefill_tokens
        self.running: list[Sequence] = []
        self._longest_first = longest_first
        # A heap: highest priority, then longest answer where that is wanted, then first come.
        self._waiting: list[tuple[int, int, int, Sequence]] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self.running) + len(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait for its turn."""
        rank = -sequence.max_tokens if self._longest_first else 0
        heapq.heappush(self._waiting, (-sequence.priority, rank, self._arrivals, sequence))
        self._arrivals += 1

    def schedule(self) -> list[Sequence]:
        """Newcomers to prefill together, now running; empty means: decode those that run."""
        newcomers: list[Sequence] = []
        longest = max((s.most_tokens for s in self.running), default=0)
        longest_prompt = 0
        while self._waiting and len(self.running) < self.max_batch:
            candidate = self._waiting[0][3]
            longest = max(longest, candidate.most_tokens)
            longest_prompt = max(longest_prompt, len(candidate.prompt))
            if self.running and (len(self.running) + 1) * longest > self.cache_tokens:
                break
            if newcomers and (len(newcomers) + 1) * longest_prompt > self.prefill_tokens:
                break
            heapq.heappop(self._waiting)
            newcomers.append(candidate)
            self.running.append(candidate)
        return newcomers

    def finish(self, sequences: Iterable[Sequence]) -> None:
        """Take sequences out of the batch."""
        gone = set(sequences)
        self.running = [s for s in self.running if s not in gone]

    def cancel(self, item_id: ItemId) -> Sequence | None:
        """Forget a waiting sequence, or return the running one that has this id, which `finish` takes out."""
        self._waiting = [entry for entry in self._waiting if entry[3].id != item_id]
        heapq.heapify(self._waiting)
        return next((s for s in self.running if s.id == item_id), None)
