"""One call of a hosted engine's `answer`: the items on their way, and what happens to them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from batch.engines.local.process import ChildProcess
from batch.engines.pull import Puller
from batch.items import BatchItem, Request, Timing


@dataclass(slots=True, eq=False)
class Flight:
    """An item on its way."""

    item: BatchItem[Request]
    pulled_ns: int
    sent_ns: int = 0
    deaths: int = 0  # of the engine, while it had this item


@dataclass(frozen=True, slots=True)
class Event:
    """An item was `pulled`, the source `ended` or `failed`, the child sent a `frame` or `died`, a `tick` of time."""

    what: str
    value: Any = None
    child: ChildProcess | None = None


@dataclass(slots=True)
class HostedRun:
    """One call of `answer`."""

    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    waiting: deque[Flight] = field(default_factory=deque)  # not with the child
    sent: dict[int, Flight] = field(default_factory=dict)  # with the child, by the number of the sending
    puller: Puller[Request] | None = None
    ended: bool = False
    restarts: int = 0  # since the last answer

    @property
    def done(self) -> bool:
        """Whether nothing is left to pull or to answer."""
        return self.ended and not self.waiting and not self.sent

    def open(self, items: AsyncIterator[BatchItem[Request]], room: Callable[[], int]) -> None:
        """Begin to pull, now that it is known how many items fit."""

        def took(item: BatchItem[Request]) -> None:
            self.events.put_nowait(Event("pulled", item))

        def over(error: Exception | None) -> None:
            self.events.put_nowait(Event("failed", error) if error else Event("ended"))

        self.puller = Puller(items, took, over, room)

    def release(self) -> None:
        """One item more may be pulled."""
        if self.puller is not None:
            self.puller.release()


def timing_of(times: Sequence[int | None] | None, flight: Flight, total_ns: int) -> Timing | None:
    """The child's times, [queue, first token] since the sending, as times since the item was pulled."""
    if times is None:
        return None
    before = flight.sent_ns - flight.pulled_ns
    queue, first = times
    return Timing(before + (queue or 0), None if first is None else before + first, total_ns)


async def tick(run: HostedRun, timeout: float) -> None:
    """Say now and then that time passes."""
    while True:
        await asyncio.sleep(min(1.0, timeout / 4))
        run.events.put_nowait(Event("tick"))
