"""A job's budget: never passed by what is in flight, and told where it cannot be kept."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.engines.base import closing_answers
from batch.engines.desk import Desk, MemoryDesk
from batch.engines.pull import side_by_side
from batch.engines.reuse import Answers, ReuseEngine
from batch.errors import ErrorClass, Failure
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import RunOptions, SamplingOptions
from batch.processor import BatchProcessor
from batch.running.budget import Budget
from batch.running.progress import RunState
from batch.running.run import Run

DOLLAR = 1_000_000_000


class Paid:
    """An engine whose answers cost what `cost` says of their number; eight at once."""

    name = "paid"
    status = ""
    about: Mapping[str, object] = {}

    def __init__(self, cost: Callable[[int], int | None], most: int | None = None) -> None:
        self.cost, self.most = cost, most
        self.asked: list[str] = []
        self.spent = 0
        self.fail: set[str] = set()

    def most_cost(self, request: Request) -> int | None:
        return self.most

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        async def one(item: BatchItem[Request]) -> BatchResponse[Answer]:
            self.asked.append(item.data.text)
            cost = self.cost(len(self.asked))
            self.spent += cost or 0
            await asyncio.sleep(0.001)
            if item.data.text in self.fail:
                self.fail.discard(item.data.text)
                return BatchResponse(item.id, None, error=Failure(ErrorClass.TRANSIENT, "once"))
            return BatchResponse(item.id, Answer(f"re {item.data.text}"), cost=cost, tokens_input=1, tokens_output=1)

        async with closing_answers(side_by_side(items, one, 8)) as answers:
            async for response in answers:
                yield response

    def partial_texts(self) -> Mapping[ItemId, str]:
        return {}

    async def close(self) -> None:
        pass


def run_with(folder: Path, engine: Paid, budget: float | None, prompts: int = 40) -> Run:
    job = BatchProcessor(folder).create_job("m", [f"p{n}" for n in range(prompts)])
    run = Run(job, engine, RunOptions(budget=budget))  # type: ignore[arg-type]
    run.execute()
    return run


@pytest.mark.parametrize("most", [None, DOLLAR // 10], ids=["found out", "known"])
def test_a_budget_is_not_passed_and_the_rest_stays_pending(tmp_path: Path, most: int | None) -> None:
    engine = Paid(lambda n: DOLLAR // 10, most)
    run = run_with(tmp_path, engine, 1.0)
    assert run.job.cost == engine.spent == DOLLAR
    assert run.job.completed == 10 and run.snapshot().state is RunState.STOPPED and run.error is None
    assert "the budget of $1.00 is used up: $1.00 spent" in run.out_of_budget
    # Going on with the same budget asks nothing; with a larger one it goes on.
    again = Run(run.job, engine, RunOptions(budget=1.0))  # type: ignore[arg-type]
    again.execute()
    assert len(engine.asked) == 10 and again.out_of_budget
    last = Run(run.job, engine, RunOptions(budget=4.0))  # type: ignore[arg-type]
    last.execute()
    assert run.job.completed == 40 and last.snapshot().state is RunState.FINISHED and not last.out_of_budget


def test_a_budget_that_holds_everything_stops_nothing(tmp_path: Path) -> None:
    run = run_with(tmp_path, Paid(lambda n: DOLLAR // 10), 4.0)
    assert run.job.completed == 40 and run.snapshot().state is RunState.FINISHED


def test_a_budget_over_costs_that_nobody_knows_stops_at_once(tmp_path: Path) -> None:
    engine = Paid(lambda n: None)
    run = run_with(tmp_path, engine, 1.0)
    assert len(engine.asked) == 1 and "not known what the answers cost" in run.out_of_budget


@given(
    costs=st.lists(st.integers(0, 50), min_size=1, max_size=60),
    bound=st.integers(50, 80),
    limit=st.integers(0, 1500),
    order=st.randoms(use_true_random=False),
)
def test_no_order_of_answers_passes_a_budget_whose_bounds_hold(
    costs: list[int], bound: int, limit: int, order: object
) -> None:
    budget = Budget(limit / DOLLAR)
    budget.open(0, lambda _: bound)
    spent, flying, left = 0, [], list(enumerate(costs))
    while left or flying:
        request = Request("x")
        if left and budget.affords(request):
            index, cost = left.pop()
            budget.reserve(index, request)
            flying.append((index, cost))
        elif flying:
            index, cost = flying.pop(order.randrange(len(flying)))  # type: ignore[attr-defined]
            spent += cost
            budget.settle(BatchResponse(index, Answer("a"), cost=cost))
        else:
            assert budget.over
            break
        assert spent + sum(cost for _, cost in flying) <= limit or not spent


# -- equal requests ------------------------------------------------------------------------------------------------


async def answers_of(engine: ReuseEngine, prompts: list[Request]) -> dict[ItemId, BatchResponse[Answer]]:
    async def items() -> AsyncIterator[BatchItem[Request]]:
        for n, prompt in enumerate(prompts):
            yield BatchItem(n, prompt)

    return {r.id: r async for r in engine.answer(items(), MemoryDesk())}


def over(paid: Paid, file: Path | None = None, identity: str = "m", **sampling: object) -> ReuseEngine:
    return ReuseEngine(paid, SamplingOptions(**sampling), {"model": identity}, Answers(file))  # type: ignore[arg-type]


async def test_equal_requests_are_asked_once_and_marked() -> None:
    paid = Paid(lambda n: 5)
    got = await answers_of(over(paid), [Request("a"), Request("b"), Request("a"), Request("a")])
    assert sorted(paid.asked) == ["a", "b"]
    first, again = got[0], got[2]
    assert first.data is not None and first.data.extra is None and first.cost == 5
    assert again.data is not None and again.data.text == "re a" and again.cost == 0 and again.tokens_output == 0
    assert again.data.extra == {"reused": 0}


@pytest.mark.parametrize("params", [{"temperature": 0.7}, {"n": 2}, {"seed": 1}, {"max_tokens": 9}])
async def test_what_shapes_an_answer_keeps_requests_apart(params: dict[str, object]) -> None:
    paid = Paid(lambda n: 5)
    other = Request("a", {"params": params})
    await answers_of(over(paid), [Request("a"), other])
    assert len(paid.asked) == 2


async def test_at_a_temperature_every_request_is_asked() -> None:
    paid = Paid(lambda n: 5)
    await answers_of(over(paid, temperature=0.5), [Request("a"), Request("a")])
    assert len(paid.asked) == 2


async def test_an_accident_of_the_first_is_not_shared() -> None:
    paid = Paid(lambda n: 5)
    paid.fail = {"a"}
    got = await answers_of(over(paid), [Request("a"), Request("a")])
    assert got[0].error is not None and got[0].retry_in is None
    assert got[1].error is not None and got[1].retry_in == 0.0 and got[1].cost == 0


async def test_answers_of_other_jobs_by_all_that_shapes_them(tmp_path: Path) -> None:
    file = tmp_path / "answers.cache"
    for identity, sampling, asked in (("m", {}, 1), ("m", {}, 0), ("other", {}, 1), ("m", {"system": "s"}, 1)):
        paid = Paid(lambda n: 5)
        engine = over(paid, file, identity, **sampling)
        got = await answers_of(engine, [Request("a")])
        await engine.close()
        assert len(paid.asked) == asked
        if not asked:
            assert got[0].data is not None and got[0].data.extra == {"reused": "another job"}


async def test_killed_after_any_answer_nothing_is_paid_again(tmp_path: Path) -> None:
    file, prompts = tmp_path / "answers.cache", [Request(text) for text in "abca"]
    paid, killed = Paid(lambda n: 5), over(Paid(lambda n: 5), file)

    async def items() -> AsyncIterator[BatchItem[Request]]:
        for n, prompt in enumerate(prompts):
            yield BatchItem(n, prompt)

    answered: list[ItemId] = []
    async for response in killed.answer(items(), MemoryDesk()):
        answered.append(response.id)
        disk = tmp_path / str(len(answered))  # as it stands now, and as another process finds it after the kill
        disk.mkdir()
        for part in tmp_path.glob("answers.cache*"):
            if not part.name.endswith("-shm"):
                shutil.copy(part, disk)
        paid.asked.clear()
        again = over(paid, disk / file.name)
        assert len(await answers_of(again, prompts)) == 4
        await again.close()
        assert not set(paid.asked) & {"abca"[int(index)] for index in answered}
    await killed.close()
    assert len(answered) == 4


async def test_jobs_side_by_side_remember_for_each_other(tmp_path: Path) -> None:
    paid = Paid(lambda n: 5)
    one, other = over(paid, tmp_path / "answers.cache"), over(paid, tmp_path / "answers.cache")
    for text in "abc":
        for engine in (one, other):
            await answers_of(engine, [Request(text)])
    assert paid.asked == ["a", "b", "c"]
    await one.close()
    await other.close()


async def test_a_cache_that_is_no_database_is_done_without(tmp_path: Path) -> None:
    file = tmp_path / "answers.cache"
    file.write_bytes(b"no database" * 100)
    paid = Paid(lambda n: 5)
    engine = over(paid, file)
    await answers_of(engine, [Request("a")])
    await engine.close()
    assert paid.asked == ["a"]
