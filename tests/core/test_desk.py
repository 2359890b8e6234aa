"""Items that are with a provider: nothing lost and nothing handed over twice, whenever the process dies."""

from __future__ import annotations

import os
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from servers.engines import Item, Response, ScriptedEngine
from servers.remote import Remote, RemoteEngine
from servers.waiting import until

from batch import BatchJob, BatchProcessor, BatchResult, Run
from batch.checkpoint import CheckpointStore
from batch.engines.desk import Desk
from batch.errors import ErrorClass, Failure
from batch.items import Answer, BatchResponse
from batch.options import RunOptions
from batch.running.live import Watch
from batch.running.policy import RetryPolicy
from batch.running.progress import RunState

Folders = Callable[[], Path]


def make(folder: Path, count: int = 10) -> tuple[BatchProcessor, BatchJob]:
    processor = BatchProcessor(folder)
    return processor, processor.create_job("m", [f"prompt {i}" for i in range(count)])


def results(job: BatchJob) -> list[BatchResult]:
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        return list(store.iter_results())


def run(job: BatchJob, engine: Any, **kw: Any) -> Run:
    made = Run(job, engine, kw.pop("options", None), **kw)
    made.retry = RetryPolicy(2, base=0.001)
    made._answering._handed_back = RetryPolicy(2, base=0.001)
    made.execute()
    return made


def handed_over_once(path: Path, count: int) -> None:
    """Every item was given to the provider exactly once."""
    remote = Remote(path)
    assert [item for _, item in remote.asked()] == list(range(count))
    remote.close()


def test_a_run_waits_for_what_is_with_a_provider(tmp_path: Path) -> None:
    _, job = make(tmp_path)
    done = run(job, RemoteEngine(tmp_path / "remote", looks=3))
    assert done.error is None and done.snapshot().state is RunState.FINISHED and job.completed == 10
    assert [r.response_text for r in results(job)] == [f"answer to prompt {i}" for i in range(10)]
    handed_over_once(tmp_path / "remote", 10)


def test_a_run_that_does_not_wait_ends_waiting_and_a_later_one_collects(tmp_path: Path) -> None:
    processor, job = make(tmp_path)
    assert job.checkpoint_file is not None
    done = run(job, RemoteEngine(tmp_path / "remote", looks=4), wait_for_providers=False)
    snapshot = done.snapshot()
    assert (done.error, snapshot.state, job.status, job.reason) == (
        None,
        RunState.WAITING,
        "waiting",
        "10 items with a provider",
    )
    assert snapshot.with_provider == 10 and snapshot.in_flight == 0 and snapshot.eta is None
    assert Watch(job.checkpoint_file).snapshot().state is RunState.WAITING
    again = processor.open_job(job.checkpoint_file)
    done = run(again, RemoteEngine(tmp_path / "remote", looks=4))
    assert done.error is None and again.status == "completed" and again.completed == 10
    handed_over_once(tmp_path / "remote", 10)


@pytest.mark.parametrize("mode", ["drain", "now"])
def test_stopped_while_all_that_is_left_is_with_a_provider(tmp_path: Path, mode: Any) -> None:
    processor, job = make(tmp_path)
    made = processor.run(job, RemoteEngine(tmp_path / "remote", looks=10**9, size=5))
    until(lambda: made.snapshot().with_provider == 10)
    made.stop(mode)
    assert made.wait(90) and made.error is None and made.snapshot().state is RunState.WAITING
    done = run(job, RemoteEngine(tmp_path / "remote"))
    assert job.completed == 10 and done.snapshot().with_provider == 0
    handed_over_once(tmp_path / "remote", 10)


def test_an_engine_that_knows_nothing_of_providers_leaves_their_items_alone(tmp_path: Path) -> None:
    processor, job = make(tmp_path, 6)
    run(job, RemoteEngine(tmp_path / "remote", looks=10**9), wait_for_providers=False)
    other = ScriptedEngine()
    done = run(job, other)
    assert not other.calls and done.snapshot().state is RunState.WAITING and done.error is None
    assert processor.open_job(job.checkpoint_file).status == "waiting"  # type: ignore[arg-type]


def test_items_without_an_answer_are_tried_again_and_given_up_in_the_end(tmp_path: Path) -> None:
    _, job = make(tmp_path)
    done = run(job, RemoteEngine(tmp_path / "remote", loses=[3, 7]))
    assert done.error is None and (job.completed, job.failed) == (8, 2)
    failed = results(job)[3]
    assert (failed.attempts, failed.error_class) == (3, "transient")
    assert failed.error_message == "its submission ended without an answer to it"
    remote = Remote(tmp_path / "remote")
    assert Counter(item for _, item in remote.asked()) == {i: 3 if i in (3, 7) else 1 for i in range(10)}
    remote.close()


