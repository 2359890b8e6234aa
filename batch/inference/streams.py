"""Responses and tokens as they come, for callers with an event loop and for those without."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from batch.errors import Failure
from batch.items import BatchResponse, ItemId

T = TypeVar("T")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """More text of an item. `restarted`: the engine began this answer anew, and what came before does not count."""

    id: ItemId
    text: str
    restarted: bool = False


@dataclass(frozen=True, slots=True)
class DoneEvent(Generic[A]):
    """An item is answered; the texts of its token events are its answer."""

    id: ItemId
    response: BatchResponse[A]


@dataclass(frozen=True, slots=True)
class ErrorEvent(Generic[A]):
    """An item has failed."""

    id: ItemId
    failure: Failure
    response: BatchResponse[A]


class LoopThread:
    """An event loop on a thread of its own, so that one engine serves callers with loops and callers without."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for it; an interrupt of the waiting cancels it."""
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def acall(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and await it; cancelling here cancels there."""
        return await asyncio.wrap_future(self.start(work))

    def stop(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Stream(Generic[T]):
    """An iterator that is also an async iterator. Closing it early withdraws what it has not delivered yet."""

    def __init__(self, source: AsyncGenerator[T, None], loop: LoopThread) -> None:
        self._source = source
        self._loop = loop
        self._lock = asyncio.Lock()  # a generator can be asked for one thing at a time
        self._waiting: asyncio.Task[Any] | None = None

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        for value in self._loop.call(self._next()):
            return value
        raise StopIteration

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        for value in await self._loop.acall(self._next()):
            return value
        raise StopAsyncIteration

    async def _next(self) -> list[T]:
        """One value, or none at the end: a future cannot carry StopIteration."""
        async with self._lock:
            self._waiting = asyncio.current_task()
            try:
                return [await anext(self._source)]
            except StopAsyncIteration:
                return []
            finally:
                self._waiting = None

    def close(self) -> None:
        """Stop listening; whoever waits for the next value elsewhere is told so (CancelledError)."""
        self._loop.call(self._close())

    async def aclose(self) -> None:
        """As `close`."""
        await self._loop.acall(self._close())

    async def _close(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        async with self._lock:
            await self._source.aclose()

    def __enter__(self) -> Stream[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Stream[T]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
