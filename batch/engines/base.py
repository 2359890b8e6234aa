"""The one shape of everything that answers items: it pulls requests and yields responses, out of order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol, TypeVar, runtime_checkable

from batch.engines.desk import Desk
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
    item while finished answers could be yielded: pull in a task of its own.
    """

    name: str

    def answer(self, items: AsyncIterator[BatchItem[Q]], desk: Desk) -> AsyncIterator[BatchResponse[A]]:
        """Yield one response for every item pulled."""
        ...

    def partial_texts(self) -> Mapping[ItemId, str]:
        """The text so far of items in flight, for display; may be empty. Called from any thread."""
        ...

    async def close(self) -> None:
        """Free all resources; called once, after the last `answer`, also after a failure."""
        ...
