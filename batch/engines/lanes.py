"""An engine over engines: a job that spans models has a lane for each, with its own limits and its own retries."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from batch.engines.base import Engine, closing_answers
from batch.engines.desk import Desk, LaneDesk
from batch.engines.gate import Gate
from batch.engines.lane import Lane, LaneSnapshot, chains
from batch.engines.pull import Puller
from batch.errors import Cause, EngineError, ErrorClass, ExhaustedError, Failure, FatalError
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.running.policy import RetryPolicy
from batch.running.progress import EtaEstimator

HELD = 300_000  # items that wait for their lanes, so that one that is slow keeps none of the others idle
KEPT = 1024  # a lane's items whose requests are kept; of more than that, only their ids
LOOK = 0.1  # seconds until it is looked again whether the run goes on after a pause

Items = AsyncIterator[BatchItem[Request]]
Response = BatchResponse[Answer]


@dataclass(slots=True)
class _Way:
    """How far an item has come: the lane of its chain, and its tries there."""

    step: int = 0
    tries: int = 0


class _LaneRun:
    """One lane while it runs: what waits for it, and what it lets begin."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.gate = Gate(lane)
        self.retry = RetryPolicy(lane.retries)
        self.engine: Engine[Request, Answer] | None = None
        self.task: asyncio.Task[None] | None = None
        self.changed = asyncio.Event()
        self.waiting: deque[BatchItem[Any] | ItemId] = deque()
        self.leaving = False  # makes room for another local lane
        self.done = self.failed = 0
        self.pace = EtaEstimator()

    def put(self, item: BatchItem[Request]) -> None:
        """It waits for its turn; of many, only the ids are kept."""
        self.waiting.append(item if len(self.waiting) < KEPT or item.attempt > 1 else item.id)
        self.changed.set()

    def snapshot(self) -> LaneSnapshot:
        """How it is going; from any thread."""
        gate = self.gate
        state = "idle" if self.task is None else "resting" if gate.resting else "running"
        if gate.down:
            state = "spent" if "budget" in gate.down else "down"
        return LaneSnapshot(
            name=self.lane.name,
            state=state,
            done=self.done,
            failed=self.failed,
            in_flight=gate.in_flight,
            waiting=len(self.waiting),
            concurrency=gate.concurrency,
            items_per_second=self.pace.rate(time.monotonic()),
            cost=gate.spent if gate.cost_known else None,
            note=gate.down or (self.engine.status if self.engine is not None else ""),
        )


