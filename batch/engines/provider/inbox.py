"""Items on their way into a batch: taken from the run a little ahead of the file that is filled."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from batch.engines.pull import Puller
from batch.items import BatchItem, Request

ROOM = 1024  # items taken ahead of the file that is filled


class Inbox:
    """Items as they are taken from the run, up to `ROOM` ahead; `wake` is set with each."""

    def __init__(self, items: AsyncIterator[BatchItem[Request]], wake: asyncio.Event) -> None:
        self.taken: deque[BatchItem[Request]] = deque()
        self._ended: list[Exception | None] = []
        self._wake = wake
        self._puller = Puller(items, self._took, self._over, ROOM)

    @property
    def ended(self) -> bool:
        """Whether no more will come; raises what the iterator raised."""
        if self._ended and (error := self._ended[0]) is not None:
            raise error
        return bool(self._ended)

    def done(self) -> None:
        """The first of those taken is somewhere else now."""
        self.taken.popleft()
        self._puller.release()

    async def stop(self) -> None:
        """Take nothing more."""
        await self._puller.stop()

    def _took(self, item: BatchItem[Request]) -> None:
        self.taken.append(item)
        self._wake.set()

    def _over(self, error: Exception | None) -> None:
        self._ended.append(error)
        self._wake.set()
