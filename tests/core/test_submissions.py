"""What is with a provider, tries and costs: written by the run's writer, read from any process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch import BatchProcessor
from batch.checkpoint import DONE, WITH_PROVIDER, AttemptRow, CheckpointStore, ResultRow, ResultWriter
from batch.checkpoint import submissions as subs
from batch.engines.desk import SubmissionState
from batch.errors import CheckpointError
from batch.items import Answer, BatchResponse, Request
from batch.job import BatchJob


class Bench:
    """A job, its writer, and what a later process reads."""

    def __init__(self, folder: Path) -> None:
        self.processor = BatchProcessor(folder)
        self.job = self.processor.create_job("asked", [Request(f"p{i}", model="meant", reason="why") for i in range(6)])
        self.committed: list[int] = []
        self.errors: list[CheckpointError] = []
        self.writer = self.open()

    def open(self) -> ResultWriter:
        return ResultWriter(
            self.job, lambda rows: self.committed.extend(r.id for r in rows), self.errors.append, lambda: 1.0
        )

    def row(self, index: int, success: bool = True, old: int = 0, **more: object) -> ResultRow:
        bare = ResultRow(index, "", "text" * success, success, 5, 7, 0.1, 1, None, None, None, old)
        return bare._replace(**more)

    def done(self, **more: bool) -> list[int]:
        with self.store() as store:
            return list(store.done_map(6, **more))

    def store(self) -> CheckpointStore:
        assert self.job.checkpoint_file is not None
        return CheckpointStore(self.job.checkpoint_file)

    def fresh(self) -> BatchJob:
        with self.store() as store:
            return store.job(recount=True)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.writer.close()


def test_a_submission_from_intent_to_settling(bench: Bench) -> None:
    writer = bench.writer
    writer.write(subs.insert("k1", [3, 1, 2], "lane", {"file": "f"})).result(5)
    with bench.store() as store:
        (found,) = subs.open_submissions(store)
        assert (found.key, found.state, found.count, found.lane) == ("k1", SubmissionState.INTENDED, 3, "lane")
        assert found.remote_id is None and found.details == {"file": "f"} and found.created_at
        assert subs.submission_ids(store, "k1") == [3, 1, 2] and subs.with_provider(store) == {1, 2, 3}
    assert bench.done() == [0, *[WITH_PROVIDER] * 3, 0, 0] and bench.fresh().with_provider == 3
    writer.write(subs.note("k1", {"uploaded": 2**80})).result(5)
    writer.write(subs.submit("k1", "remote-1", {"n": 1})).result(5)
    writer.put(bench.row(1))
    writer.write(subs.note("k1", {"seen": True})).result(5)
    assert bench.committed == [1]  # rows that were queued before are on the disk
    with bench.store() as store:
        (found,) = subs.open_submissions(store)
        assert found.state is SubmissionState.SUBMITTED and found.remote_id == "remote-1" and found.submitted_at
        assert found.details == {"file": "f", "uploaded": 2**80, "n": 1, "seen": True}
    assert bench.done() == [0, DONE, WITH_PROVIDER, WITH_PROVIDER, 0, 0] and bench.fresh().with_provider == 2
    writer.write(subs.settle("k1")).result(5)
    writer.write(subs.settle("k1")).result(5)  # told twice is told once
    assert bench.done() == [0, DONE, 0, 0, 0, 0] and bench.fresh().with_provider == 0
    with bench.store() as store:
        assert subs.open_submissions(store) == []
        (found,) = subs.all_submissions(store)
        assert found.state is SubmissionState.SETTLED and found.settled_at
        assert subs.submission_ids(store, "k1") == [3, 1, 2]


def test_what_may_not_be_written_changes_nothing_and_does_not_end_the_writer(bench: Bench) -> None:
    write = bench.writer.write
    write(subs.insert("k", [0, 1])).result(5)
    for change, error in (
        (subs.insert("k", [4]), "made before"),
        (subs.insert("l", [4, 1]), "items 1 … are already with a provider"),
        (subs.insert("l", [4, 4]), "named twice"),
        (subs.insert("l", [4, 99]), "does not have"),
    ):
        with pytest.raises(ValueError, match=error):
            write(change).result(5)
    for change in (subs.note("none", {"a": 1}), subs.settle("none")):
        with pytest.raises(KeyError):
            write(change).result(5)
    write(subs.withdraw("k")).result(5)
    with pytest.raises(ValueError, match="withdrawn already"):
        write(subs.submit("k", "late")).result(5)
    with pytest.raises(ValueError, match="made before"):
        write(subs.insert("k", [0])).result(5)  # a key is never used twice
    write(subs.insert("m", [0, 1])).result(5)
    with bench.store() as store:
        assert [s.key for s in subs.open_submissions(store)] == ["m"]
        with pytest.raises(KeyError):
            subs.submission_ids(store, "none")
    assert not bench.errors


def test_a_fault_of_the_disk_reaches_the_future_and_the_run(bench: Bench) -> None:
    def fault(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    first, second = bench.writer.write(fault), bench.writer.write(subs.insert("k", [0]))
    for future in (first, second):
        with pytest.raises(CheckpointError, match="No space left"):
            future.result(5)
    with pytest.raises(CheckpointError, match="No space left"):
        bench.writer.write(subs.insert("k", [0])).result(5)
    assert len(bench.errors) == 1


def test_who_answered_at_what_price_and_every_try(bench: Bench) -> None:
    writer, job = bench.writer, bench.job
    writer.attempt(AttemptRow(0, 1, "lane-a", "transient", "cut \ud800 off", 100, 3, 50, 40, 0.5))
    writer.attempt(AttemptRow(1, 1, None, "transient", "timed out", 0, 0, 0, None, 0.5))
    writer.attempt(AttemptRow(2, 1, None, "transient", "torn", 10, 0, 0, None, 0.5))
    writer.put(bench.row(0, model="lane-b", cost=2, cached=3, reasoning=4, units=5))
    writer.put(bench.row(1, cost=7))
    writer.put(bench.row(2, cost=7))
    writer.put(bench.row(3, success=False, cost=11))
    writer.put(bench.row(4))
    writer.close()
    job.model_id = "other"
    bench.writer = bench.open()
    bench.writer.put(bench.row(3, old=1, cost=13))
    bench.writer.close()
    with bench.store() as store:
        r = store.results()
        assert [x.model for x in r] == ["lane-b", "asked", "asked", "other", "asked", None]
        assert [x.cost for x in r] == [42, 7, None, 24, None, None]
        assert (r[0].tokens_cached, r[0].tokens_reasoning, r[0].units) == (3, 4, 5)
        assert {(x.meant_for, x.meant_why) for x in r} == {("meant", "why")} and r[5].attempts == 0
        assert store.answered_by() == {"asked": 3, "lane-b": 1, "other": 1}
        assert store.request(2).model == "meant"
    again = bench.fresh()
    assert again.cost == job.cost == 40 + 2 + 7 + 7 + 11 + 13 and again.cost_unknown == 2
    assert again.tokens_input == 6 * 5 + 110 and (again.completed, again.failed) == (5, 0)
    assert (again.model_id, again.asked_model) == ("other", "asked")


@pytest.mark.parametrize(
    "said",
    [
        {"tokens_output": 10**30},
        {"tokens_input": -1},
        {"tokens_input": 2.5},
        {"cost": 10**30},
        {"cost": -1},
        {"cost": 0.5},
        {"units": None},
        {"duration_ns": float("nan")},
        {"duration_ns": 10**400},
        {"tokens_cached": 10**5000},
        {"model": 5},
        {"data": Answer(5)},  # type: ignore[arg-type]
        {"data": Answer("x", {"n": 10**5000})},
    ],
    ids=lambda said: str(next(iter(said))),
)
def test_figures_that_cannot_be_kept_are_that_items_failure(bench: Bench, said: dict[str, object]) -> None:
    response = BatchResponse(0, **{"data": Answer("x"), **said})  # type: ignore[arg-type]
    row = ResultRow.of(response, "p", None, 1, replaces=False)
    assert not row.success and row.error and "the engine said" in row.error
    bench.writer.put(row)
    bench.writer.attempt(AttemptRow.of(response, None, 1))
    bench.writer.close()
    assert not bench.errors and bench.fresh().failed == 1
