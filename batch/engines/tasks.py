"""Items answered each in a task of its own: what engines do whose work is waiting for somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from batch.engines.pull import Puller
from batch.errors import BatchError
from batch.items import BatchItem, BatchResponse

Q = TypeVar("Q")
A = TypeVar("A")


class Answering:
    """Pulls items while fewer than `limit()` are being answered, and yields what `work` returns as it is ready.

    A `BatchError` that `work` raises ends it; what else it raises is for `work` to turn into a failed response.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._granted = limit()  # items in hand, and those that the puller may take before it is told of more
        self._ended = False
        self._running: set[asyncio.Task[None]] = set()

    async def answers(
        self, items: AsyncIterator[BatchItem[Q]], work: Callable[[BatchItem[Q]], Awaitable[BatchResponse[A]]]
    ) -> AsyncIterator[BatchResponse[A]]:
        """One response an item. Closing it cancels what is being answered, and waits until that is so."""
        ready: asyncio.Queue[BatchResponse[A] | Exception | None] = asyncio.Queue()

        async def one(item: BatchItem[Q]) -> None:
            try:
                ready.put_nowait(await work(item))
            except BatchError as error:
                ready.put_nowait(error)

        def begin(item: BatchItem[Q]) -> None:
            task = asyncio.create_task(one(item))
            self._running.add(task)
            task.add_done_callback(finished)

        def finished(task: asyncio.Task[None]) -> None:
            self._finished(task, puller)
            if not task.cancelled() and (error := task.exception()) is not None:
                ready.put_nowait(error if isinstance(error, Exception) else None)
            elif self._ended and not self._running:
                ready.put_nowait(None)

        def over(error: Exception | None) -> None:
            self._ended = True
            if error is not None or not self._running:
                ready.put_nowait(error)

        puller = Puller(items, begin, over, self._granted)
        try:
            while (response := await ready.get()) is not None:
                if isinstance(response, Exception):
                    raise response
                yield response
        finally:
            puller.cancel()
            tasks = list(self._running)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _finished(self, task: asyncio.Task[None], puller: Puller[Q]) -> None:
        self._running.discard(task)
        self._granted -= 1
        if self._granted < (limit := self._limit()):
            puller.release(limit - self._granted)
            self._granted = limit
