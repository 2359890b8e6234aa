"""A provider's batch API as an engine: items go into batches, their answers come from any batch, hours later.

A batch is written ahead: that it is meant, its uploaded file, that its creation begins, its name there; each is on the
disk before the next. A creation is never tried twice: one whose answer was lost is looked for, and where it cannot be
told whether it was made, a person is asked (`ai-router reconcile`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

from batch.engines.base import Engine
from batch.engines.desk import Desk
from batch.engines.provider.base import Page, Settings
from batch.engines.provider.inbox import Inbox
from batch.engines.provider.ledger import Ledger, Line
from batch.engines.provider.looks import Looks
from batch.engines.provider.orders import Orders
from batch.engines.provider.rescue import Rescue
from batch.errors import FatalError
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions


class ProviderEngine:
    """Answers items through a provider's batches.

    Items of any number are held as ids; their requests go into a file. With `lane` "auto" what has no answer near the
    `deadline` is cancelled and asked for at once, at the standard price, through `rescue`; "now" asks all so.
    """

    takes_all = True  # the run's limits are for single requests

    def __init__(
        self,
        settings: Settings,
        open_page: Callable[[], Page],
        sampling: SamplingOptions | None = None,
        *,
        rescue: Callable[[], Engine[Request, Answer]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.name = settings.model
        self.holds_back = False  # whether it ended with items that a quota has no room for yet
        self._line = Line(settings, open_page)
        self._make_rescue, self._clock = rescue, clock
        self._sampling = sampling or SamplingOptions()
        self._left_out: Counter[str] = Counter()
        self._ledger: Ledger | None = None
        self._orders: Orders | None = None
        self._looks: Looks | None = None
        self._rescuing: Rescue | None = None

    # -- what a person sees ---------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """How many batches there are, how far, how old, until when, and what comes next."""
        ledger, orders, doing = self._ledger, self._orders, self._line.doing
        parts = [doing] if doing else []
        if ledger is not None:
            parts += ledger.words
            if (soon := ledger.next_look) is not None and not doing:
                parts.append(f"looks again in {soon:.0f} s")
        if orders is not None and orders.held:
            parts.append(f"waits for room: {orders.why_held}")
        if self._rescuing is not None:
            parts.append(f"at once: {self._rescuing.status or 'the rest'}")
        return ", ".join(parts)

    @property
    def strangers(self) -> int:
        """Answers to nothing that was asked."""
        return self._looks.strangers if self._looks is not None else 0

    @property
    def duplicates(self) -> int:
        """Second answers."""
        return self._looks.duplicates if self._looks is not None else 0

    @property
    def about(self) -> Mapping[str, Any]:
        """What it is, what was not sent, and answers that nobody asked for."""
        about: dict[str, Any] = {"engine": "provider", "place": f"{self.settings.provider}, batches"}
        if self._left_out:
            about["not sent"] = ", ".join(sorted(self._left_out))
        if self.strangers:
            about["answers to no request"] = self.strangers
        if self.duplicates:
            about["second answers"] = self.duplicates
        return about

    def partial_texts(self) -> Mapping[ItemId, str]:
        """Of what is asked at once."""
        return self._rescuing.partial_texts() if self._rescuing is not None else {}

    async def close(self) -> None:
        """Free the client."""
        await self._line.close()

    # -- the loop -------------------------------------------------------------------------------------------------

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        """Yield one response for every item pulled, in this process or a later one."""
        self.holds_back = False
        ledger = self._ledger = Ledger(self.settings, desk, self._clock)
        orders = self._orders = Orders(self._line, ledger, self._sampling, self._left_out)
        looks = self._looks = Looks(self._line, ledger, orders)
        wake = asyncio.Event()
        if self.settings.lane == "now":
            self._begin_rescue(ledger, wake)
        async for responses in looks.at_all():
            for response in responses:
                yield response
        if looks.given_up:
            raise FatalError(f"{looks.given_up} was cancelled; what has no answer is handed over again on resuming")
        inbox = Inbox(items, wake)
        try:
            while not self._is_over(inbox, ledger, orders):
                wake.clear()
                for refused in await orders.fill(inbox, self._rescuing):
                    yield refused
                for answered in self._rescued():
                    yield answered
                if self._is_late(ledger):
                    self._begin_rescue(ledger, wake)
                async for responses in looks.at_due(cancel=self._rescues_late):
                    for response in responses:
                        yield response
                if self._is_over(inbox, ledger, orders):
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), self._rest())
        finally:
            await inbox.stop()
            orders.drop()
            await self._end_rescue()

    @property
    def _rescues_late(self) -> bool:
        return self._rescuing is not None and self.settings.lane == "auto"

    async def _end_rescue(self) -> None:
        rescuing, self._rescuing = self._rescuing, None
        if rescuing is not None:
            await rescuing.stop()
            await rescuing.close()

    def _rescued(self) -> list[BatchResponse[Answer]]:
        return self._rescuing.take() if self._rescuing is not None else []

    def _is_over(self, inbox: Inbox, ledger: Ledger, orders: Orders) -> bool:
        desk = ledger.desk
        if self._rescuing is not None and self._rescuing.in_flight:
            return False
        if desk.stopping:
            return True
        if not inbox.ended and not (orders.held and not desk.waits) and not _stuck(inbox, ledger, orders):
            return False
        if inbox.taken or orders.shard is not None:
            if not orders.held or desk.waits:
                return False
        elif desk.waits and ledger.clear:
            return False
        self._leave_rest(inbox, ledger, orders)
        return True

    def _leave_rest(self, inbox: Inbox, ledger: Ledger, orders: Orders) -> None:
        """What a quota has no room for is handed over by a later run; raises FatalError where it has none at all."""
        if not (inbox.taken or orders.shard is not None or ledger.desk.pending):
            return
        if not len(ledger):
            why = orders.why_held or "no reason given"
            raise FatalError(f"{self.settings.provider} takes nothing now: {why}")
        self.holds_back = True

    def _rest(self) -> float:
        assert self._ledger is not None and self._orders is not None
        waits = [wait for wait in (self._ledger.next_look, self._orders.next_try) if wait is not None]
        return max(0.005, min([1.0, *waits]))

    # -- the rest at once -----------------------------------------------------------------------------------------

    def _is_late(self, ledger: Ledger) -> bool:
        settings = self.settings
        if settings.lane != "auto" or settings.deadline is None or self._rescuing is not None or ledger.began is None:
            return False
        if ledger.desk.stopping:
            return False
        return self._clock() >= ledger.began + settings.deadline - min(3600.0, settings.deadline / 4)

    def _begin_rescue(self, ledger: Ledger, wake: asyncio.Event) -> None:
        if self._rescuing is not None and self._rescuing.alive:
            return
        if self._make_rescue is None:
            raise FatalError(f"{self.settings.provider}: nothing answers at once there; leave --lane at batch")
        self._rescuing = Rescue(self._make_rescue(), ledger.desk, wake)
        for watched in ledger:
            watched.due = 0.0


def _stuck(inbox: Inbox, ledger: Ledger, orders: Orders) -> bool:
    """Whether all that is left waits for a person."""
    left = inbox.taken or orders.shard is not None or ledger.desk.pending
    return bool(len(ledger)) and not left and not ledger.clear
