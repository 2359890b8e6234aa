"""A job that spans models: who answers what, what happens where a lane cannot, and what the lanes may cost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers.engines import Item, Outcome, Response, ScriptedEngine, permanent, transient
from servers.waiting import until

from batch import BatchJob, BatchProcessor, Run
from batch.checkpoint import CheckpointStore
from batch.engines.base import closing_answers
from batch.engines.desk import Desk, MemoryDesk
from batch.engines.gate import Gate
from batch.engines.lane import Lane, LaneError, chains
from batch.engines.lanes import LanesEngine
from batch.errors import Cause, ErrorClass, ExhaustedError, Failure, FatalError
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import RunOptions
from batch.running.progress import RunState


def refused(message: str = "not this") -> Failure:
    return Failure(ErrorClass.PERMANENT, message, cause=Cause.REFUSED)


class Priced(ScriptedEngine):
    """Its answers cost so many billionths each."""

    def __init__(self, cost: int | None, script: Callable[[Item], Outcome] | None = None, **kw: Any) -> None:
        super().__init__(script, **kw)
        self.cost = cost

    async def answer(self, items: AsyncIterator[Item], desk: Desk) -> AsyncIterator[Response]:
        from dataclasses import replace

        async with closing_answers(super().answer(items, desk)) as answers:
            async for response in answers:
                yield replace(response, cost=self.cost)


def requests(models: list[str | None]) -> dict[Any, Request]:
    return {i: Request(f"prompt {i}", model=model) for i, model in enumerate(models)}


async def run_all(engine: LanesEngine, asked: Mapping[Any, Request]) -> tuple[dict[Any, Response], list[Response]]:
    """Final responses, and tries; what is to be given out again is, as a run does."""
    again: asyncio.Queue[BatchItem[Request] | None] = asyncio.Queue()
    final: dict[Any, Response] = {}
    tries: list[Response] = []
    for i, request in asked.items():
        again.put_nowait(BatchItem(i, request, model=request.model))

    async def items() -> AsyncIterator[BatchItem[Request]]:
        while len(final) < len(asked) and (item := await again.get()) is not None:
            yield item

    async with closing_answers(engine.answer(items(), MemoryDesk(asked))) as answers:
        async for response in answers:
            if response.retry_in is not None:
                tries.append(response)
                request = asked[response.id]
                again.put_nowait(BatchItem(response.id, request, attempt=2, model=request.model))
                continue
            assert response.id not in final
            final[response.id] = response
            if len(final) == len(asked):
                again.put_nowait(None)
    return final, tries


def lane(name: str, engine: Any, **kw: Any) -> Lane:
    return Lane(name, lambda: engine, **kw)


async def test_each_item_is_answered_by_the_model_it_is_meant_for() -> None:
    engines = {name: ScriptedEngine(lambda item, name=name: name) for name in ("a", "b", "c")}
    engine = LanesEngine([lane(name, made) for name, made in engines.items()], "b")
    asked = requests(["a", "b", None, "c", "a", "unknown"] * 20)
    final, tries = await run_all(engine, asked)
    assert not tries
    for i, request in asked.items():
        meant = request.model if request.model in engines else "b"
        answer = final[i].data
        assert answer is not None and (answer.text, final[i].model) == (meant, meant)
    assert {s.name: s.done for s in engine.lanes} == {"a": 40, "b": 60, "c": 20}
    await engine.close()
    assert [made.closed for made in engines.values()] == [1, 1, 1]


async def test_what_a_lane_refuses_goes_on_along_its_chain_and_a_fault_of_the_item_does_not() -> None:
    def small(item: Item) -> Outcome:
        return {0: "small", 1: refused(), 2: permanent(), 3: transient()}[int(item.id)]

    def middle(item: Item) -> Outcome:
        return refused() if item.id == 1 else "middle"

    engine = LanesEngine(
        [
            lane("small", ScriptedEngine(small), retries=0, fallback=("middle",)),
            lane("middle", ScriptedEngine(middle), fallback=("large",)),
            lane("large", ScriptedEngine(lambda item: "large")),
        ],
        "small",
    )
    final, tries = await run_all(engine, requests([None] * 4))
    assert [final[i].model for i in range(4)] == ["small", "large", "small", "middle"]
    assert [final[i].success for i in range(4)] == [True, True, False, True]
    assert Counter((t.id, t.model) for t in tries) == {(1, "small"): 1, (1, "middle"): 1, (3, "small"): 1}


async def test_tries_of_a_lane_come_before_the_next_one() -> None:
    first = ScriptedEngine(lambda item: transient())
    engine = LanesEngine([lane("a", first, retries=3, fallback=("b",)), lane("b", ScriptedEngine())], "a")
    engine._lanes["a"].retry = type(engine._lanes["a"].retry)(3, base=0.001)
    final, tries = await run_all(engine, requests([None]))
    assert first.calls[0] == 4 and final[0].model == "b" and len(tries) == 4


@pytest.mark.parametrize("how", ["raises", "ends", "cannot be made", "says so of an item"])
async def test_a_lane_that_is_down_gives_its_items_to_the_next_one(how: str) -> None:
    class Dead(ScriptedEngine):
        async def answer(self, items: AsyncIterator[Item], desk: Desk) -> AsyncIterator[Response]:
            count = 0
            async for item in items:
                count += 1
                if how == "says so of an item":
                    yield BatchResponse(item.id, None, 0, Failure(ErrorClass.FATAL, "wrong key"))
                elif count == 3:
                    if how == "raises":
                        raise FatalError("wrong key")
                    return

    def make() -> Any:
        if how == "cannot be made":
            raise FatalError("wrong key")
        return Dead()

    engine = LanesEngine([Lane("a", make, fallback=("b",)), lane("b", ScriptedEngine())], "a")
    final, _ = await run_all(engine, requests(["a"] * 30))
    assert all(final[i].success and final[i].model == "b" for i in range(30))
    state = engine.lanes[0]
    assert state.state == "down" and (how == "ends" or state.note == "wrong key")


async def test_without_a_lane_left_the_others_go_on_and_then_it_is_said() -> None:
    def make() -> Any:
        raise FatalError("wrong key")

    other = ScriptedEngine(delay=lambda item: 0.001)
    engine = LanesEngine([Lane("a", make), lane("b", other)], "a")
    asked = requests(["a", "b"] * 10)
    with pytest.raises(FatalError, match=r"no model is left for 10 items \(a: wrong key\)"):
        await run_all(engine, asked)
    assert sum(other.calls.values()) == 10


@settings(max_examples=60, deadline=None)
@given(
    budget=st.integers(0, 2000),
    prices=st.lists(st.integers(1, 400), min_size=1, max_size=40),
    workers=st.none() | st.integers(1, 8),
)
async def test_a_budget_is_never_passed(budget: int, prices: list[int], workers: int | None) -> None:
    costs = {f"prompt {i}": price for i, price in enumerate(prices)}

    class Shop(ScriptedEngine):
        spent = 0

        async def answer(self, items: AsyncIterator[Item], desk: Desk) -> AsyncIterator[Response]:
            from dataclasses import replace

            async with closing_answers(super().answer(items, desk)) as answers:
                async for response in answers:
                    cost = costs[f"prompt {response.id}"]
                    self.spent += cost
                    yield replace(response, cost=cost)

    shop, free = Shop(), ScriptedEngine()
    engine = LanesEngine(
        [
            lane("a", shop, budget=budget, price=lambda r: costs[r.text], workers=workers, fallback=("b",)),
            lane("b", free),
        ],
        "a",
    )
    final, _ = await run_all(engine, requests([None] * len(prices)))
    assert len(final) == len(prices) and all(r.success for r in final.values())
    assert shop.spent <= budget and engine.lanes[0].cost == shop.spent
    if sum(prices) <= budget:
        assert not free.calls


async def test_a_budget_without_prices_is_kept_by_what_answers_have_cost() -> None:
    shop = Priced(300)
    engine = LanesEngine([lane("a", shop, budget=1000)], "a")
    with pytest.raises(ExhaustedError, match=r"no model is left for 7 items \(a: its budget of \$0.000001 is spent\)"):
        await run_all(engine, requests([None] * 10))
    assert sum(shop.calls.values()) == 3 and shop.most <= 2


async def test_a_budget_cannot_be_kept_where_nobody_says_what_answers_cost() -> None:
    engine = LanesEngine([lane("a", Priced(None), budget=1000)], "a")
    with pytest.raises(ExhaustedError, match="does not say what its answers cost"):
        await run_all(engine, requests([None] * 10))
    assert engine.lanes[0].cost is None


class Loads:
    """Local engines of which is written down when each is loaded, and how many are at once."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.most = 0
        self._loaded: set[str] = set()

    def lane(self, name: str, script: Callable[[Item], Outcome] | None = None, **kw: Any) -> Lane:
        """A lane whose engine counts as loaded until it is closed."""
        loads = self

        class Local(ScriptedEngine):
            def __init__(self) -> None:
                super().__init__(script or (lambda item: name), delay=lambda item: 0.001)
                loads._loaded.add(name)
                loads.order.append(name)
                loads.most = max(loads.most, len(loads._loaded))

            async def close(self) -> None:
                loads._loaded.discard(name)

        return Lane(name, Local, local=True, **kw)


