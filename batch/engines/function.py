"""A Python callable as an engine: `execute_fn(prompt)`, sync or async."""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

from batch.engines.base import closing_answers
from batch.engines.desk import Desk
from batch.engines.pull import side_by_side
from batch.errors import Cause, ErrorClass, Failure, Interrupted, TransientError, classify
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request

Item = BatchItem[Request]
Response = BatchResponse[Answer]


class FunctionEngine:
    """Calls `execute_fn(prompt)` with the text of each item.

    It returns text, or an object with `.text` and optionally `.tokens_input`, `.tokens_output` and
    `.duration_seconds`; None is a failure. An exception is the item's failure, by its class. Coroutine functions run
    as tasks; plain functions in `workers` daemon threads, so that one that never returns cannot keep the program.
    `timeout` (seconds) fails an item as transient; a plain function that overruns it goes on in its thread unheard.
    """

    name = "function"
    status = ""

    def __init__(self, execute_fn: Callable[[str], Any], *, workers: int = 1, timeout: float | None = None) -> None:
        self.execute_fn = execute_fn
        self.workers = workers
        self.timeout = timeout
        self._is_async = inspect.iscoroutinefunction(execute_fn) or inspect.iscoroutinefunction(
            getattr(execute_fn, "__call__", None)  # noqa: B004 - an object with an async __call__
        )

    async def answer(self, items: AsyncIterator[Item], desk: Desk) -> AsyncIterator[Response]:
        """Responses in the order in which the calls return."""
        pool = _ThreadPool(self._call)
        call = self._call_async if self._is_async else pool.run

        async def work(item: Item) -> Response:
            start = time.perf_counter_ns()
            try:
                async with asyncio.timeout(self.timeout):
                    return await call(item)
            except TimeoutError:
                error = Failure(ErrorClass.TRANSIENT, f"no answer within {self.timeout:g} s", cause=Cause.SERVER)
                return BatchResponse(item.id, None, time.perf_counter_ns() - start, error)

        try:
            async with closing_answers(side_by_side(items, work, self.workers)) as responses:
                async for response in responses:
                    yield response
        finally:
            pool.close()

    async def _call_async(self, item: Item) -> Response:
        start = time.perf_counter_ns()
        try:
            return _response(item.id, await self.execute_fn(item.data.text), start)
        except KeyboardInterrupt:
            raise Interrupted("interrupted by the function itself") from None
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return BatchResponse(item.id, None, time.perf_counter_ns() - start, _classify(error))
        except (Exception, SystemExit) as error:
            return BatchResponse(item.id, None, time.perf_counter_ns() - start, _classify(error))

    def _call(self, item: Item) -> Response | Interrupted:
        start = time.perf_counter_ns()
        try:
            value = self.execute_fn(item.data.text)
            if inspect.isawaitable(value):
                value = asyncio.run(_await(value))
            return _response(item.id, value, start)
        except KeyboardInterrupt:
            return Interrupted("interrupted by the function itself")
        except BaseException as error:  # SystemExit and CancelledError too: the thread must live to say so
            return BatchResponse(item.id, None, time.perf_counter_ns() - start, _classify(error))

    @property
    def about(self) -> Mapping[str, Any]:
        """Nothing is known of a function."""
        return {}

    def partial_texts(self) -> Mapping[ItemId, str]:
        """A function has no partial answers."""
        return {}

    async def close(self) -> None:
        """Nothing to free: the threads end with their calls."""


def _classify(error: BaseException) -> Failure:
    # A timeout inside the caller's function is a failure like any other; the message should not be empty.
    return classify(error if str(error) or not isinstance(error, TimeoutError) else TransientError("timed out"))


async def _await(value: Any) -> Any:
    return await value


def _response(item_id: ItemId, value: Any, start: int) -> Response:
    duration = time.perf_counter_ns() - start
    text = getattr(value, "text", value)
    if text is None:
        what = "None" if value is None else "an object whose text is None"
        return BatchResponse(item_id, None, duration, Failure(ErrorClass.PERMANENT, f"the function returned {what}"))
    seconds = getattr(value, "duration_seconds", None)
    with suppress(TypeError, ValueError, OverflowError):
        duration = round(float(seconds) * 1e9) if seconds else duration
    return BatchResponse(
        item_id,
        Answer(text if isinstance(text, str) else str(text)),
        duration,
        tokens_input=int(getattr(value, "tokens_input", 0) or 0),
        tokens_output=int(getattr(value, "tokens_output", 0) or 0),
    )


class _ThreadPool:
    """Runs a function in daemon threads, one more whenever all are busy."""

    def __init__(self, function: Callable[[Item], Response | Interrupted]) -> None:
        self._function = function
        self._jobs: queue.SimpleQueue[tuple[Item, asyncio.Future[Response]] | None] = queue.SimpleQueue()
        self._idle = 0
        self._threads = 0

    async def run(self, item: Item) -> Response:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Response] = loop.create_future()
        if self._idle == 0:
            self._threads += 1
            threading.Thread(target=self._work, args=(loop,), name="execute_fn", daemon=True).start()
        else:
            self._idle -= 1
        self._jobs.put((item, future))
        return await future

    def close(self) -> None:
        """Let every thread end when its call returns."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (job := self._jobs.get()) is not None:
            item, future = job
            result = self._function(item)
            with suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(self._done, future, result)

    def _done(self, future: asyncio.Future[Response], result: Response | Interrupted) -> None:
        self._idle += 1
        if future.cancelled():
            return
        if isinstance(result, Interrupted):
            future.set_exception(result)
        else:
            future.set_result(result)
