"""Who runs next: newcomers as long as there is room; and who goes back to wait when the cache is full."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable

from batch.engines.torch.sequence import Sequence
from batch.items import ItemId

PREFILL_TOKENS = 4096  # most tokens, padding included, that one prefill runs over; a longer prompt runs alone
HEADROOM = 64  # columns that a newcomer and those beside it must have left to grow into

Rank = tuple[int, int, int]  # least first: highest priority, longest answer where that is wanted, first come


class Scheduler:
    """Holds waiting and running sequences.

    The KV cache is a rectangle, rows times the longest row; or `ragged`, as much as each row takes. `footprint`, where
    given, says how many columns a sequence takes at least now, without what it shares: then a newcomer is admitted
    while all fits `cache_tokens`, grown by a little, and `evict` puts rows back when it does not. Without it a newcomer
    is admitted when all fits even at the full length of every row. One row is always admitted.
    """

    def __init__(
        self,
        max_batch: int,
        cache_tokens: int,
        prefill_tokens: int = PREFILL_TOKENS,
        *,
        longest_first: bool = False,
        footprint: Callable[[Sequence], int] | None = None,
        ragged: bool = False,
    ) -> None:
        self.max_batch = max_batch
        self.cache_tokens = cache_tokens
        self.prefill_tokens = prefill_tokens
        self.running: list[Sequence] = []
        self.evicted = 0  # rows put back so far
        self._longest_first = longest_first
        self._footprint = footprint
        self._ragged = ragged
        self._waiting: list[tuple[Rank, Sequence]] = []  # a heap
        self._ranks: dict[Sequence, Rank] = {}
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self.running) + len(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait for its turn."""
        longest = -sequence.max_tokens if self._longest_first else 0
        self._ranks[sequence] = (-sequence.priority, longest, self._arrivals)
        heapq.heappush(self._waiting, (self._ranks[sequence], sequence))
        self._arrivals += 1

    def schedule(self) -> list[Sequence]:
        """Newcomers to prefill together, now running; empty means: decode those that run."""
        newcomers: list[Sequence] = []
        if not self._waiting or len(self.running) >= self.max_batch:
            return newcomers
        lengths = list(map(self._length, self.running))
        longest_prompt = 0
        while self._waiting and len(self.running) < self.max_batch:
            candidate = self._waiting[0][1]
            lengths.append(self._length(candidate))
            longest_prompt = max(longest_prompt, len(candidate.prompt))
            if self.running and self._takes(lengths) > self.cache_tokens:
                break
            if self._footprint is None and newcomers and (len(newcomers) + 1) * longest_prompt > self.prefill_tokens:
                break
            heapq.heappop(self._waiting)
            newcomers.append(candidate)
            self.running.append(candidate)
        return newcomers

    def evict(self) -> list[Sequence]:
        """Rows that no longer fit, the last in rank first; they wait again, and keep their tokens."""
        gone: list[Sequence] = []
        if self._footprint is None:
            return gone
        lengths = {sequence: self._footprint(sequence) + 1 for sequence in self.running}
        while len(lengths) > 1 and self._takes(lengths.values()) > self.cache_tokens:
            last = max(lengths, key=self._ranks.__getitem__)
            del lengths[last]
            heapq.heappush(self._waiting, (self._ranks[last], last))
            gone.append(last)
        if gone:
            self.running = list(lengths)
            self.evicted += len(gone)
        return gone

    def finish(self, sequences: Iterable[Sequence]) -> None:
        """Take sequences out of the batch."""
        gone = set(sequences)
        if gone:
            self.running = [s for s in self.running if s not in gone]
        for sequence in gone:
            del self._ranks[sequence]

    def cancel(self, item_id: ItemId) -> Sequence | None:
        """Forget a waiting sequence, or return the running one that has this id, which `finish` takes out."""
        for entry in self._waiting:
            if entry[1].id == item_id:
                del self._ranks[entry[1]]
        self._waiting = [entry for entry in self._waiting if entry[1].id != item_id]
        heapq.heapify(self._waiting)
        return next((s for s in self.running if s.id == item_id), None)

    def _takes(self, lengths: Collection[int]) -> int:
        return sum(lengths) if self._ragged else len(lengths) * max(lengths)

    def _length(self, sequence: Sequence) -> int:
        """Columns to reckon with when someone is let in."""
        if self._footprint is None:
            return sequence.most_tokens
        left = sequence.max_tokens - len(sequence.tokens)
        return self._footprint(sequence) + min(HEADROOM, left)
