"""Whatever an engine does and however often a run is stopped: every item ends with exactly one right result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from servers.engines import ChanceEngine

from batch import BatchJob, BatchProcessor, BatchResult, Run
from batch.checkpoint import CheckpointStore
from batch.options import RunOptions
from batch.running.policy import RetryPolicy
from batch.running.progress import RunState

Folders = Callable[[], Path]

KINDS = st.sampled_from(["ok", "ok", "ok", "transient", "transient", "permanent", "exhausted"])
PLANS = st.lists(st.lists(KINDS, min_size=1, max_size=4), min_size=1, max_size=20)
STOPS = st.lists(st.tuples(st.sampled_from(["now", "drain", "pause", "more", "less"]), st.floats(0, 0.012)), max_size=4)


def expected(plan: list[str], retries: int) -> tuple[str, int]:
    """The last outcome of an uninterrupted run, and how many tries that takes."""
    for attempt in range(1, retries + 2):
        kind = plan[min(attempt, len(plan)) - 1]
        if kind != "transient":
            break
    return kind, attempt


def begin(job: BatchJob, engine: ChanceEngine, workers: int, retries: int, **listeners: Any) -> Run:
    run = Run(job, engine, RunOptions(workers=workers, retries=retries), **listeners)
    run.retry = RetryPolicy(retries, base=0.001, cap=0.002)
    return run


@settings(max_examples=40)
@given(plans=PLANS, workers=st.integers(1, 8), retries=st.integers(0, 3), stops=STOPS, seed=st.integers(0, 999))
def test_resumed_equals_uninterrupted(
    folders: Folders,
    plans: list[list[str]],
    workers: int,
    retries: int,
    stops: list[tuple[Any, float]],
    seed: int,
) -> None:
    processor = BatchProcessor(folders())
    job = processor.create_job("m", [f"prompt {i}" for i in range(len(plans))])
    assert job.checkpoint_file is not None
    kept: dict[int, Any] = {}
    script = dict(enumerate(plans))
    engines: list[ChanceEngine] = []
    for how, after in [*stops, (None, 0.0)]:
        engine = ChanceEngine(script, seed)
        engines.append(engine)
        heard: list[int] = []

        def hear(rows: Sequence[BatchResult], heard: list[int] = heard) -> None:
            heard.extend(r.prompt_index for r in rows)

        run = begin(job, engine, workers, retries, on_results=hear)
        run.start()
        if how is not None:
            time.sleep(after)
            if how == "pause":
                run.pause()
            elif how in ("more", "less"):
                run.set_concurrency(workers * 2 if how == "more" else 1)
            run.stop("drain" if how == "drain" else "now")
        assert run.wait(90) and run.error is None
        assert engine.most <= workers * 2 and (how == "more" or engine.most <= workers)
        # Nothing that had a result was given out again, and each commit was told once.
        assert not set(engine.calls) & set(kept)
        with CheckpointStore(job.checkpoint_file) as store:
            now = {r.prompt_index: r for r in store.iter_results()}
            store.verify()
        assert sorted(heard) == sorted(set(now) - set(kept))
        assert {i: now[i] for i in kept} == kept
        kept = now
        fresh = processor.open_job(job.checkpoint_file)
        counts = (sum(r.success for r in now.values()), sum(not r.success for r in now.values()))
        assert (job.completed, job.failed) == (fresh.completed, fresh.failed) == counts
        assert fresh.tokens_output == sum(r.tokens_output for r in now.values())
        over = run.snapshot().state
        assert over is (RunState.FINISHED if len(now) == len(plans) else RunState.STOPPED)
    assert len(kept) == len(plans) and job.status == "completed"
    for index, plan in enumerate(plans):
        kind, attempts = expected(plan, retries)
        result = kept[index]
        assert result.success == (kind == "ok") and result.attempts == attempts
        assert result.error_class == (None if kind == "ok" else kind)
        assert result.response_text == (f"answer to prompt {index}" if kind == "ok" else "")


@settings(max_examples=25)
@given(plans=PLANS, rounds=st.integers(1, 3))
def test_retrying_failures_never_loses_an_answer(folders: Folders, plans: list[list[str]], rounds: int) -> None:
    """Each round is one try of every item that has failed so far."""
    processor = BatchProcessor(folders())
    job = processor.create_job("m", [f"prompt {i}" for i in range(len(plans))])
    tries = [0] * len(plans)

    def function(prompt: str) -> str:
        index = int(prompt.split()[1])
        tries[index] += 1
        kind = plans[index][min(tries[index], len(plans[index])) - 1]
        if kind != "ok":
            raise ValueError(kind)
        return f"try {tries[index]}"

    for number in range(rounds + 1):
        results = processor.process_batch(job, function, retry_failed=number > 0)
        assert [r.attempts for r in results] == tries
        for index, result in enumerate(results):
            wins = [n for n in range(1, number + 2) if plans[index][min(n, len(plans[index])) - 1] == "ok"]
            assert result.success == bool(wins)
            assert result.response_text == (f"try {wins[0]}" if wins else "")
        assert job.completed + job.failed == len(plans) and job.completed == sum(r.success for r in results)


@settings(max_examples=40)
@given(failures=st.lists(st.booleans(), min_size=1, max_size=30), limit=st.integers(1, 6), workers=st.integers(1, 4))
def test_threshold(folders: Folders, failures: list[bool], limit: int, workers: int) -> None:
    processor = BatchProcessor(folders())
    job = processor.create_job("m", [str(i) for i in range(len(failures))])

    async def function(prompt: str) -> str:
        if failures[int(prompt)]:
            raise ValueError("no")
        return prompt

    results = processor.process_batch(job, function, None, f"threshold:{limit}", workers=workers)
    failed = sum(not r.success for r in results)
    assert failed == job.failed <= limit + workers - 1
    assert (job.status == "completed") == (len(results) == len(failures))
    if job.status == "failed":
        assert failed >= limit


def test_resumed_a_hundred_times(tmp_path: Path) -> None:
    """One answer a run: times and tokens add up, and none runs twice."""
    processor = BatchProcessor(tmp_path)
    job = processor.create_job("m", [str(i) for i in range(40)])
    elapsed = 0.0
    ran: list[str] = []
    for count in range(1, 41):

        def once(prompt: str) -> str:
            if len(ran) >= count:  # noqa: B023 - called before the loop goes on
                raise KeyboardInterrupt
            ran.append(prompt)
            return prompt

        try:
            processor.process_batch(job, once)
        except KeyboardInterrupt:
            assert job.status == "running"
        assert job.completed == count and job.elapsed >= elapsed
        elapsed = job.elapsed
    assert ran == [str(i) for i in range(40)] and job.status == "completed"