def test_every_failed_try_leaves_a_row_and_its_tokens_and_cost_count(tmp_path: Path) -> None:
    def outcome(item: Item) -> Response:
        failure = Failure(ErrorClass.TRANSIENT, f"try {item.attempt}") if item.attempt < 3 and item.id == 0 else None
        answer = None if failure else Answer("right")
        return BatchResponse(item.id, answer, 10, failure, 100, 7, cost=1000, tokens_cached=40, model="teacher")

    class Priced(ScriptedEngine):
        async def answer(self, items: Any, desk: Desk) -> Any:
            async for item in items:
                yield outcome(item)

    processor, job = make(tmp_path, 2)
    run(job, Priced())
    assert job.checkpoint_file is not None
    connection = sqlite3.connect(job.checkpoint_file)
    rows = connection.execute(
        "SELECT a.item, a.attempt, m.name, a.error_class, a.error, a.tokens_input, a.tokens_output, a.tokens_cached,"
        " a.cost FROM attempts a JOIN models m ON m.id = a.model ORDER BY a.id"
    ).fetchall()
    connection.close()
    assert rows == [(0, n, "teacher", "transient", f"try {n}", 100, 7, 40, 1000) for n in (1, 2)]
    for seen in (job, processor.open_job(job.checkpoint_file)):  # as counted, and as recounted
        assert (seen.tokens_input, seen.tokens_output, seen.cost, seen.cost_unknown) == (400, 28, 4000, 0)
    assert [(r.attempts, r.model) for r in results(job)] == [(3, "teacher"), (1, "teacher")]


def test_duplicates_and_strangers_are_counted_and_never_written(tmp_path: Path) -> None:
    class Rude(RemoteEngine):
        async def answer(self, items: Any, desk: Desk) -> Any:
            async for response in super().answer(items, desk):
                yield response
                yield BatchResponse(response.id, Answer("second"), tokens_output=1000)
                yield BatchResponse(10**9, Answer("nobody"))
                yield BatchResponse("a name", Answer("nobody"))

    _, job = make(tmp_path)
    done = run(job, Rude(tmp_path / "remote"))
    snapshot = done.snapshot()
    assert (snapshot.duplicates, snapshot.strangers) == (10, 20)
    assert [r.response_text for r in results(job)] == [f"answer to prompt {i}" for i in range(10)]
    assert job.tokens_output == 30


async def test_what_the_desk_refuses(tmp_path: Path) -> None:
    _, job = make(tmp_path, 4)
    said: list[str] = []

    class Wrong(RemoteEngine):
        async def _hand_over(self, ids: Any, desk: Desk) -> None:
            if not said:
                for key, items in (("a", [99]), ("a", [ids[0], ids[0]]), ("a", ["x"])):
                    with pytest.raises(ValueError, match="items it does not have"):
                        await desk.submitting(key, items)
                await desk.submitting("a", ids[:1])
                with pytest.raises(ValueError, match="item 0 is with a provider already"):
                    await desk.submitting("b", ids[:2])
                with pytest.raises(ValueError, match="'a' was made before"):
                    await desk.submitting("a", ids[1:2])
                await desk.noted("a", {"file": "f1"})
                (seen,) = desk.open_submissions()
                assert seen.details == {"file": "f1"} and list(desk.submission_ids("a")) == ids[:1]
                await desk.withdrawn("a")
                said.append("done")
                ids = ids[1:]
            await super()._hand_over(ids, desk)

    import asyncio

    done = await asyncio.to_thread(run, job, Wrong(tmp_path / "remote", size=4))
    assert done.error is None and said and job.completed == 4
    handed_over_once(tmp_path / "remote", 4)


# -- killed --------------------------------------------------------------------------------------------------------


def in_a_child(work: Callable[[], None]) -> int:
    """The exit code of a process of its own that does it, forked from this one."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def work_on(job: BatchJob, remote: Path, kill_at: int, **kw: Any) -> Callable[[], None]:
    """A run that dies at its `kill_at`th step, as if the plug were pulled."""

    def work() -> None:
        passed = 0

        def step(what: str) -> None:
            nonlocal passed
            passed += 1
            if passed == kill_at:
                os._exit(9)

        assert run(job, RemoteEngine(remote, step=step, size=3, looks=2), **kw).error is None

    return work


def check(job: BatchJob, remote: Path, kept: Sequence[BatchResult]) -> list[BatchResult]:
    """Nothing committed is lost or altered, nothing was handed over twice."""
    now = results(job)
    known = {r.prompt_index: r for r in now}
    assert all(known[r.prompt_index] == r for r in kept)
    if remote.exists():
        seen = Remote(remote)
        assert max(Counter(item for _, item in seen.asked()).values(), default=1) == 1
        seen.close()
    return now


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_once_between_every_two_steps(folders: Folders) -> None:
    at, code = 0, 9
    while code == 9:
        at += 1
        folder = folders()
        processor, job = make(folder, 5)
        remote = folder / "remote"
        code = in_a_child(work_on(job, remote, at))
        assert code in (0, 9)
        kept = check(job, remote, ())
        again = processor.open_job(job.checkpoint_file)  # type: ignore[arg-type]
        assert run(again, RemoteEngine(remote, size=3)).error is None
        assert len(check(again, remote, kept)) == 5 == again.completed and again.tokens_output == 15
        handed_over_once(remote, 5)
    assert at > 15


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 8))])
def test_killed_again_and_again(folders: Folders, seed: int) -> None:
    dice = random.Random(seed)
    folder = folders()
    processor, job = make(folder, 20)
    remote = folder / "remote"
    kept: list[BatchResult] = []
    code = 9
    for _ in range(200):
        code = in_a_child(work_on(job, remote, dice.randint(1, 14), wait_for_providers=dice.random() < 0.7))
        assert code in (0, 9)
        kept = check(job, remote, kept)
        job = processor.open_job(job.checkpoint_file)  # type: ignore[arg-type]
        if len(kept) == 20:
            break
    assert len(kept) == 20
    assert run(job, RemoteEngine(remote), options=RunOptions()).error is None and job.status == "completed"
    handed_over_once(remote, 20)
