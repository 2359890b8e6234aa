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
        self._slots = None if self._granted is None else asyncio.Semaphore(self._granted)
        self._took, self._over = took, over
        self._task = asyncio.create_task(self._pull(items))

    def release(self, count: int = 1) -> None:
        """So many items are out of hand again, for which others may be taken."""
        if self._slots is None or self._granted is None:
            return
        if self._limit is not None:
            self._granted -= count
            count = max(0, self._limit() - self._granted)
            self._granted += count
        for _ in range(count):
            self._slots.release()

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
                if self._slots is not None:
                    await self._slots.acquire()
                self._took(await anext(items))
        except StopAsyncIteration:
            self._over(None)
        except Exception as error:
            self._over(error)


async def side_by_side(
    items: AsyncIterator[BatchItem[Q]],
    work: Callable[[BatchItem[Q]], Awaitable[R]],
    room: int | Callable[[], int] | None = None,
) -> AsyncIterator[R]:
    """What `work` makes of each item, at most `room` at once, in the order in which it is ready.

    An exception of `work`, or of the items, ends it all and is raised here.
    """
    results: asyncio.Queue[R | Exception | None] = asyncio.Queue()
    running: set[asyncio.Task[None]] = set()
    ended = False

    async def one(item: BatchItem[Q]) -> None:
        try:
            results.put_nowait(await work(item))
        except Exception as error:
            results.put_nowait(error)

    def begin(item: BatchItem[Q]) -> None:
        task = asyncio.create_task(one(item))
        running.add(task)
        task.add_done_callback(finished)

    def finished(task: asyncio.Task[None]) -> None:
        running.discard(task)
        puller.release()
        if ended and not running:
            results.put_nowait(None)

    def over(error: Exception | None) -> None:
        nonlocal ended
        ended = True
        if error is not None or not running:
            results.put_nowait(error)

    puller = Puller(items, begin, over, room)
    try:
        while (result := await results.get()) is not None:
            if isinstance(result, Exception):
                raise result
            yield result
    finally:
        puller.cancel()
        tasks = list(running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