async def test_local_lanes_run_one_after_the_other_and_others_beside_them() -> None:
    loads = Loads()
    engine = LanesEngine([loads.lane("a"), loads.lane("b"), lane("s", ScriptedEngine())], "a")
    final, _ = await run_all(engine, requests(["a", "s", "b"] * 30))
    assert len(final) == 90 and loads.most == 1 and loads.order == ["a", "b"]
    assert {r.model for r in final.values()} == {"a", "b", "s"}


async def test_a_chain_of_two_local_models_loads_each_once() -> None:
    loads = Loads()

    def every_third_is_refused(item: Item) -> Outcome:
        return refused() if int(str(item.id)) % 3 == 0 else "a"

    engine = LanesEngine([loads.lane("a", every_third_is_refused, fallback=("b",)), loads.lane("b")], "a")
    final, _ = await run_all(engine, requests(["a"] * 300))
    assert loads.order == ["a", "b"] and loads.most == 1
    assert Counter(r.model for r in final.values()) == {"a": 200, "b": 100}


def test_lanes_that_cannot_be() -> None:
    def make() -> Any:
        raise AssertionError("nothing is made")

    a = Lane("a", make, fallback=("a",))
    for lanes, default, said in [
        ([a], "a", "lane a names itself as its fallback"),
        ([Lane("a", make, fallback=("x",))], "a", "names x as its fallback, which is none of a"),
        ([Lane("a", make)], "b", "b that answers what names no model is none of a"),
        ([Lane("a", make), Lane("a", make)], "a", "two lanes are named a"),
        ([], "a", "at least one lane"),
        (
            [Lane("a", make, fallback=("b",)), Lane("b", make, fallback=("c",)), Lane("c", make, fallback=("a",))],
            "a",
            "go round in a circle: a → b → c → a",
        ),
    ]:
        with pytest.raises(LaneError) as caught:
            LanesEngine(lanes, default)
        assert said in str(caught.value)
    diamond = [Lane("a", make, fallback=("b", "c")), Lane("b", make, fallback=("d",)), Lane("c", make, fallback=("d",))]
    assert chains([*diamond, Lane("d", make)], "a")["a"] == ("a", "b", "d", "c")