class LanesEngine:
    """Answers each item on the lane of its model (`default` where it names none), and moves it on where that cannot.

    An item goes on to the next lane of its chain after the lane's retries, when the lane's model refuses it, and when
    the lane is down or has spent its budget. Its failed tries come back as responses that ask for another try
    (`retry_in`), so that the run keeps them. Where no lane is left for an item and nothing else can be done, the engine
    raises what went wrong, and the job stays resumable. Local lanes run `local_at_once` at a time, one after the other;
    others run beside them. One `answer` at a time.
    """

    name = "lanes"

    def __init__(self, lanes: Sequence[Lane], default: str, *, local_at_once: int = 1, held: int = HELD) -> None:
        self._chains = chains(lanes, default)
        self._default = default
        self._lanes = {lane.name: _LaneRun(lane) for lane in lanes}
        self._local_at_once = max(1, local_at_once)
        self._most_held = held
        self._ways: dict[ItemId, _Way] = {}  # of items that are not on their first try of their first lane
        self._begin()

    def _begin(self) -> None:
        self._out: asyncio.Queue[Response | Exception | None] = asyncio.Queue()
        self._ended = False  # no further item comes
        self._held = 0  # items that are in this engine's hands
        self._stuck: list[ItemId] = []  # those of them that no lane is left for
        for lane in self._lanes.values():
            lane.gate = Gate(replace(lane.lane, spent=lane.gate.spent))

    @property
    def status(self) -> str:
        """What the lanes that are running are doing."""
        said = [f"{lane.lane.name}: {lane.engine.status}" for lane in self._lanes.values() if lane.task and lane.engine]
        return " · ".join(text for text in said if not text.endswith(": ready") and not text.endswith(": "))

    @property
    def about(self) -> Mapping[str, Any]:
        """What each lane that has begun runs on, by its name."""
        return {name: dict(lane.engine.about) for name, lane in self._lanes.items() if lane.engine is not None}

    @property
    def lanes(self) -> tuple[LaneSnapshot, ...]:
        """How each lane is going; from any thread."""
        return tuple(lane.snapshot() for lane in self._lanes.values())

    @property
    def begun(self) -> set[ItemId]:
        """Items that a lane is answering: of those it was given, the ones that do not wait for their turn."""
        return {item for lane in self._lanes.values() for item in lane.gate.begun}

    def partial_texts(self) -> Mapping[ItemId, str]:
        """The texts so far of all lanes."""
        texts: dict[ItemId, str] = {}
        for lane in self._lanes.values():
            engine = lane.engine
            if engine is not None and lane.gate.in_flight:
                texts.update(engine.partial_texts())
        return texts

    async def answer(self, items: Items, desk: Desk) -> AsyncIterator[Response]:
        """Yield one response for every item pulled, and one for every try before it that failed."""
        self._begin()
        self._desk = desk
        for submission in desk.open_submissions():
            if submission.lane in self._lanes:
                self._start(self._lanes[submission.lane])
        self._puller = Puller(items, self._took, self._over, self._most_held)
        try:
            while (response := await self._out.get()) is not None:
                if isinstance(response, Exception):
                    raise response
                yield response
                self._look_for_the_end()
        finally:
            await self._puller.stop()
            tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for lane in self._lanes.values():
                lane.task = None
                lane.waiting.clear()
                for item_id in list(lane.gate.flying):
                    lane.gate.forget(item_id)

    async def close(self) -> None:
        """Close every engine that was made."""
        for lane in self._lanes.values():
            engine, lane.engine = lane.engine, None
            if engine is not None:
                await engine.close()

    # -- where an item goes -------------------------------------------------------------------------------------

    def _took(self, item: BatchItem[Request]) -> None:
        self._held += 1
        self._route(item)

    def _route(self, item: BatchItem[Request]) -> None:
        """To the first lane of its chain, from where it has come to, that is there."""
        chain = self._chain(item.model)
        way = self._ways.get(item.id)
        step = way.step if way else 0
        while step < len(chain) and self._lanes[chain[step]].gate.down:
            step += 1
        if step == len(chain):
            self._stuck.append(item.id)
            self._look_for_the_end()
            return
        if step != (way.step if way else 0):
            self._ways[item.id] = _Way(step)
        lane = self._lanes[chain[step]]
        lane.put(item)
        self._start(lane)

    def _chain(self, model: str | None) -> tuple[str, ...]:
        # A model that no lane is for is the default's to answer: who made the plan has asked before.
        return self._chains[model if model in self._chains else self._default]

    def _start(self, lane: _LaneRun) -> None:
        """Have it run, if it does not, and unless it must wait for another local lane to end."""
        if lane.task is not None or lane.gate.down:
            return
        if lane.lane.local:
            others = [other for other in self._lanes.values() if other.lane.local and other.task is not None]
            if len(others) >= self._local_at_once:
                for other in others:
                    other.changed.set()  # which makes room when it has nothing to do
                return
        lane.leaving = False
        lane.task = asyncio.create_task(self._serve(lane))

    async def _serve(self, lane: _LaneRun) -> None:
        """Run a lane until nothing is left for it."""
        try:
            if lane.engine is None:
                lane.engine = lane.lane.make()
            responses = lane.engine.answer(self._items(lane), LaneDesk(self._desk, lane.lane.name, self._handed_over))
            async with closing_answers(responses) as answers:
                async for response in answers:
                    self._heard(lane, response)
            if self._goes_on(lane):
                raise FatalError("the engine ended without answering what it was given")
        except Exception as error:
            said = str(error) if isinstance(error, EngineError) and str(error) else f"{type(error).__name__}: {error}"
            lane.gate.down = lane.gate.down or said
        try:
            await self._left(lane)
        except Exception as error:  # the store cannot be read, say: nobody else would hear of it
            self._out.put_nowait(error)

    async def _left(self, lane: _LaneRun) -> None:
        """A lane has ended: what it had goes on elsewhere, and another local lane may begin."""
        flying = list(lane.gate.flying)
        for item_id in flying:
            lane.gate.forget(item_id)
        waiting, lane.waiting = lane.waiting, deque()
        if lane.lane.local and lane.engine is not None and not self._done:
            engine, lane.engine = lane.engine, None
            with suppress(Exception):  # it may be dead
                await engine.close()
        lane.task = None
        if self._done:
            self._say_when_done()
            return
        for other in self._lanes.values():  # before this one, where it made room for them
            if other.waiting:
                self._start(other)
        for item_id in flying:
            self._route(self._item(item_id))
        for entry in waiting:
            self._route(entry if isinstance(entry, BatchItem) else self._item(entry))

    def _item(self, item_id: ItemId) -> BatchItem[Request]:
        request = self._desk.request(item_id)
        return BatchItem(item_id, request, model=request.model)

    # -- one lane ------------------------------------------------------------------------------------------------

    async def _items(self, lane: _LaneRun) -> Items:
        """What a lane's engine pulls from."""
        while self._goes_on(lane):
            wait: float | None = LOOK if self._desk.paused else None
            if lane.waiting and not self._desk.paused:
                entry = lane.waiting[0]
                item = entry if isinstance(entry, BatchItem) else self._item(entry)
                wait = lane.gate.wait(item.data)
                if wait == 0.0:
                    lane.waiting.popleft()
                    lane.gate.begin(item.id, item.data)
                    lane.pace.start(time.monotonic())
                    yield item
                    continue
                lane.waiting[0] = item
                if not self._goes_on(lane):
                    return
            elif not lane.waiting and not lane.gate.in_flight and self._wanted_elsewhere(lane):
                lane.leaving = True
                return
            lane.changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(lane.changed.wait(), wait)

    def _goes_on(self, lane: _LaneRun) -> bool:
        return not (self._done or lane.leaving or lane.gate.down)

    def _wanted_elsewhere(self, lane: _LaneRun) -> bool:
        return lane.lane.local and any(
            other.lane.local and other.waiting and other.task is None and not other.gate.down
            for other in self._lanes.values()
        )

    def _handed_over(self, lane_name: str, ids: Sequence[ItemId]) -> None:
        """These are with a provider from now on, and in nobody's hands here; none: something of it has ended."""
        lane = self._lanes[lane_name]
        for item_id in ids:
            lane.gate.forget(item_id)
        self._let_go(len(ids))
        lane.changed.set()
        self._look_for_the_end()

    def _let_go(self, count: int) -> None:
        self._held -= count
        self._puller.release(count)
        if self._done:
            self._wake()

    def _heard(self, lane: _LaneRun, response: Response) -> None:
        """Pass a response on: an answer, a try that failed and is tried again, here or elsewhere, or a failure."""
        mine = lane.gate.holds(response.id)
        lane.gate.end(response)
        lane.changed.set()
        if response.model is None:
            response = replace(response, model=lane.lane.model or lane.lane.name)
        error = response.error
        if error is None:
            lane.done += 1
            lane.pace.record(time.monotonic(), 1)
            self._ways.pop(response.id, None)
        else:
            lane.failed += 1
            response = self._tried(lane, response)
        if mine:
            self._let_go(1)
        self._out.put_nowait(response)

    def _tried(self, lane: _LaneRun, response: Response) -> Response:
        """A failed try: whether, where and when there is another one."""
        error = response.error
        assert error is not None
        if error.error_class is ErrorClass.FATAL:
            lane.gate.down = lane.gate.down or error.message
            return replace(response, retry_in=0.0)  # which finds the next lane, or none
        way = self._ways.get(response.id) or _Way()
        way.tries += 1
        refused = error.cause in (Cause.REFUSED, Cause.FILTERED)
        delay = None if refused else lane.retry.delay(error, way.tries)
        if delay is None and self._moves(response.id, lane, error):
            delay = self._next_step(lane, way, response.id)
        if delay is None:
            self._ways.pop(response.id, None)
            return response
        self._ways[response.id] = way
        return replace(response, retry_in=delay)

    def _moves(self, item_id: ItemId, lane: _LaneRun, error: Failure) -> bool:
        """Whether another model may answer what failed so: a fault of the item itself goes nowhere.

        What a content filter holds back goes on where the item's chain allows it, by its first lane or the one it is
        at.
        """
        if error.cause is Cause.FILTERED:
            first = self._lanes[self._chain(self._desk.request(item_id).model)[0]]
            return lane.lane.pass_filtered or first.lane.pass_filtered
        return error.cause is not Cause.OTHER or error.error_class is not ErrorClass.PERMANENT

    def _next_step(self, lane: _LaneRun, way: _Way, item_id: ItemId) -> float | None:
        """Where the item's chain goes on after this lane, it is given out again at once."""
        chain = self._chain(self._desk.request(item_id).model)
        if lane.lane.name not in chain:
            return None
        for step in range(chain.index(lane.lane.name) + 1, len(chain)):
            if not self._lanes[chain[step]].gate.down:
                way.step, way.tries = step, 0
                return 0.0
        return None

    # -- the end -------------------------------------------------------------------------------------------------

    @property
    def _done(self) -> bool:
        """Whether nothing more is begun: all is answered, or the run is stopping and leaves what waits to the next."""
        return self._ended and (self._desk.stopping or self._held == 0)

    def _over(self, error: Exception | None) -> None:
        self._ended = True
        if error is not None:
            self._out.put_nowait(error)
        self._wake()
        self._say_when_done()
        self._look_for_the_end()

    def _wake(self) -> None:
        for lane in self._lanes.values():
            lane.changed.set()

    def _say_when_done(self) -> None:
        if self._done and all(lane.task is None for lane in self._lanes.values()):
            self._out.put_nowait(None)

    def _look_for_the_end(self) -> None:
        """Raise what is wrong where nothing is left but items that no lane is left for."""
        if not self._stuck or self._held > len(self._stuck) or self._done:
            return
        if not self._ended and self._desk.pending and self._held < self._most_held:
            return
        if self._desk.waits and self._desk.open_submissions():
            return
        why = "; ".join(f"{name}: {lane.gate.down}" for name, lane in self._lanes.items() if lane.gate.down)
        many = f"{len(self._stuck):,} item{'s' * (len(self._stuck) != 1)}"
        spent = all("budget" in lane.gate.down for lane in self._lanes.values() if lane.gate.down)
        kind = ExhaustedError if spent else FatalError
        self._out.put_nowait(kind(f"no model is left for {many} ({why})"))
