"""The plug is pulled: kill -9, Ctrl-C, and what is found on the disk afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from servers.waiting import until

from batch import BatchJob, BatchProcessor, BatchResult
from batch.checkpoint import CheckpointStore, list_jobs

VICTIM = Path(__file__).parents[1] / "servers" / "victim.py"
KILLS = 10
WORKERS = 4
ITEMS = 160


def start(job: BatchJob, *args: str) -> subprocess.Popen[bytes]:
    assert job.checkpoint_file is not None
    calls = job.checkpoint_file.with_suffix(".calls")
    command = [sys.executable, str(VICTIM), str(job.checkpoint_file), str(calls), "--workers", str(WORKERS), *args]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def calls(job: BatchJob) -> list[int]:
    assert job.checkpoint_file is not None
    path = job.checkpoint_file.with_suffix(".calls")
    return [int(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def committed(job: BatchJob) -> dict[int, BatchResult]:
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        store.verify()
        return {r.prompt_index: r for r in store.iter_results()}


def exports(processor: BatchProcessor, job: BatchJob, folder: Path) -> list[bytes]:
    """CSV and JSONL say nothing of the job, so two jobs with the same answers give the same bytes."""
    assert job.checkpoint_file is not None
    loaded, results = processor.load_checkpoint(job.checkpoint_file)
    for result in results:
        if not result.success:
            result.duration = 0.0  # the time to an exception is whatever it was
    return [
        processor.export_results(loaded, results, folder / f"{job.job_id}.{kind}", kind).read_bytes()
        for kind in ("csv", "jsonl")
    ]


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_killed_again_and_again(tmp_path: Path, kind: str) -> None:
    dice = random.Random(kind)
    processor = BatchProcessor(tmp_path / "checkpoints")
    prompts = [f"number {i}" for i in range(ITEMS)]
    extra = ["--failing", *(["--sync"] if kind == "sync" else [])]
    killed = processor.create_job("m", prompts)
    kept: dict[int, BatchResult] = {}
    kills = 0
    while kills < (KILLS if kind == "async" else 4):
        seen = len(calls(killed))
        child = start(killed, "--delay", "0.02", *extra)
        if dice.random() < 0.8:  # somewhere in the work, the commits included; else anywhere in the start as well
            until(lambda seen=seen, child=child: len(calls(killed)) > seen or child.poll() is not None)
            time.sleep(dice.random() * 0.12)
        else:
            time.sleep(dice.random() * 0.5)
        child.kill()
        if child.wait(90) == 0:
            break  # it was done before the blow fell
        kills += 1
        # What the listing says is what a recount says, with the log that the dead process left as well.
        (line,) = list_jobs(processor.checkpoint_dir)
        now = committed(killed)
        assert line.completed == sum(r.success for r in now.values()) and line.completed + line.failed == len(now)
        assert line.owner is None
        # Nothing committed is lost or altered, and nothing committed was asked for again.
        assert {i: now.get(i) for i in kept} == kept
        assert not Counter(calls(killed)[seen:]).keys() & kept.keys()
        kept = now
    child = start(killed, "--delay", "0", *extra)
    _, stderr = child.communicate(timeout=200)
    assert child.returncode == 0, stderr
    assert kills >= 3
    # Run twice were only those that were in flight, or answered but not yet on the disk, when a blow fell.
    per_item = Counter(calls(killed))
    assert set(per_item) == set(range(ITEMS))
    assert {i: r for i, r in committed(killed).items() if i in kept} == kept

    calm = processor.create_job("m", prompts)
    child = start(calm, *extra)
    assert child.wait(60) == 0
    assert exports(processor, killed, tmp_path) == exports(processor, calm, tmp_path)
    one, two = (processor.open_job(j.checkpoint_file) for j in (killed, calm))  # type: ignore[arg-type]
    for name in ("completed", "failed", "status", "tokens_input", "tokens_output", "total_prompts"):
        assert getattr(one, name) == getattr(two, name), name
    leftovers = {p.suffix for p in processor.checkpoint_dir.iterdir()}
    assert leftovers == {".db", ".calls"}


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_control_c_saves_and_leaves_the_job_resumable(tmp_path: Path, kind: str) -> None:
    processor = BatchProcessor(tmp_path)
    job = processor.create_job("m", [f"number {i}" for i in range(2000)])
    child = start(job, "--delay", "0.02", *(["--sync"] if kind == "sync" else []))
    until(lambda: len(calls(job)) > 20)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=200)
    assert child.returncode == 130 and stderr == b""
    found = processor.open_job(job.checkpoint_file)  # type: ignore[arg-type]
    assert (found.status, found.reason, found.completed_at) == ("running", "interrupted", None)
    # Every call that was answered is saved: at most the workers' own are missing.
    assert len(calls(job)) - WORKERS <= found.completed <= len(calls(job)) and found.completed > 10
    assert {p.suffix for p in tmp_path.iterdir()} == {".db", ".calls"}
    assert len(processor.process_batch(found, str.upper)) == 2000 and found.status == "completed"


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("workers", [1, 3])
def test_keyboard_interrupt_in_the_function(tmp_path: Path, kind: str, workers: int) -> None:
    processor = BatchProcessor(tmp_path)
    job = processor.create_job("m", [str(i) for i in range(10)])

    def plain(prompt: str) -> str:
        if prompt == "6":
            raise KeyboardInterrupt
        return prompt

    async def coroutine(prompt: str) -> str:
        return plain(prompt)

    with pytest.raises(KeyboardInterrupt):
        processor.process_batch(job, plain if kind == "sync" else coroutine, workers=workers)
    found = processor.open_job(job.checkpoint_file)  # type: ignore[arg-type]
    assert (found.status, found.reason, found.failed) == ("running", "interrupted", 0)
    assert 6 - workers < found.completed < 10
    ran: list[str] = []
    assert len(processor.process_batch(found, lambda p: ran.append(p) or p)) == 10
    assert "6" in ran and found.status == "completed"


@pytest.mark.parametrize("always", [True, False])
def test_keyboard_interrupt_in_the_callback(tmp_path: Path, always: bool) -> None:
    processor = BatchProcessor(tmp_path)
    job = processor.create_job("m", [str(i) for i in range(150)])
    counts: list[int] = []

    def callback(_: BatchJob, count: int) -> None:
        counts.append(count)
        if count >= 7 and (always or count == 7):
            raise KeyboardInterrupt

    answered: list[str] = []

    def function(prompt: str) -> str:
        time.sleep(0.002)
        answered.append(prompt)
        return prompt

    with pytest.raises(KeyboardInterrupt):
        processor.process_batch(job, function, callback)
    assert counts == list(range(1, 8))
    found = processor.open_job(job.checkpoint_file)  # type: ignore[arg-type]
    assert (found.status, found.reason) == ("running", "interrupted")
    assert len(answered) - 1 <= found.completed <= len(answered)
    assert {p.suffix for p in tmp_path.iterdir()} == {".db"}
    assert len(processor.process_batch(found, str)) == 150 and found.status == "completed"


async def test_keyboard_interrupt_inside_a_running_event_loop(tmp_path: Path) -> None:
    processor = BatchProcessor(tmp_path)
    job = processor.create_job("m", ["a"])

    def function(prompt: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        processor.process_batch(job, function)
    assert processor.open_job(job.checkpoint_file).status == "running"  # type: ignore[arg-type]
