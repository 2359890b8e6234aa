"""The one shape of everything that answers items: it pulls requests and yields responses, out of order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any, Protocol, TypeVar, runtime_checkable

from batch.engines.desk import Desk
from batch.engines.lane import LaneSnapshot
from batch.items import BatchItem, BatchResponse, ItemId

Q = TypeVar("Q")
A = TypeVar("A")


@runtime_checkable
class Engine(Protocol[Q, A]):
    """Answers items: local model, server, provider's batch, cluster.

    The processor hands over one iterator a run. The engine takes the next item when it has room and yields each
    response when it is ready, with the item's id. When the iterator ends it finishes what it holds and returns.
    A failed item is a response with `error`; raising `FatalError` ends the run, which stays resumable.
    Closing the returned iterator (`aclose`) abandons what is in flight.

    The iterator waits while the run is paused or at its concurrency limit, so an engine must never wait for a next
    item while finished answers could be yielded: it pulls with a `Puller`, in a task of its own. An engine that holds
    many items holds their ids, and asks the desk for a request when its turn comes.
    """

    name: str

    @property
    def status(self) -> str:
        """What it is doing, a few words for display: "loading model…", "ready"; "" where there is nothing to say.

        Called from any thread, as is `about`.
        """
        ...

    @property
    def about(self) -> Mapping[str, Any]:
        """What it runs on (device, precision, place, …), JSON; empty until it is known."""
        ...

    def answer(self, items: AsyncIterator[BatchItem[Q]], desk: Desk) -> AsyncIterator[BatchResponse[A]]:
        """Yield one response for every item pulled."""
        ...

    def partial_texts(self) -> Mapping[ItemId, str]:
        """The text so far of items in flight, for display; may be empty. Called from any thread.

        What a server sends as reasoning stands before it, as `batch.thinking.with_thinking` writes it.
        """
        ...

    async def close(self) -> None:
        """Free all resources; called once, after the last `answer`, also after a failure."""
        ...


def closing_answers(answers: AsyncIterator[BatchResponse[A]]) -> AbstractAsyncContextManager[Any]:
    """Closes what `Engine.answer` returned, so that nothing goes on unheard; an iterator without a close is let go."""
    stream: Any = answers  # the protocol says AsyncIterator, and nearly all are generators
    return aclosing(stream) if hasattr(stream, "aclose") else nullcontext(stream)


def says(engine: Engine[Any, Any] | None, name: str) -> bool:
    """Whether an engine, or the one that it only wraps, says so of itself (`takes_all`, `holds_back`)."""
    inner = engine
    while inner is not None and not hasattr(inner, name):
        inner = getattr(inner, "inner", None)
    return bool(getattr(inner, name, False))


def lanes_of(engine: Engine[Any, Any] | None) -> tuple[LaneSnapshot, ...] | None:
    """The lanes of an engine that has some, and with them limits and retries of its own; None of any other engine."""
    inner = _with_lanes(engine)
    return None if inner is None else tuple(inner.lanes)


def begun_of(engine: Engine[Any, Any] | None) -> Collection[ItemId] | None:
    """The items that an engine's lanes are answering, without those that wait in them; None of any other engine."""
    return getattr(_with_lanes(engine), "begun", None)


def _with_lanes(engine: Engine[Any, Any] | None) -> Any:
    while engine is not None and not hasattr(engine, "lanes"):
        engine = getattr(engine, "inner", None)  # one that only changes what another one says
    return engine
