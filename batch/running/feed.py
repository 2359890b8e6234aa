"""What a run gives its engine next: items without a result, then those whose next try is due."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from batch.checkpoint import CheckpointStore
from batch.items import BatchItem, ItemId, Request
from batch.running.policy import RateLimit

PAGE = 512
BREATH = 64  # items after which the event loop gets a turn, whatever the engine does


@dataclass(slots=True)
class Given:
    """An item in an engine's hands."""

    request: Request
    since: float  # monotonic seconds
    attempt: int
    reserved: float  # tokens, by the rate limit


class Feed:
    """Gives out each item of `done` that is 0, at most `concurrency` at once, as fast as the rate limit allows.

    With a `concurrency` of None the engine alone says how many it takes.

    All of it belongs to the run's event loop, except `concurrency` and `given`, which any thread may read. `held_up`
    says when answers wait for the disk; `on_give` is called with each item given.
    """

    def __init__(
        self, limit: RateLimit, concurrency: int | None, held_up: Callable[[], bool], on_give: Callable[[], None]
    ) -> None:
        self.concurrency = concurrency
        self.paused = False
        self.stopped = False
        self.given: dict[int, Given] = {}
        self._retries: list[tuple[float, int, Request, int]] = []  # heap of (due, id, request, attempt)
        self._limit = limit
        self._held_up = held_up
        self._on_give = on_give
        self._changed = asyncio.Event()

    @property
    def retrying(self) -> int:
        """Items that wait for another try."""
        return len(self._retries)

    def wake(self) -> None:
        """Look again: something has changed."""
        self._changed.set()

    def take_back(self, item_id: ItemId, tokens: int) -> Given | None:
        """An item that was answered with so many tokens; None if it was not given out, or is back already."""
        given = self.given.pop(item_id, None) if isinstance(item_id, int) else None
        if given is not None:
            self._limit.settle(given.reserved, tokens)
            self.wake()
        return given

    def again(self, index: int, given: Given, delay: float) -> None:
        """Give an item out once more, in `delay` seconds."""
        heapq.heappush(self._retries, (time.monotonic() + delay, index, given.request, given.attempt + 1))

    async def items(self, store: CheckpointStore, done: bytearray) -> AsyncIterator[BatchItem[Request]]:
        """The iterator an engine pulls from; ends when every item has been answered, or with `stopped`."""
        pending = _pending(store, done)
        held: tuple[int, Request, int] | None = None
        count = 0
        while not self.stopped:
            wait: float | None = None
            room = self.concurrency is None or len(self.given) < self.concurrency
            if room and not self.paused and not self._held_up():
                held = held or self._due_retry() or next(pending, None)
                if held is None and not self.given and not self._retries:
                    return
                if held is None:
                    wait = self._retries[0][0] - time.monotonic() if self._retries else None
                elif not self._limit.active or (wait := self._limit.take(len(held[1].text))) <= 0:
                    index, request, attempt = held
                    held = None
                    self.given[index] = Given(request, time.monotonic(), attempt, self._limit.reserved)
                    self._on_give()
                    yield BatchItem(index, request, attempt=attempt)
                    count += 1
                    if count % BREATH == 0:  # an engine that answers at once would never let the loop breathe
                        await asyncio.sleep(0)
                    continue
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)

    def _due_retry(self) -> tuple[int, Request, int] | None:
        if self._retries and self._retries[0][0] <= time.monotonic():
            _, index, request, attempt = heapq.heappop(self._retries)
            return index, request, attempt
        return None


def _pending(store: CheckpointStore, done: bytearray) -> Iterator[tuple[int, Request, int]]:
    """Items without a result, in input order, read a page at a time; each is on its first attempt."""
    position = 0
    while position >= 0:
        ids: list[int] = []
        while len(ids) < PAGE and (position := done.find(0, position)) >= 0:
            ids.append(position)
            position += 1
        for index, request in store.requests(ids):
            yield index, request, 1
