"""Steering a run while it goes, and engines that do not behave."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from servers.engines import QuittingEngine, RudeEngine, ScriptedEngine, permanent, raises, transient
from servers.waiting import until

from batch import BatchJob, BatchProcessor, Run
from batch.checkpoint import CheckpointStore, JobLock, list_jobs, lock_owner
from batch.checkpoint.lock import lock_path
from batch.errors import BatchError, CheckpointError, FatalError, PermanentError
from batch.options import OptionError, RunOptions
from batch.running.live import LiveFile, Watch, live_path, read_live
from batch.running.progress import RunState

VICTIM = Path(__file__).parents[1] / "servers" / "victim.py"


@pytest.fixture
def processor(tmp_path: Path) -> BatchProcessor:
    return BatchProcessor(tmp_path)


def make(processor: BatchProcessor, count: int = 20) -> BatchJob:
    return processor.create_job("m", [f"prompt {i}" for i in range(count)])


def results(job: BatchJob) -> list[Any]:
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        return list(store.iter_results())


def nothing_is_left(job: BatchJob) -> None:
    """A run cleans up behind itself: no lock, no live file, no log."""
    assert job.checkpoint_file is not None
    assert [p.name for p in job.checkpoint_file.parent.iterdir()] == [job.checkpoint_file.name]


def test_out_of_order_answers_keep_to_their_items(processor: BatchProcessor) -> None:
    job = make(processor)
    engine = ScriptedEngine(delay=lambda item: (20 - int(item.id)) * 0.002)
    seen: list[int] = []
    run = processor.run(
        job, engine, RunOptions(workers=20), on_results=lambda rs: seen.extend(r.prompt_index for r in rs)
    )
    assert run.wait(90)
    assert [r.response_text for r in results(job)] == [f"answer to prompt {i}" for i in range(20)]
    assert sorted(seen) == list(range(20)) and seen != sorted(seen)
    assert (run.snapshot().state, run.error, engine.closed) == (RunState.FINISHED, None, 1)
    nothing_is_left(job)


def test_concurrency_is_never_exceeded_and_changes_while_it_runs(processor: BatchProcessor) -> None:
    job = make(processor, 40)
    engine = ScriptedEngine(gated=True)
    run = processor.run(job, engine, RunOptions(workers=3))
    until(lambda: engine.in_flight == 3)
    engine.release(5)
    until(lambda: run.snapshot().completed == 5 and engine.in_flight == 3)
    assert engine.most == 3
    run.set_concurrency(8)
    until(lambda: engine.in_flight == 8)
    assert run.snapshot().concurrency == 8 and run.snapshot().in_flight == 8
    engine.most = 0
    run.set_concurrency(0)  # the least is one
    engine.release(7)
    until(lambda: engine.in_flight == 1)
    engine.release(4)
    until(lambda: run.snapshot().completed == 16 and engine.in_flight == 1)
    assert engine.most == 1
    engine.release(100)
    assert run.wait(90) and len(results(job)) == 40
    assert max(engine.calls.values()) == 1


def test_pause_gives_nothing_out_and_stops_the_clock(processor: BatchProcessor) -> None:
    job = make(processor, 12)
    engine = ScriptedEngine(gated=True)
    run = processor.run(job, engine, RunOptions(workers=4))
    until(lambda: engine.in_flight == 4)
    run.pause()
    until(lambda: run.snapshot().state is RunState.PAUSED)
    engine.release(4)  # what is in flight comes in
    until(lambda: run.snapshot().completed == 4)
    before = run.snapshot()
    time.sleep(0.12)
    after = run.snapshot()
    assert sum(engine.calls.values()) == 4 and engine.in_flight == 0
    assert (after.elapsed, after.eta, after.rates) == (before.elapsed, before.eta, before.rates)
    run.resume()
    until(lambda: engine.in_flight == 4)
    assert run.snapshot().state is RunState.RUNNING
    engine.release(100)
    assert run.wait(90) and len(results(job)) == 12


def test_paused_before_it_starts(processor: BatchProcessor) -> None:
    job = make(processor, 3)
    engine = ScriptedEngine()
    run = Run(job, engine, RunOptions(workers=2))
    run.pause()
    run.start()
    until(lambda: live_path(job.checkpoint_file).exists())  # type: ignore[arg-type]
    time.sleep(0.05)
    assert not engine.calls and run.snapshot().elapsed == 0 and run.snapshot().state is RunState.PAUSED
    run.resume()
    assert run.wait(90) and run.snapshot().state is RunState.FINISHED


def test_the_time_of_loading_is_in_no_mean(processor: BatchProcessor) -> None:
    class Slow(ScriptedEngine):
        async def answer(self, items: Any, desk: Any) -> AsyncIterator[Any]:
            await asyncio.sleep(0.3)  # a model is loaded
            async for response in super().answer(items, desk):
                yield response

    job = make(processor, 3)
    run = processor.run(job, Slow(gated=True), RunOptions(workers=3))
    assert run.snapshot().state is RunState.STARTING and run.snapshot().elapsed == 0
    until(lambda: run.snapshot().loading > 0 and run.engine.in_flight == 3)  # type: ignore[union-attr]
    time.sleep(0.05)
    run.engine.release(3)  # type: ignore[union-attr]
    assert run.wait(90)
    ended = run.snapshot()
    assert ended.loading >= 0.29 and ended.elapsed >= 0.04 and job.elapsed == ended.elapsed
    with CheckpointStore(job.checkpoint_file) as store:  # type: ignore[arg-type]
        assert store.job().elapsed == pytest.approx(ended.elapsed, abs=0.02)


def test_drain_finishes_what_is_in_flight(processor: BatchProcessor) -> None:
    job = make(processor)
    engine = ScriptedEngine(gated=True)
    run = processor.run(job, engine, RunOptions(workers=4))
    until(lambda: engine.in_flight == 4)
    run.stop()
    until(lambda: engine.ended)
    assert run.snapshot().state is RunState.DRAINING and not run.wait(0.01)
    engine.release(4)
    assert run.wait(90)
    assert len(results(job)) == 4 and sum(engine.calls.values()) == 4
    snapshot = run.snapshot()
    assert (snapshot.state, snapshot.reason, snapshot.eta, job.status) == (RunState.STOPPED, "stopped", None, "running")
    nothing_is_left(job)


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("drained_first", [False, True])
def test_stop_now_abandons_what_is_in_flight(processor: BatchProcessor, paused: bool, drained_first: bool) -> None:
    job = make(processor)
    engine = ScriptedEngine(gated=True)
    run = processor.run(job, engine, RunOptions(workers=4))
    until(lambda: engine.in_flight == 4)
    engine.release(2)
    until(lambda: run.snapshot().completed == 2 and engine.in_flight == 4)
    if paused:
        run.pause()
    if drained_first:
        run.stop("drain")
    run.stop("now")
    assert run.wait(90) and engine.closed == 1
    assert len(results(job)) == 2 and job.status == "running" and job.reason == "stopped"
    engine = ScriptedEngine()
    assert processor.run(job, engine, RunOptions(workers=4)).wait(90)
    assert set(engine.calls) == set(range(20)) - {r.prompt_index for r in run.snapshot().recent}
    assert len(results(job)) == 20


@pytest.mark.parametrize("mode", ["drain", "now"])
def test_stop_before_start(processor: BatchProcessor, mode: Any) -> None:
    job = make(processor)
    engine = ScriptedEngine()
    run = Run(job, engine)
    run.stop(mode)
    run.start()
    assert run.wait(90) and not engine.calls
    assert (run.snapshot().state, job.status, job.reason) == (RunState.STOPPED, "running", "stopped")
    run.stop()  # and afterwards it is no fault
    run.pause()
    run.set_concurrency(3)


def test_unknown_ids_and_second_answers_change_nothing(processor: BatchProcessor) -> None:
    job = make(processor)
    run = processor.run(job, RudeEngine(), RunOptions(workers=3))
    assert run.wait(90)
    assert [r.response_text for r in results(job)] == [f"answer to prompt {i}" for i in range(20)]
    assert (job.completed, job.failed, job.tokens_output, job.status) == (20, 0, 60, "completed")
    snapshot = run.snapshot()
    assert (snapshot.completed, snapshot.in_flight, snapshot.errors) == (20, 0, ())


def test_an_engine_that_ends_early_is_an_error_and_no_success(processor: BatchProcessor) -> None:
    job = make(processor)
    run = processor.run(job, QuittingEngine(5), RunOptions(workers=1))
    assert run.wait(90)
    assert isinstance(run.error, FatalError) and run.snapshot().state is RunState.FAILED
    assert job.status == "failed" and job.reason is not None and job.reason.startswith("the engine ended with")
    assert len(results(job)) == job.completed == 5


def test_an_engine_that_ends_with_items_in_its_hands(processor: BatchProcessor) -> None:
    job = make(processor)
    run = processor.run(job, QuittingEngine(2, gated=False, delay=lambda i: int(i.id) * 0.01), RunOptions(workers=6))
    assert run.wait(90)
    assert "the engine ended" in str(run.error) and len(results(job)) == 2


@pytest.mark.parametrize("error", [RuntimeError("driver lost"), FatalError("no such model"), PermanentError("odd")])
def test_an_engine_that_raises(processor: BatchProcessor, error: Exception) -> None:
    job = make(processor)
    engine = QuittingEngine(4, error)
    run = processor.run(job, engine, RunOptions(workers=1))
    assert run.wait(90)
    assert run.error is error and engine.closed == 1
    reason = str(error) if isinstance(error, BatchError) else "RuntimeError: driver lost"
    assert (job.status, job.reason, run.snapshot().state) == ("failed", reason, RunState.FAILED)
    assert len(results(job)) == 4
    nothing_is_left(job)
    assert processor.run(job, ScriptedEngine()).wait(90) and len(results(job)) == 20


def test_an_engine_that_raises_for_one_item(processor: BatchProcessor) -> None:
    job = make(processor, 3)
    run = processor.run(job, ScriptedEngine(raises(FatalError("gone"))), RunOptions(workers=1))
    assert run.wait(90) and str(run.error) == "gone" and results(job) == []


def test_an_impossible_number_from_an_engine_is_that_items_failure(processor: BatchProcessor) -> None:
    from types import SimpleNamespace

    job = make(processor, 3)
    huge = iter((10**30, 5, 10**30))
    kept = processor.process_batch(job, lambda p: SimpleNamespace(text=p, tokens_output=next(huge)))
    assert [r.success for r in kept] == [False, True, False] and (job.completed, job.failed) == (1, 2)
    assert kept[0].error_message == f"the engine said tokens_output = {10**30}, which cannot be kept"
    assert all(r.success for r in processor.process_batch(job, str.upper, retry_failed=True))


def test_retries_come_soon_and_not_after_all_others(processor: BatchProcessor) -> None:
    job = make(processor, 200)
    engine = ScriptedEngine(
        lambda item: transient() if item.id == 0 and item.attempt < 3 else "ok", delay=lambda item: 0.002
    )
    run = Run(job, engine, RunOptions(workers=2, retries=5))
    run.retry = type(run.retry)(5, base=0.004)
    run.execute()
    order = [i for i, _ in engine.attempts]
    assert [a for i, a in engine.attempts if i == 0] == [1, 2, 3]
    assert len(order) - 1 - order[::-1].index(0) < 150
    assert results(job)[0].attempts == 3 and job.completed == 200


def test_only_transient_failures_are_tried_again(processor: BatchProcessor) -> None:
    kinds = ["transient", "exhausted", "permanent"]
    job = make(processor, 3)
    from batch.errors import ErrorClass, Failure

    engine = ScriptedEngine(lambda item: Failure(ErrorClass(kinds[int(item.id)]), f"{kinds[int(item.id)]}!"))
    run = Run(job, engine, RunOptions(workers=3, retries=2))
    run.retry = type(run.retry)(2, base=0.001)
    run.execute()
    assert dict(engine.calls) == {0: 3, 1: 1, 2: 1}
    assert [(r.error_class, r.error_message, r.attempts) for r in results(job)] == [
        ("transient", "transient!", 3),
        ("exhausted", "exhausted!", 1),
        ("permanent", "permanent!", 1),
    ]
    assert dict(run.snapshot().errors) == {
        "transient: transient!": 1,
        "exhausted: exhausted!": 1,
        "permanent: permanent!": 1,
    }


def test_a_stop_leaves_what_waits_for_another_try_pending(processor: BatchProcessor) -> None:
    job = make(processor, 4)
    engine = ScriptedEngine(lambda item: transient(retry_after=60) if int(item.id) < 2 else "ok", gated=True)
    run = processor.run(job, engine, RunOptions(workers=3, retries=3))
    until(lambda: engine.in_flight == 3)  # 0, 1, 2; the latest is let go first
    engine.release(2)
    until(lambda: run.snapshot().retrying == 1)
    run.stop("drain")
    until(lambda: engine.ended)
    engine.release(10)
    assert run.wait(90)
    # Neither 0, that failed while the run was ending, nor 1, that was waiting, is a failure: nobody gave them up.
    assert (job.failed, job.status) == (0, "running")
    again = ScriptedEngine()
    assert processor.run(job, again).wait(90)
    assert {0, 1} <= set(again.calls) and job.completed == 4


def test_waiting_for_a_retry_does_not_end_the_run(processor: BatchProcessor) -> None:
    job = make(processor, 1)
    engine = ScriptedEngine(lambda item: transient(retry_after=0.05) if item.attempt == 1 else "ok")
    run = processor.run(job, engine, RunOptions(retries=1))
    assert run.wait(90) and job.completed == 1 and engine.calls[0] == 2


def test_a_bad_strategy_never_gets_a_run(processor: BatchProcessor) -> None:
    with pytest.raises(OptionError):
        Run(make(processor), ScriptedEngine(), RunOptions(on_error="threshold:many"))
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        Run(BatchJob("abc", "m", ["a"], 1), ScriptedEngine())


def test_threshold_drains_and_counts_all(processor: BatchProcessor) -> None:
    job = make(processor, 30)
    engine = ScriptedEngine(lambda item: permanent(), delay=lambda item: 0.001)
    run = processor.run(job, engine, RunOptions(workers=5, on_error="threshold:4"))
    assert run.wait(90)
    assert 4 <= job.failed <= 4 + 5 and len(results(job)) == job.failed == sum(engine.calls.values())
    assert job.status == "failed" and "(threshold:4)" in str(job.reason)


def test_snapshot_from_many_threads_while_it_runs(processor: BatchProcessor) -> None:
    job = make(processor, 600)
    run = processor.run(job, ScriptedEngine(), RunOptions(workers=64))
    faults: list[str] = []

    def look() -> None:
        last = -1
        while not run.wait(0):
            s = run.snapshot()
            if not (last <= s.processed <= s.total and 0 <= s.in_flight <= 64):
                faults.append(f"{last} {s.processed} {s.in_flight}")
            last = s.processed

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == [] and run.snapshot().completed == 600


# -- two processes -----------------------------------------------------------------------------------------------


def test_two_runners_on_one_job(processor: BatchProcessor) -> None:
    job = make(processor)
    engine = ScriptedEngine(gated=True)
    run = processor.run(job, engine)
    until(lambda: engine.in_flight > 0)
    other = processor.open_job(job.checkpoint_file)  # type: ignore[arg-type]
    for attempt in (
        lambda: processor.run(other, ScriptedEngine()),
        lambda: processor.process_batch(other, str),
        lambda: processor.save_checkpoint(other, []),
    ):
        with pytest.raises(CheckpointError, match=f"is being run by process {os.getpid()}; follow it with"):
            attempt()
    (line,) = list_jobs(job.checkpoint_file.parent)  # type: ignore[union-attr]
    assert line.owner is not None and line.owner.pid == os.getpid()
    engine.release(100)
    assert run.wait(90) and len(results(job)) == 20
    assert lock_owner(job.checkpoint_file) is None  # type: ignore[arg-type]


def start_victim(job: BatchJob, *args: str) -> subprocess.Popen[str]:
    assert job.checkpoint_file is not None
    return subprocess.Popen(
        [sys.executable, str(VICTIM), str(job.checkpoint_file), str(job.checkpoint_file.with_suffix(".calls")), *args],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_another_process_runs_and_is_steered_and_killed(processor: BatchProcessor) -> None:
    job = make(processor, 100_000)
    assert job.checkpoint_file is not None
    child = start_victim(job, "--delay", "0.005", "--workers", "2")
    try:
        until(lambda: read_live(job.checkpoint_file) is not None)  # type: ignore[arg-type]
        watch = Watch(job.checkpoint_file)
        assert watch.running and watch.snapshot().pid == child.pid and watch.snapshot().total == 100_000
        with pytest.raises(CheckpointError, match=f"is being run by process {child.pid};"):
            processor.run(job, ScriptedEngine())
        until(lambda: watch.snapshot().completed > 0)
        watch.pause()
        until(lambda: watch.snapshot().state is RunState.PAUSED)
        until(lambda: watch.snapshot().in_flight == 0)
        count = watch.snapshot().completed
        watch.set_concurrency(5)
        until(lambda: watch.snapshot().concurrency == 5)
        assert watch.snapshot().completed == count
        watch.resume()
        until(lambda: watch.snapshot().completed > count)
        (line,) = list_jobs(job.checkpoint_file.parent)
        assert line.owner is not None and line.owner.pid == child.pid and line.status == "running"
        # A dead owner's lock is free, and what it left behind is not taken for news.
        child.send_signal(signal.SIGKILL)
        child.wait(90)
        assert live_path(job.checkpoint_file).exists() and lock_path(job.checkpoint_file).exists()
        assert not watch.running and watch.snapshot().state is RunState.STOPPED
        with pytest.raises(CheckpointError, match="is not running"):
            watch.pause()
        (line,) = list_jobs(job.checkpoint_file.parent)
        assert line.owner is None and line.completed == watch.snapshot().completed > count
        child = start_victim(job, "--delay", "0.005", "--workers", "2")
        until(lambda: watch.running and watch.snapshot().pid == child.pid)
        until(lambda: watch.snapshot().state is RunState.RUNNING)
        watch.stop("drain")
        assert watch.wait(90) and child.wait(30) == 0
        assert watch.snapshot().state is RunState.STOPPED and watch.snapshot().reason == "stopped"
        assert not live_path(job.checkpoint_file).exists() and not lock_path(job.checkpoint_file).exists()
    finally:
        child.kill()
        child.wait()


def test_stale_news_of_a_dead_runner(processor: BatchProcessor) -> None:
    """Until the new runner has written a snapshot, the old one's is not shown as its own."""
    job = make(processor)
    assert job.checkpoint_file is not None
    engine = ScriptedEngine(gated=True)
    run = processor.run(job, engine)
    until(lambda: read_live(job.checkpoint_file) is not None)  # type: ignore[arg-type]
    stale = json.loads(live_path(job.checkpoint_file).read_bytes()) | {"pid": 1, "completed": 19}
    engine.release(100)
    assert run.wait(90)
    live_path(job.checkpoint_file).write_text(json.dumps(stale), "utf-8")
    lock = JobLock(job.checkpoint_file)
    lock.acquire()
    try:
        snapshot = Watch(job.checkpoint_file).snapshot()
        assert (snapshot.state, snapshot.pid, snapshot.completed) == (RunState.STARTING, os.getpid(), 20)
    finally:
        lock.release()


