"""Batches through one engine, of whatever requests and answers it has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Generic, Self, TypeVar

from batch.engines.base import Engine
from batch.errors import FatalError
from batch.inference.dispatch import Dispatcher, Job
from batch.inference.limits import check_batch
from batch.inference.metrics import InferenceResults, check_slo
from batch.inference.streams import DoneEvent, ErrorEvent, LoopThread, Stream, TokenEvent
from batch.items import BatchItem, BatchResponse, BatchStats, ItemId

Q = TypeVar("Q")
A = TypeVar("A")

Event = TokenEvent | DoneEvent[A] | ErrorEvent[A]

LOOK_SECONDS = 0.03  # how often the texts so far are looked at for token events


class BatchRunner(Generic[Q, A]):
    """Runs batches through an engine that waits for items while others run, as local engines do.

    Batches may be given from several threads and tasks at once; they share the engine, the highest priority of an item
    first. Close it when done, or use it in a `with`.
    """

    def __init__(self, engine: Engine[Q, A]) -> None:
        self._engine = engine
        self._loop = LoopThread(f"batch-{engine.name}")
        self._dispatcher: Dispatcher[Q, A] = self._loop.call(self._open(engine))
        self._closed = False

    @staticmethod
    async def _open(engine: Engine[Q, A]) -> Dispatcher[Q, A]:
        return Dispatcher(engine)

    def start(self) -> None:
        """Let the engine get ready now, in the background, rather than with the first batch."""

        async def start() -> None:
            self._dispatcher.start()

        self._loop.call(start())

    def run(
        self, items: Iterable[BatchItem[Q]], *, most: int, split: bool = False, slo: Mapping[str, float] | None = None
    ) -> InferenceResults[A]:
        """Answer a batch of up to `most` items; the responses are in the order of the items."""
        return self._loop.call(self._collect(self._check(items, most, split, slo), slo))

    async def arun(
        self, items: Iterable[BatchItem[Q]], *, most: int, split: bool = False, slo: Mapping[str, float] | None = None
    ) -> InferenceResults[A]:
        """As `run`, for callers with an event loop; cancelling it withdraws the batch."""
        return await self._loop.acall(self._collect(self._check(items, most, split, slo), slo))

    def responses(self, items: Iterable[BatchItem[Q]], *, most: int, split: bool = False) -> Stream[BatchResponse[A]]:
        """The responses, each when it is ready."""
        batch = self._check(items, most, split, None)
        return Stream(self._responses(self._submit(batch)), self._loop)

    def events(self, items: Iterable[BatchItem[Q]], *, most: int, split: bool = False) -> Stream[Event[A]]:
        """Texts as they grow, and each item's end."""
        batch = self._check(items, most, split, None)
        return Stream(self._events(self._submit(batch)), self._loop)

    def close(self) -> None:
        """End the engine; batches that are still open fail."""
        if not self._closed:
            self._closed = True
            self._loop.call(self._dispatcher.close())
            self._loop.stop()

    async def aclose(self) -> None:
        """As `close`."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _check(
        self, items: Iterable[BatchItem[Q]], most: int, split: bool, slo: Mapping[str, float] | None
    ) -> list[BatchItem[Q]]:
        if self._closed:
            raise FatalError("the engine is closed")
        check_slo(slo)
        return check_batch(items, most, split=split)

    def _submit(self, batch: Sequence[BatchItem[Q]]) -> Job[Q, A]:
        async def submit() -> Job[Q, A]:
            return self._dispatcher.submit(batch)

        return self._loop.call(submit())

    async def _collect(self, batch: Sequence[BatchItem[Q]], slo: Mapping[str, float] | None) -> InferenceResults[A]:
        job = self._dispatcher.submit(batch)
        by_id = {response.id: response async for response in self._responses(job)}
        wall = time.perf_counter_ns() - job.started_ns
        responses = [by_id[item.id] for item in batch]
        spent = sum(response.duration_ns for response in responses)
        return InferenceResults(
            responses, BatchStats(len(responses), total_duration_ns=wall, item_duration_ns=spent), slo
        )

    async def _responses(self, job: Job[Q, A]) -> AsyncGenerator[BatchResponse[A], None]:
        async with aclosing(self._dispatcher.responses(job)) as responses:
            async for response in responses:
                yield response

    async def _events(self, job: Job[Q, A]) -> AsyncGenerator[Event[A], None]:
        shown: dict[ItemId, str] = {}
        async with aclosing(self._dispatcher.responses(job)) as responses:
            coming: asyncio.Task[Any] = asyncio.create_task(_next(responses))
            try:
                while True:
                    await asyncio.wait([coming], timeout=LOOK_SECONDS)
                    if not coming.done():
                        for item_id, text in self._dispatcher.partial_texts(job).items():
                            if (event := _growth(shown, item_id, text)) is not None:
                                yield event
                        continue
                    response: BatchResponse[A] | None = coming.result()
                    if response is None:
                        return
                    for final in _last_events(shown, response):
                        yield final
                    coming = asyncio.create_task(_next(responses))
            finally:
                coming.cancel()
                with suppress(asyncio.CancelledError, Exception):  # told above, where it is of interest
                    await coming


async def _next(responses: Any) -> Any:
    return await anext(responses, None)


def _growth(shown: dict[ItemId, str], item_id: ItemId, text: str) -> TokenEvent | None:
    """What is new of a text. One that does not go on from what was shown waits until it is whole."""
    before = shown.get(item_id, "")
    if len(text) <= len(before) or not text.startswith(before):
        return None
    shown[item_id] = text
    return TokenEvent(item_id, text[len(before) :])


def _last_events(shown: dict[ItemId, str], response: BatchResponse[A]) -> list[Event[A]]:
    """The last events of an item."""
    item_id = response.id
    if response.error is not None:
        return [ErrorEvent(item_id, response.error, response)]
    events: list[Event[A]] = []
    text, before = str(getattr(response.data, "text", "")), shown.pop(item_id, "")
    if not text.startswith(before):
        events.append(TokenEvent(item_id, text, restarted=True))
    elif len(text) > len(before):
        events.append(TokenEvent(item_id, text[len(before) :]))
    return [*events, DoneEvent(item_id, response)]
