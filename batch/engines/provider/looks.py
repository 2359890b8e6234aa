"""Looks at batches that are with a provider: how they stand, what became of those nobody knows, and their answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

from batch.engines.provider.base import Found, Lookup, Remote, Result
from batch.engines.provider.faults import Lost, Refused
from batch.engines.provider.ledger import Ledger, Line, Watched
from batch.engines.provider.orders import CREATING, Orders
from batch.engines.provider.reading import Costs, Reading
from batch.errors import ErrorClass, FatalError
from batch.items import Answer, BatchResponse

CHUNK = 1024  # results read at a time
YOUNG = 600.0  # seconds within which a batch that is not there may still appear
EMPTY_LOOKS = 20  # looks at a batch that is over without any result, before a person is asked
UNREADABLE_LOOKS = 3  # the same at results of which lines cannot be read
# Words of a batch refused for want of room; one refused for want of money says none of them.
NO_ROOM = ("token_limit", "enqueued", "rate_limit", "rate limit", "too many", "resource_exhausted")

Responses = list[BatchResponse[Answer]]  # by the chunk: each generator on the way costs its turn


class Looks:
    """What this process sees of the batches in a ledger."""

    def __init__(self, line: Line, ledger: Ledger, orders: Orders) -> None:
        self.strangers = self.duplicates = 0
        self.given_up = ""  # a batch that a person has cancelled
        self._line, self._ledger, self._orders = line, ledger, orders

    async def at_all(self) -> AsyncIterator[Responses]:
        """Look at every batch once."""
        for watched in self._ledger:
            async for responses in self._look(watched):
                yield responses

    async def at_due(self, *, cancel: bool) -> AsyncIterator[Responses]:
        """Look at those whose time has come; `cancel` them first, so that the rest of them can be asked elsewhere."""
        for watched in self._ledger:
            if watched.unclear or watched.due > time.monotonic() or self._ledger.desk.stopping:
                continue
            if cancel:
                await self._cancel(watched)
            async for responses in self._look(watched):
                yield responses

    async def _look(self, watched: Watched) -> AsyncIterator[Responses]:
        self._ledger.later(watched)
        try:
            if watched.remote_id is None and not await self._adopted(watched):
                return
            assert watched.remote_id is not None
            remote_id = watched.remote_id
            remote = await self._line.call(lambda page: page.check(remote_id))
        except Lost as lost:
            watched.word = str(lost)
            return
        except Refused as refusal:
            await self._refused(watched, refusal)
            return
        watched.word, watched.done = remote.word, remote.done
        if not remote.over:
            await self._ledger.note_state(watched, remote)
            return
        async for responses in self._read(watched, remote):
            yield responses

    async def _refused(self, watched: Watched, refusal: Refused) -> None:
        if refusal.error.status in (404, 410):
            if self._ledger.clock() - watched.details.get("at", 0.0) > YOUNG:
                provider = self._line.settings.provider
                await self._ledger.ask(watched, f"{provider} does not know batch {watched.remote_id} any more")
            return
        if refusal.failure.error_class is ErrorClass.FATAL:
            raise FatalError(refusal.failure.message) from None
        watched.word = refusal.failure.message

    async def _adopted(self, watched: Watched) -> bool:
        """Find the batch of an intent; without one it was never made, and its items are pending again."""
        details, ledger = watched.details, self._ledger
        if details.get("step") != CREATING:
            await ledger.give_up(watched, "never ordered")
            return False
        known = frozenset(w.remote_id for w in ledger if w.remote_id)
        since = float(details.get("creating", 0.0))
        lookup = Lookup(watched.key, details.get("file"), since, watched.count, known)
        try:
            found: Found = await self._line.call(lambda page: page.find(lookup))
        except Refused as refusal:
            if refusal.error.status not in (404, 405):
                raise
            found = Found(sure=False)  # there is no list
        if found.remote is not None:
            await ledger.made(watched, found.remote)
            return True
        if ledger.clock() - since < self._line.settings.grace:
            return False  # it may be on its way
        if found.sure:
            await ledger.give_up(watched, "never made")
        else:
            names = ", ".join(found.maybe[:5]) or "one that cannot be listed"
            await ledger.ask(watched, f"its order was not answered; it may be {names}", maybe=list(found.maybe))
        return False

    async def _read(self, watched: Watched, remote: Remote) -> AsyncIterator[Responses]:
        """Every answer of a batch that is over; then it is settled."""
        ledger = self._ledger
        if not (remote.results or remote.inline) and not remote.untried:
            await self._not_yet(watched, EMPTY_LOOKS, f"batch {remote.id} is over ({remote.word}) and has no results")
            return
        reading = Reading(watched.key, ledger.desk.submission_ids(watched.key))
        costs: Costs = {}
        self._line.doing = f"reading the answers of {remote.id}"
        try:
            results = self._line.page.results(remote)
            while chunk := await self._line.call(lambda page: _some(results)):
                yield reading.responses(chunk, self._line.settings, costs)
        except Lost as lost:
            watched.word = str(lost)  # what was read is kept; the rest is read at the next look
            return
        except Refused as refusal:
            if refusal.failure.error_class is ErrorClass.FATAL and refusal.error.status not in (404, 410):
                raise FatalError(refusal.failure.message) from None
            if refusal.error.status in (404, 410):
                await ledger.ask(watched, f"the results of batch {remote.id} are gone: {refusal.error.message}")
            return
        finally:
            self._line.doing = ""
        if reading.missing and reading.unreadable:  # they were paid for: another look may find them whole
            lines = f"{reading.unreadable:,} line{'s' * (reading.unreadable != 1)}"
            why = f"{lines} of the results of batch {remote.id} cannot be read"
            await self._not_yet(watched, UNREADABLE_LOOKS, why)
            return
        if not (reading.seen or reading.untried or remote.untried):
            await self._not_yet(watched, EMPTY_LOOKS, f"batch {remote.id} is over ({remote.word}), its results empty")
            return
        self.strangers += reading.strangers
        self.duplicates += reading.duplicates
        untried = bool(reading.missing and (remote.untried or reading.untried))
        await ledger.close(watched, {"ended": remote.word, **reading.report}, untried=untried)
        self._orders.has_room()
        if watched.details.get("cancelled") and reading.missing:
            self.given_up = f"batch {remote.id}"
        self._refused_batch(remote, reading)

    async def _not_yet(self, watched: Watched, most: int, why: str) -> None:
        """It is over, and its answers are not all there: they may come late; after so many looks a person is asked."""
        looks = int(watched.details.get("empty", 0)) + 1
        await self._ledger.note(watched, {"empty": looks})
        if looks >= most:
            await self._ledger.ask(watched, why)

    def _refused_batch(self, remote: Remote, reading: Reading) -> None:
        """What a batch that was refused as a whole means for the next ones."""
        if remote.word.lower() != "failed" or reading.seen:
            return
        if any(word in f"{remote.code} {remote.error}".lower() for word in NO_ROOM):
            self._orders.wait_for_room(remote.error or remote.code, None)
            return
        why = remote.error or remote.code or "no reason given"
        raise FatalError(f"{self._line.settings.provider} refused the batch: {why}")

    async def _cancel(self, watched: Watched) -> None:
        remote_id = watched.remote_id
        if watched.cancelled or remote_id is None or not self._line.page.cancels:
            return
        with suppress(Lost, Refused):  # it is over already, or is cancelled at the next look
            await self._line.call(lambda page: page.cancel(remote_id))
            watched.cancelled = True
            watched.pause = 0.0


def _some(results: Iterator[Result]) -> list[Result]:
    chunk = []
    for result in results:
        chunk.append(result)
        if len(chunk) >= CHUNK:
            break
    return chunk