def test_commands_of_before_are_not_obeyed(processor: BatchProcessor) -> None:
    job = make(processor)
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        store.send("stop", "now")
        store.send("concurrency", "rubbish")
    run = processor.run(job, ScriptedEngine())
    assert run.wait(90) and run.snapshot().state is RunState.FINISHED


def test_rubbish_in_the_control_table_and_the_live_file(processor: BatchProcessor) -> None:
    job = make(processor)
    assert job.checkpoint_file is not None
    engine = ScriptedEngine(gated=True)
    run = processor.run(job, engine)
    until(lambda: engine.in_flight > 0)
    with CheckpointStore(job.checkpoint_file) as store:
        for command, value in [
            ("dance", None),
            ("concurrency", "-5"),
            ("concurrency", "x"),
            ("concurrency", "²"),
            ("concurrency", None),
            ("concurrency", "3"),
        ]:
            store.send(command, value)
    until(lambda: run.snapshot().concurrency == 3)
    engine.release(100)
    assert run.wait(90)
    for rubbish in (b"", b"{}", b"[]", b"null", b'{"state": "dancing"}', b"\xff\xfe"):
        live_path(job.checkpoint_file).write_bytes(rubbish)
        assert read_live(job.checkpoint_file) is None


def test_snapshots_with_hostile_text_go_through_the_live_file(processor: BatchProcessor) -> None:
    job = processor.create_job("m", ["lone \ud800 surrogate \x1b]52;c;aGk=\x07"])
    assert job.checkpoint_file is not None
    run = Run(job, ScriptedEngine(lambda item: "answer \udfff [bold]\x00"), RunOptions())
    run.execute()
    LiveFile(job.checkpoint_file).write(run.snapshot())
    snapshot = read_live(job.checkpoint_file)
    assert snapshot is not None and snapshot.recent[0].prompt.startswith("lone \ufffd surrogate \x1b]52;c;")


def test_a_clock_that_jumps(processor: BatchProcessor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock goes back a year in the middle of a run: no negative time, no wrong ETA, still listed."""
    job = make(processor, 10)
    engine = ScriptedEngine(gated=True)
    run = processor.run(job, engine, RunOptions(workers=1))
    for count in range(1, 5):
        engine.release()
        until(lambda count=count: run.snapshot().completed == count)
    before = run.snapshot()
    monkeypatch.setattr("batch.job.now_iso", lambda: "2001-01-01T00:00:00")
    monkeypatch.setattr("batch.checkpoint.writer.now_iso", lambda: "2001-01-01T00:00:00")
    monkeypatch.setattr("batch.running.run.now_iso", lambda: "2001-01-01T00:00:00")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    engine.release()
    until(lambda: run.snapshot().completed == 5)
    after = run.snapshot()
    assert after.elapsed >= before.elapsed >= 0 and after.eta is not None and 0 <= after.eta < 1000
    assert after.saved_ago is not None and 0 <= after.saved_ago < 60
    engine.release(100)
    assert run.wait(90) and job.status == "completed" and job.elapsed >= after.elapsed
    assert len(results(job)) == 10 and [i.status for i in list_jobs(processor.checkpoint_dir)] == ["completed"]
