"""From any number of callers into one engine: highest priority first, then first come, first served."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from batch.engines.base import Engine, closing_answers
from batch.engines.desk import MemoryDesk
from batch.errors import Failure, FatalError, classify
from batch.items import BatchItem, BatchResponse, ItemId, Timing

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(slots=True, eq=False)
class _Ticket(Generic[Q, A]):
    """An item on its way. The engine knows it by a number, since two batches may use the same ids."""

    item: BatchItem[Q]
    number: int
    job: Job[Q, A]
    arrived_ns: int
    pulled_ns: int = 0


@dataclass(slots=True, eq=False)
class Job(Generic[Q, A]):
    """One batch: its items that are still open, and the responses to the others. Used on the dispatcher's loop only."""

    started_ns: int
    open: dict[int, _Ticket[Q, A]] = field(default_factory=dict)
    answered: int = 0
    inbox: asyncio.Queue[BatchResponse[A] | FatalError] = field(default_factory=asyncio.Queue)


class Dispatcher(Generic[Q, A]):
    """Keeps one run of an engine going for as long as there is work, so that batches join one that is running.

    All methods belong to one event loop. An engine that fails ends the batches it has: one without a response yet
    raises the engine's error, and in one that has some the rest are failures of class fatal. The next one starts anew.
    """

    def __init__(self, engine: Engine[Q, A]) -> None:
        self._engine = engine
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, int, _Ticket[Q, A]]] = []  # a heap
        self._flying: dict[int, _Ticket[Q, A]] = {}
        self._arrival = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._run = 0  # number of the run that may pull

    def submit(self, items: Sequence[BatchItem[Q]]) -> Job[Q, A]:
        """Queue a batch."""
        now = time.perf_counter_ns()
        job: Job[Q, A] = Job(now)
        for item in items:
            ticket = _Ticket(item, next(self._numbers), job, now)
            job.open[ticket.number] = ticket
            heapq.heappush(self._waiting, (-item.priority, ticket.number, ticket))
        self._arrival.set()
        self.start()
        return job

    def start(self) -> None:
        """Have a run of the engine, which then waits for work."""
        if self._task is None or self._task.done():
            self._start()

    async def responses(self, job: Job[Q, A]) -> AsyncGenerator[BatchResponse[A], None]:
        """The responses of a batch, each when it is ready; leaving early withdraws the items that are still open."""
        try:
            while job.open or not job.inbox.empty():
                response = await job.inbox.get()
                if isinstance(response, FatalError):
                    raise response
                yield response
        finally:
            self.withdraw(job)

    def withdraw(self, job: Job[Q, A]) -> None:
        """Forget a batch. What the engine has of it is given up, if the engine has nothing else to do."""
        if not job.open:
            return
        job.open.clear()
        self._waiting = [entry for entry in self._waiting if entry[2].job is not job]
        heapq.heapify(self._waiting)
        flying = self._flying.values()
        if self._task is not None and flying and not any(ticket.job.open for ticket in flying):
            self._task.cancel()
            self._start()  # waits for the end of the old one

    def partial_texts(self, job: Job[Q, A]) -> dict[ItemId, str]:
        """The text so far of a batch's items that the engine is answering."""
        texts: Mapping[ItemId, str] = self._engine.partial_texts()
        return {job.open[n].item.id: text for n, text in texts.items() if isinstance(n, int) and n in job.open}

    async def close(self) -> None:
        """End the run, and the engine."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._fail(FatalError("the engine was closed"))
        await self._engine.close()

    def _start(self) -> None:
        self._run += 1
        self._flying = {}
        self._task = asyncio.create_task(self._serve(self._run, self._task))

    async def _serve(self, run: int, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        flying = self._flying
        try:
            async with closing_answers(self._engine.answer(self._items(run), MemoryDesk())) as responses:
                async for response in responses:
                    self._deliver(flying, response)
            end = FatalError("the engine ended before its work was done")
        except FatalError as error:
            end = error
        except Exception as error:
            end = FatalError(f"the engine failed: {type(error).__name__}: {error}")
            end.__cause__ = error
        if run == self._run:
            self._fail(end)

    async def _items(self, run: int) -> AsyncIterator[BatchItem[Q]]:
        while True:
            while run == self._run and not self._waiting:
                self._arrival.clear()
                await self._arrival.wait()
            if run != self._run:
                return
            ticket = heapq.heappop(self._waiting)[2]
            ticket.pulled_ns = time.perf_counter_ns()
            self._flying[ticket.number] = ticket
            yield replace(ticket.item, id=ticket.number)

    def _deliver(self, flying: dict[int, _Ticket[Q, A]], response: BatchResponse[A]) -> None:
        ticket = flying.pop(response.id, None) if isinstance(response.id, int) else None
        if ticket is None or ticket.number not in ticket.job.open:
            return  # of a batch that was withdrawn, or nobody's
        self._settle(ticket, response)

    def _settle(self, ticket: _Ticket[Q, A], response: BatchResponse[A]) -> None:
        """The response under the caller's id, with times since the batch was handed over."""
        total = time.perf_counter_ns() - ticket.arrived_ns
        before = ticket.pulled_ns - ticket.arrived_ns if ticket.pulled_ns else total
        queue, first = before, None
        if response.timing is not None:
            queue = min(before + response.timing.queue_ns, total)
            if response.timing.first_token_ns is not None:
                first = min(before + response.timing.first_token_ns, total)
        timing = Timing(queue, first, total)
        response = replace(response, id=ticket.item.id, duration_ns=total - queue, timing=timing)
        del ticket.job.open[ticket.number]
        ticket.job.answered += 1
        ticket.job.inbox.put_nowait(response)

    def _fail(self, error: FatalError) -> None:
        """End every open batch."""
        tickets = [*self._flying.values(), *(entry[2] for entry in self._waiting)]
        self._flying.clear()
        self._waiting.clear()
        failure: Failure = classify(error)
        for ticket in sorted(tickets, key=lambda ticket: ticket.number):
            job = ticket.job
            if ticket.number not in job.open:
                continue
            if job.answered:
                self._settle(ticket, BatchResponse(ticket.item.id, None, error=failure))
            else:
                job.open.clear()
                job.inbox.put_nowait(error)
