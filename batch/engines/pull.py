"""The one way in which an engine pulls: in a task of its own, as answers must not wait for a next item."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

from batch.items import BatchItem

Q = TypeVar("Q")
R = TypeVar("R")


class Puller(Generic[Q]):
    """Takes items as long as there is room, from its making until `stop`; to be made and used in one event loop.

    `took` is called with each item. `over` is called once, with None at the end of the items or with what the iterator
    raised, which the engine raises again where its responses are read. `room` is how many items are taken before the
    first `release`; None: as many as there are. A `room` that is asked for may change: it is looked at with each
    `release`.
    """

    def __init__(
        self,
        items: AsyncIterator[BatchItem[Q]],
        took: Callable[[BatchItem[Q]], None],
        over: Callable[[Exception | None], None],
        room: int | Callable[[], int] | None = None,
    ) -> None:
        self._limit = room if callable(room) else None
        self._granted = room() if callable(room) else room  # items in hand, and those that may be taken at once
        self._free = self._granted
        self._released = asyncio.Event()
        self._took, self._over = took, over
        self._task = asyncio.create_task(self._pull(items))

    def release(self, count: int = 1) -> None:
        """So many items are out of hand again, for which others may be taken."""
        if self._free is None or self._granted is None:
            return
        if self._limit is not None:
            self._granted -= count
            count = max(0, self._limit() - self._granted)
            self._granted += count
        if not self._free and count:
            self._released.set()
        self._free += count

    def cancel(self) -> None:
        """Take nothing more; an item that is on its way is given up."""
        self._task.cancel()

    async def stop(self) -> None:
        """As `cancel`; when it returns the iterator is in nobody's hands any more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _pull(self, items: AsyncIterator[BatchItem[Q]]) -> None:
        try:
            while True:
                if self._free is not None:
                    while not self._free:
                        self._released.clear()
                        await self._released.wait()
                    self._free -= 1
                self._took(await anext(items))
        except StopAsyncIteration:
            self._over(None)
        except Exception as error:
            self._over(error)


class _Crew(Generic[Q, R]):
    """Workers that take items in turn and stay for as many as come, at most `room` of them.

    A task for each item would cost more than the rest of a quick one.
    """

    def __init__(
        self,
        items: AsyncIterator[BatchItem[Q]],
        work: Callable[[BatchItem[Q]], Awaitable[R]],
        room: int | Callable[[], int] | None,
    ) -> None:
        self.results: asyncio.Queue[R | Exception | None] = asyncio.Queue()  # None: there will be no more
        self._items, self._work, self._room = items, work, room
        self._workers: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()  # an iterator is asked by one at a time
        self._ended = False
        self._hire()

    async def dismiss(self) -> None:
        """Give up what is in hand; when it returns the iterator is in nobody's hands any more."""
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    @property
    def _most(self) -> float:
        room = self._room() if callable(self._room) else self._room
        return float("inf") if room is None else max(1, room)

    def _hire(self) -> None:
        self._workers.add(asyncio.create_task(self._labour()))

    async def _labour(self) -> None:
        me = asyncio.current_task()
        assert me is not None
        try:
            while not self._ended and len(self._workers) <= self._most:
                async with self._turn:
                    item = None if self._ended else await anext(self._items, None)
                if item is None:
                    self._ended = True
                    return
                if len(self._workers) < self._most:
                    self._hire()
                self.results.put_nowait(await self._work(item))
        except Exception as error:
            self.results.put_nowait(error)
        finally:  # at once, so that no more leave than are too many
            self._workers.discard(me)
            if not self._workers:
                self.results.put_nowait(None)


async def side_by_side(
    items: AsyncIterator[BatchItem[Q]],
    work: Callable[[BatchItem[Q]], Awaitable[R]],
    room: int | Callable[[], int] | None = None,
) -> AsyncIterator[R]:
    """What `work` makes of each item, at most `room` at once, in the order in which it is ready.

    An exception of `work`, or of the items, ends it all and is raised here.
    """
    crew = _Crew(items, work, room)
    try:
        while (result := await crew.results.get()) is not None:
            if isinstance(result, Exception):
                raise result
            yield result
    finally:
        await crew.dismiss()