# -- limits, on a clock that the test turns --------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def answered(i: int, failure: Failure | None = None) -> Response:
    return BatchResponse(i, None if failure else Answer("x"), 1, failure, tokens_input=1, cost=0)


def test_a_lane_rests_after_failures_in_a_row_and_is_tried_with_one_item() -> None:
    clock = Clock()
    gate = Gate(Lane("a", lambda: None, workers=20), clock)  # type: ignore[arg-type,return-value]
    ask, down = Request("x"), Failure(ErrorClass.TRANSIENT, "no route", cause=Cause.SERVER)
    number = 0
    for rest in (15, 30, 60, 120, 240):
        for _ in range(8 if rest == 15 else 1):
            assert gate.wait(ask) == 0.0
            gate.begin(number, ask)
            if rest > 15:
                assert gate.wait(ask) is None  # one at a time
            gate.end(answered(number, down))
            number += 1
        assert gate.wait(ask) == pytest.approx(rest)
        clock.now += rest
    gate.begin(number, ask)
    gate.end(answered(number))  # it is back
    assert gate.wait(ask) == 0.0 and gate.resting == 0.0
    for n in range(8 + 5):
        clock.now += 300
        gate.begin(-n, ask)
        gate.end(answered(-n, down))
    assert gate.down == "it has failed again and again: no route" and gate.wait(ask) is None


def test_a_time_that_the_other_side_names_is_waited_by_the_whole_lane() -> None:
    clock = Clock()
    gate = Gate(Lane("a", lambda: None), clock)  # type: ignore[arg-type,return-value]
    ask = Request("x")
    gate.begin(1, ask)
    gate.end(answered(1, Failure(ErrorClass.TRANSIENT, "slow down", 7.0, Cause.RATE)))
    assert gate.wait(ask) == 7.0 and gate.resting == 0.0
    clock.now += 7
    assert gate.wait(ask) == 0.0


