"""What a run gives its engine next: items without a result, then those whose next try is due."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from random import Random
from time import monotonic
from typing import NamedTuple

from batch.checkpoint import CheckpointStore
from batch.items import BatchItem, ItemId, Request
from batch.running.budget import Budget
from batch.running.policy import RateLimit, Taking

PAGE = 512
BREATH = 256  # items after which the event loop gets a turn, whatever the engine does
KEPT = 4096  # items in an engine's hands whose texts are kept; of more than that, only where they are

# Where an item is. The first three are what the store says; the map is one byte an item.
PENDING, DONE, WITH_PROVIDER, GIVEN, RETRYING = range(5)


class Given(NamedTuple):
    """An item in an engine's hands."""

    text: str | None  # None: as the store has it
    since: float  # monotonic seconds
    attempt: int
    reserved: Taking | None = None  # tokens, by the rate limit


_FIRST_TRY = Given(None, 0.0, 1)  # of an item of which no more is kept than that it was given
_given = partial(tuple.__new__, Given)  # of a tuple of all four; the class would be a call of Python's for each item


class Feed:
    """Gives out each item that is pending, at most `concurrency` at once, as fast as the rate limit allows.

    With a `concurrency` of None the engine alone says how many it takes. Where each item is stands in one byte of
    `places`, so that an engine may hold any number of them.

    All of it belongs to the run's event loop, except `concurrency`, `given` and the counts, which any thread may read.
    `held_up` says when answers wait for the disk; `on_begin` is called with the first item given, `on_enough` with the
    `enough`th, and `at_random` those are any of the items instead of the first; `awaits` says whether the engine stays
    for the answers of items that are with a provider; `on_broke` is called when the budget is used up.
    """

    def __init__(
        self,
        limit: RateLimit,
        concurrency: int | None,
        held_up: Callable[[], bool],
        on_begin: Callable[[], None],
        awaits: Callable[[], bool] = lambda: False,
        budget: Budget | None = None,
        on_broke: Callable[[], None] = lambda: None,
        enough: int | None = None,
        on_enough: Callable[[], None] = lambda: None,
        at_random: bool = False,
    ) -> None:
        self.concurrency = concurrency
        self.paused = False
        self.stopped = False
        self.given: dict[int, Given] = {}  # the first `KEPT` of those in the engine's hands
        self.in_hand = 0  # items in the engine's hands
        self.with_provider = 0
        self.duplicates = 0  # answers to items that had one
        self.strangers = 0  # answers to items that nobody was asked for
        self._places = bytearray()
        self._pending = 0  # counted along: counting a map of a million takes a millisecond
        self._attempts: dict[int, int] = {}  # of items that are not on their first try
        self._retries: list[tuple[float, int]] = []  # heap of (due, id)
        self._page: deque[tuple[int, Request]] = deque()
        self._position = 0  # before which nothing is pending, but for the page
        self._limit = limit
        self._limited = limit.active
        self._held_up = held_up
        self._on_begin = on_begin
        self._gave_out = 0
        self._enough, self._on_enough, self._at_random = enough, on_enough, at_random
        self._awaits = awaits
        self._budget = budget if budget is not None and budget.limit is not None else None
        self._on_broke = on_broke
        self._changed = asyncio.Event()
        self._waits = False  # for a change

    def open(self, store: CheckpointStore, places: bytearray) -> None:
        """The job's items, and where each of them is."""
        self._store, self._places = store, places
        self.with_provider = places.count(WITH_PROVIDER)
        self._pending = places.count(PENDING)
        if self._at_random and self._enough:
            there = [index for index, place in enumerate(places) if place == PENDING]
            # The same each time that so many are left of a job: what was seen once can be seen again.
            chosen = sorted(Random(len(places)).sample(there, min(self._enough, len(there))))
            self._page.extend(
                page for at in range(0, len(chosen), PAGE) for page in store.requests(chosen[at : at + PAGE])
            )

    def lift_limits(self) -> None:
        """The engine has its own."""
        self._limit, self._limited, self.concurrency = RateLimit(), False, None

    @property
    def retrying(self) -> int:
        """Items that wait for another try."""
        return len(self._retries)

    @property
    def pending(self) -> int:
        """Items that may still be given out before one comes back; 0 at the limit of concurrency."""
        return self._pending + len(self._retries) if self._room else 0

    @property
    def left(self) -> int:
        """Items without a result that are not with a provider."""
        return len(self._places) - self._places.count(DONE) - self.with_provider

    @property
    def _room(self) -> bool:
        return self.concurrency is None or self.in_hand < self.concurrency

    def wake(self) -> None:
        """Look again: something has changed."""
        if self._waits:
            self._changed.set()

    def request(self, index: int) -> Request:
        """An item as the store has it."""
        return self._store.requests([index])[0][1]

    def texts(self, ids: Sequence[int]) -> dict[int, str]:
        """The texts of items, as the store has them."""
        wanted = sorted(set(ids))
        pages = (wanted[at : at + PAGE] for at in range(0, len(wanted), PAGE))
        return {index: text for page in pages for index, text in self._store.texts(page).items()}

    # -- what comes back ----------------------------------------------------------------------------------------

    def place(self, item_id: ItemId) -> int | None:
        """Where an item is; None of an id that is none of the job's."""
        known = isinstance(item_id, int) and 0 <= item_id < len(self._places)
        return self._places[item_id] if known else None  # type: ignore[index]

    def take_back(self, item_id: ItemId, tokens: int) -> Given | None:
        """An item that was answered with so many tokens; None where no answer to it is awaited.

        It has its result now, unless `retry` says otherwise.
        """
        if type(item_id) is int and (held := self.given.pop(item_id, None)) is not None:  # as nearly all are
            self._places[item_id] = DONE
            self.in_hand -= 1
            if self._attempts:
                self._attempts.pop(item_id, None)
            if self._limited:
                self._limit.settle(held.reserved, tokens)
            if self._waits:
                self._changed.set()
            return held
        known = type(item_id) is int and 0 <= item_id < len(self._places)
        place = self._places[item_id] if known else self.place(item_id)  # type: ignore[index]
        if place == WITH_PROVIDER:
            self.with_provider -= 1
        elif place == GIVEN:
            self.in_hand -= 1
        else:
            if place in (DONE, RETRYING):
                self.duplicates += 1
            else:
                self.strangers += 1
            return None
        index = int(item_id)
        self._places[index] = DONE
        if self._waits:
            self._changed.set()
        return _given((None, monotonic(), self._attempts.pop(index, 1), None)) if self._attempts else _FIRST_TRY

    def retry(self, index: int, attempt: int, delay: float) -> None:
        """Give an item out once more, in `delay` seconds, as its `attempt`th try."""
        self._places[index] = RETRYING
        self._attempts[index] = attempt
        heapq.heappush(self._retries, (monotonic() + delay, index))
        self.wake()

    def hand_over(self, ids: Sequence[int]) -> None:
        """Items in the engine's hands are with a provider from now on."""
        places, given = self._places, self.given
        for index in ids:
            places[index] = WITH_PROVIDER
            if given:
                given.pop(index, None)
        self.in_hand -= len(ids)
        self.with_provider += len(ids)
        self.wake()

    def are_given(self, ids: Sequence[ItemId]) -> bool:
        """Whether all of them are in the engine's hands, each named once."""
        places = self._places
        there = (type(index) is int and 0 <= index < len(places) and places[index] == GIVEN for index in ids)
        return all(there) and len(set(ids)) == len(ids)

    def return_all(self, ids: Iterable[int]) -> list[int]:
        """Those of the items that are with a provider are pending again; returns them."""
        returned = [index for index in ids if self._places[index] == WITH_PROVIDER]
        for index in returned:
            self._places[index] = PENDING
        self.with_provider -= len(returned)
        self._pending += len(returned)
        self._position = min([self._position, *returned])
        self.wake()
        return returned

    # -- what is given out --------------------------------------------------------------------------------------

    async def items(self) -> AsyncIterator[BatchItem[Request]]:
        """The iterator an engine pulls from.

        Ends when every item has been answered or is with a provider that is not waited for, or with `stopped`.
        """
        held: tuple[int, Request] | None = None
        breath = BREATH
        behind = self._held_up()
        while not self.stopped:
            wait: float | None = None
            if not behind and not self.paused and (self.concurrency is None or self.in_hand < self.concurrency):
                if held is None:
                    held = (self._due_retry() if self._retries else None) or self._next_pending()
                if held is None:
                    if self._over:
                        return
                    wait = self._retries[0][0] - monotonic() if self._retries else None
                elif self._budget is not None and not self._budget.affords(held[1]):
                    if self._budget.over:
                        self._on_broke()
                        return
                elif not self._limited or (wait := self._limit.take(len(held[1].text))) <= 0:
                    yield self._give(*held)
                    held = None
                    breath -= 1
                    if not breath:  # an engine that answers at once would never let the loop breathe
                        breath = BREATH
                        await asyncio.sleep(0)
                        behind = self._held_up()
                    continue
            self._changed.clear()  # the loop had no turn since the looking: what changes from now on wakes it
            self._waits = True
            try:
                await asyncio.wait_for(self._changed.wait(), wait)
            except TimeoutError:
                pass
            finally:
                self._waits = False
            behind = self._held_up()

    @property
    def _over(self) -> bool:
        """Whether nothing is pending (the caller has looked) and nothing can come back to be given out again."""
        return not self.in_hand and not self._retries and not (self.with_provider and self._awaits())

    def _give(self, index: int, request: Request) -> BatchItem[Request]:
        attempt = self._attempts.get(index, 1) if self._attempts else 1
        self._places[index] = GIVEN
        self._pending -= 1
        self.in_hand += 1
        given = self.given
        if len(given) < KEPT or self._limited:
            reserved = self._limit.reserved if self._limited else None
            given[index] = _given((request.text, monotonic(), attempt, reserved))
        if self._budget is not None:
            self._budget.reserve(index, request)
        self._gave_out = count = self._gave_out + 1
        if count == 1:
            self._on_begin()
        if count == self._enough:
            self._on_enough()
        return BatchItem(index, request, 0, attempt, request.model)

    def _due_retry(self) -> tuple[int, Request] | None:
        if self._retries and self._retries[0][0] <= monotonic():
            _, index = heapq.heappop(self._retries)
            self._places[index] = PENDING  # until it is given, which a limit may put off
            self._pending += 1
            self._position = min(self._position, index)
            return index, self.request(index)
        return None

    def _next_pending(self) -> tuple[int, Request] | None:
        """The next item without a result, in input order, read a page at a time."""
        page, places = self._page, self._places
        while True:
            while page:
                found = page.popleft()
                if places[found[0]] == PENDING:
                    return found
            ids: list[int] = []
            position = self._position
            while len(ids) < PAGE and (position := places.find(PENDING, position)) >= 0:
                ids.append(position)
                position += 1
            if not ids:
                return None
            self._position = ids[-1] + 1
            page.extend(self._store.requests(ids))
