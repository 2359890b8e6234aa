"""Asking at once what a batch will not answer in time: an engine beside, fed item by item."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping

from batch.engines.base import Engine, closing_answers
from batch.engines.desk import Desk
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request


class Rescue:
    """Runs `engine` from its making until `stop`; `wake` is set with each answer."""

    def __init__(self, engine: Engine[Request, Answer], desk: Desk, wake: asyncio.Event) -> None:
        self.in_flight = 0
        self._engine, self._wake = engine, wake
        self._items: asyncio.Queue[BatchItem[Request]] = asyncio.Queue()
        self._answers: deque[BatchResponse[Answer]] = deque()
        self._error: BaseException | None = None
        self._task = asyncio.create_task(self._run(desk))

    @property
    def alive(self) -> bool:
        """Whether it is still running."""
        return not self._task.done()

    @property
    def status(self) -> str:
        """The engine's own."""
        return f"{self.in_flight:,} in flight; {self._engine.status}" if self.in_flight else ""

    def partial_texts(self) -> Mapping[ItemId, str]:
        """The engine's own."""
        return self._engine.partial_texts()

    def put(self, item: BatchItem[Request]) -> None:
        """Ask this."""
        self.in_flight += 1
        self._items.put_nowait(item)

    def take(self) -> list[BatchResponse[Answer]]:
        """The answers since the last call; raises what ended the engine."""
        taken = list(self._answers)
        self._answers.clear()
        self.in_flight -= len(taken)
        if not taken and self._error is not None:
            raise self._error
        return taken

    async def stop(self) -> None:
        """Ask nothing more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def close(self) -> None:
        """Free the engine."""
        await self._engine.close()

    async def _run(self, desk: Desk) -> None:
        async def items() -> AsyncIterator[BatchItem[Request]]:
            while True:
                yield await self._items.get()

        try:
            async with closing_answers(self._engine.answer(items(), desk)) as answers:
                async for response in answers:
                    self._answers.append(response)
                    self._wake.set()
        except Exception as error:
            self._error = error
            self._wake.set()
