"""Doubles of engines: they answer what a script says, when the test says, and keep a record."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from batch.engines.base import closing_answers
from batch.engines.desk import Desk
from batch.engines.pull import Puller, side_by_side
from batch.errors import EngineError, ErrorClass, Failure
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request

Item = BatchItem[Request]
Response = BatchResponse[Answer]
Outcome = str | Failure | Exception  # an answer, a failure as a response, or what the engine raises


def transient(message: str = "try again", retry_after: float | None = None) -> Failure:
    return Failure(ErrorClass.TRANSIENT, message, retry_after)


def permanent(message: str = "never") -> Failure:
    return Failure(ErrorClass.PERMANENT, message)


class InstantEngine:
    """Answers each item the moment it gets it."""

    name = "instant"
    status = "ready"
    about: Mapping[str, Any] = {}

    def __init__(self, text: str = "an answer of some length, as a small model gives") -> None:
        self.text = text

    async def answer(self, items: AsyncIterator[Item], desk: Desk) -> AsyncIterator[Response]:
        async for item in items:
            yield BatchResponse(item.id, Answer(self.text), 1_000_000, tokens_input=5, tokens_output=10)

    def partial_texts(self) -> Mapping[ItemId, str]:
        return {}

    async def close(self) -> None:
        pass


class HoldingEngine(InstantEngine):
    """Takes every item before it answers the first one."""

    async def answer(self, items: AsyncIterator[Item], desk: Desk) -> AsyncIterator[Response]:
        held: list[ItemId] = []
        taken = asyncio.Event()

        def took(item: Item) -> None:
            held.append(item.id)
            if not desk.pending:
                taken.set()

        puller = Puller(items, took, lambda error: taken.set())
        await taken.wait()
        for item_id in held:
            yield BatchResponse(item_id, Answer(self.text), 1_000_000, tokens_input=5, tokens_output=10)
        await puller.stop()


class ScriptedEngine:
    """Answers items side by side and out of order.

    `script(item)` says what becomes of it, `delay(item)` after how many seconds. A `gated` engine holds every answer
    until `release`. `calls` counts how often each item was given, `most` is the most that were in flight at once.
    """

    name = "scripted"
    status = "ready"
    about: Mapping[str, Any] = {}

    def __init__(
        self,
        script: Callable[[Item], Outcome] | None = None,
        *,
        delay: Callable[[Item], float] = lambda item: 0.0,
        gated: bool = False,
    ) -> None:
        self.script = script or (lambda item: f"answer to {item.data.text}")
        self.delay = delay
        self.gated = gated
        self.calls: Counter[int] = Counter()
        self.attempts: list[tuple[int, int]] = []  # (id, attempt) in the order given
        self.in_flight = 0
        self.most = 0
        self.closed = 0
        self.ended = False  # the iterator of items came to its end
        self._held: list[asyncio.Future[None]] = []
        self._tickets = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()

    def release(self, count: int = 1) -> None:
        """Let this many held answers go, the latest first; from any thread."""
        assert self._ready.wait(90) and self._loop is not None
        self._loop.call_soon_threadsafe(self._release, count)

    def _release(self, count: int) -> None:
        self._tickets += count
        while self._tickets and self._held:
            future = self._held.pop()
            if not future.done():
                future.set_result(None)
                self._tickets -= 1

    async def answer(self, items: AsyncIterator[Item], desk: Desk) -> AsyncIterator[Response]:
        self._loop = asyncio.get_running_loop()
        self._ready.set()

        async def noted() -> AsyncIterator[Item]:
            self.ended = False
            async for item in items:
                self.calls[int(item.id)] += 1
                self.attempts.append((int(item.id), item.attempt))
                self.in_flight += 1
                self.most = max(self.most, self.in_flight)
                yield item
            self.ended = True

        async with closing_answers(side_by_side(noted(), self._one)) as responses:
            async for response in responses:
                yield response

    async def _one(self, item: Item) -> Response:
        start = time.perf_counter_ns()
        try:
            await asyncio.sleep(self.delay(item))
            if self.gated:
                future = asyncio.get_running_loop().create_future()
                self._held.append(future)
                self._release(0)
                await future
            outcome = self.script(item)
        finally:
            self.in_flight -= 1
        took = time.perf_counter_ns() - start
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, Failure):
            return BatchResponse(item.id, None, took, outcome, tokens_input=1)
        return BatchResponse(item.id, Answer(outcome), took, tokens_input=2, tokens_output=3)

    def partial_texts(self) -> Mapping[ItemId, str]:
        return {}

    async def close(self) -> None:
        self.closed += 1


class RudeEngine(ScriptedEngine):
    """Gives answers that nobody asked for: unknown ids, and everything twice."""

    name = "rude"

    async def answer(self, items: AsyncIterator[Item], desk: Desk) -> AsyncIterator[Response]:
        async for response in super().answer(items, desk):
            yield BatchResponse(10**9, Answer("unknown number"))
            yield BatchResponse("a name", Answer("unknown name"))
            yield BatchResponse(-1, Answer("negative"))
            yield response
            yield BatchResponse(response.id, Answer("a second answer"), tokens_output=1000)
            yield BatchResponse(response.id, None, error=permanent("a second thought"))


class QuittingEngine(ScriptedEngine):
    """Ends after `after` answers: returns, or raises `error`."""

    name = "quitting"

    def __init__(self, after: int, error: Exception | None = None, **kw: Any) -> None:
        super().__init__(**kw)
        self.after = after
        self.error = error

    async def answer(self, items: AsyncIterator[Item], desk: Desk) -> AsyncIterator[Response]:
        count = 0
        stream = super().answer(items, desk)
        try:
            async for response in stream:
                yield response
                count += 1
                if count == self.after:
                    break
        finally:
            await stream.aclose()  # type: ignore[attr-defined]
        if self.error is not None:
            raise self.error


class ChanceEngine(ScriptedEngine):
    """Every item has its own list of outcomes, one a try; the last one holds for all further tries."""

    def __init__(self, plans: Mapping[int, list[str]], seed: int = 0, longest: float = 0.002) -> None:
        self.plans = plans
        dice = random.Random(seed)
        super().__init__(self._outcome, delay=lambda item: dice.random() * longest)

    def _outcome(self, item: Item) -> Outcome:
        plan = self.plans[int(item.id)]
        kind = plan[min(item.attempt, len(plan)) - 1]
        if kind == "ok":
            return f"answer to {item.data.text}"
        return Failure(ErrorClass(kind), f"{kind} failure")


def raises(error: EngineError) -> Callable[[Item], Outcome]:
    return lambda item: error