def test_a_lane_without_workers_finds_out_how_many_a_server_bears() -> None:
    gate = Gate(Lane("a", lambda: None, adaptive=True))  # type: ignore[arg-type,return-value]
    ask = Request("x")
    first = gate.concurrency
    assert first is not None
    for n in range(first):
        assert gate.wait(ask) == 0.0
        gate.begin(n, ask)
    assert gate.wait(ask) is None
    gate.end(answered(0))
    assert gate.concurrency == first + 1
    for n in range(1, first):
        gate.end(answered(n, Failure(ErrorClass.TRANSIENT, "slow down", cause=Cause.RATE)))
    assert first // 2 <= gate.concurrency < first  # once, for all of them
    assert Gate(Lane("a", lambda: None, adaptive=True, workers=3)).concurrency == 3  # type: ignore[arg-type,return-value]


# -- within a run ----------------------------------------------------------------------------------------------------


def make_job(folder: Path, models: list[str | None]) -> tuple[BatchProcessor, BatchJob]:
    processor = BatchProcessor(folder)
    return processor, processor.create_job("a", [Request(f"prompt {i}", model=m) for i, m in enumerate(models)])


def test_a_run_shows_its_lanes_pauses_and_stops_all_of_them(tmp_path: Path) -> None:
    processor, job = make_job(tmp_path, ["a", "b"] * 20)
    engines = {name: ScriptedEngine(gated=True) for name in "ab"}
    lanes = [lane(name, made, workers=3) for name, made in engines.items()]
    run = processor.run(job, LanesEngine(lanes, "a"), RunOptions(workers=1))
    until(lambda: all(made.in_flight == 3 for made in engines.values()))
    until(lambda: sum(seen.waiting for seen in run.snapshot().lanes) == 34)
    snapshot = run.snapshot()
    assert snapshot.in_flight == snapshot.concurrency == 6  # and not the 40 that were handed over
    assert [seen.name for seen in snapshot.lanes] == ["a", "b"]
    run.pause()
    until(lambda: run.snapshot().state is RunState.PAUSED)
    engines["a"].release(3)
    until(lambda: run.snapshot().completed == 3)
    assert engines["a"].in_flight == 0
    run.resume()
    until(lambda: engines["a"].in_flight == 3)
    run.stop("drain")
    for made in engines.values():
        made.release(100)
    assert run.wait(90) and run.error is None and run.snapshot().state is RunState.STOPPED
    assert job.completed == sum(sum(made.calls.values()) for made in engines.values()) < 40
    again = {name: ScriptedEngine() for name in "ab"}
    run = processor.run(job, LanesEngine([lane(name, made) for name, made in again.items()], "a"))
    assert run.wait(90) and job.completed == 40
    assert all(made.calls.keys() == {i for i in range(40) if "ab"[i % 2] == name} - engines[name].calls.keys()
               for name, made in again.items())  # fmt: skip


def test_a_run_shows_as_in_flight_what_a_lane_answers_and_not_what_waits_in_one(tmp_path: Path) -> None:
    processor, job = make_job(tmp_path, [*"a" * 60, *"b" * 3])
    engines = {name: ScriptedEngine(gated=True) for name in "ab"}
    run = processor.run(job, LanesEngine([lane(name, made, workers=3) for name, made in engines.items()], "a"))
    until(lambda: all(made.in_flight == 3 for made in engines.values()))
    assert {item.id for item in run.snapshot().items} == {0, 1, 2, 60, 61, 62}
    for made in engines.values():
        made.release(100)
    assert run.wait(90) and job.completed == 63


def test_a_run_keeps_the_model_that_answered(tmp_path: Path) -> None:
    _, job = make_job(tmp_path, ["a", "b", "a"])
    lanes = [
        lane("a", ScriptedEngine(lambda item: refused() if item.id == 2 else "ok"), fallback=("b",)),
        lane("b", ScriptedEngine()),
    ]
    run = Run(job, LanesEngine(lanes, "a"))
    run.execute()
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        results = list(store.iter_results())
    assert [r.model for r in results] == ["a", "b", "b"] and [r.attempts for r in results] == [1, 1, 2]


@pytest.mark.parametrize("passed", [False, True])
async def test_what_a_content_filter_holds_back_goes_on_only_where_that_is_allowed(passed: bool) -> None:
    held = Failure(ErrorClass.PERMANENT, "a content filter", cause=Cause.FILTERED)
    first, second = ScriptedEngine(lambda item: held), ScriptedEngine()
    lanes = [Lane("a", lambda: first, fallback=("b",), pass_filtered=passed), Lane("b", lambda: second)]
    final, _ = await run_all(LanesEngine(lanes, "a"), requests(["a"]))
    assert (final[0].error is None, final[0].model) == ((True, "b") if passed else (False, "a"))
