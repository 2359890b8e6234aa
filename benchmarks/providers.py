"""A provider's batches: rows a second and memory of a large one; kills at random, and what they cost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ai_router.jobs import spare_collector
from batch import BatchJob, BatchProcessor, Run
from batch.checkpoint import CheckpointStore
from batch.running.policy import RetryPolicy
from benchmarks.common import ROOT, Row, Skipped, in_process, workspace
from benchmarks.provider_kills import kills

RATE = 20_000
KILLS = 1_000
TEXT = "Row {}: which department is this about? " + "The ferry carries many passengers a day. " * 4


def engine(url: str) -> Any:
    """The engine of OpenAI's Batch API at an address, with the real library."""
    from batch.engines.provider.row import make
    from batch.options import SamplingOptions

    os.environ.setdefault("OPENAI_API_KEY", "none")
    spec = {
        "provider": "openai",
        "model": "m",
        "url": f"{url}/v1",
        "poll": 0.02,
        "grace": 0.0,
        "price": {"input": 2, "output": 8, "batch": {"input": 1, "output": 4}},
    }
    return make(spec, SamplingOptions(), workers=None, timeout=60.0)


@contextmanager
def server() -> Iterator[str]:
    """The double, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.batch_server"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(10)


def told(url: str) -> dict[str, Any]:
    """What the double has seen."""
    with urllib.request.urlopen(f"{url}/told") as answer:
        data: dict[str, Any] = json.load(answer)
    return data


def wrong(job: BatchJob, count: int) -> int:
    """How many rows have no answer, or another row's."""
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        rows = {row.prompt_index: row.response_text for row in store.iter_results()}
    return sum(rows.get(number) != f"answer to {number}" for number in range(count))


def one_batch(count: int, url: str) -> tuple[float, float, float, int, int]:
    """Seconds from the first row to the last commit, those of the processor, resident MB, wrong rows, batches made."""
    import resource

    with workspace() as processor:
        job = processor.create_job("m", (TEXT.format(number) for number in range(count)))
        made = engine(url)
        _ = made._line.page  # the library is imported, its client made: that is the same for a row and for a million
        spare_collector()
        start, busy = time.perf_counter(), time.process_time()
        run = Run(job, made)
        run.execute()
        took, busy = time.perf_counter() - start, time.process_time() - busy
        if run.error is not None:
            raise run.error
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        return took, busy, peak, wrong(job, count), told(url)["made"]


def _alone(count: int) -> list[Any]:
    """The same in a process of its own, with a double of its own."""
    with server() as url:
        found: list[Any] = in_process(one_batch, count, url)
        return found


VICTIM = """
import sys
from batch import BatchProcessor, Run
from benchmarks.providers import engine
from pathlib import Path
path = Path(sys.argv[1])
made = engine(sys.argv[2])
made._line.page  # the library is imported before the first blow can fall
print("ready", flush=True)
Run(BatchProcessor(path.parent).open_job(path), made).execute()
"""


def real_kills(count: int, times: int) -> tuple[int, int, int]:
    """A job whose process is killed with SIGKILL at random: kills that met it at work, rows lost, rows paid twice."""
    chance, met = random.Random(0), 0
    with server() as url, tempfile.TemporaryDirectory(prefix="ai-router-bench-") as folder:
        lost = twice = 0
        for number in range(times):
            path = (
                BatchProcessor(Path(folder) / str(number))
                .create_job("m", (f"kill {number * count + row}" for row in range(count)))
                .checkpoint_file
            )
            assert path is not None
            command = [sys.executable, "-c", VICTIM, str(path), url]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0.02, 0.8))
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            job = BatchProcessor(path.parent).open_job(path)
            met += job.completed < count
            run = Run(job, engine(url))
            run.retry = RetryPolicy(2, base=0.001)
            run.execute()
            lost += count - job.completed
        twice = sum(paid > 1 for paid in told(url)["answered"].values())
    return met, lost, twice


def measure(quick: bool) -> list[Row]:
    """A small batch and a large one; then the kills."""
    if sys.platform == "win32":
        raise Skipped("no getrusage, no SIGKILL")
    try:
        import openai  # noqa: F401
    except ImportError:
        raise Skipped("no openai") from None
    small, large, count, real = (500, 1_000, 20, 1) if quick else (2_000, 50_000, KILLS, 20)
    little = _alone(small)[2]
    took, busy, much, bad, made = min(_alone(large) for _ in range(1 if quick else 3))
    met, lost, twice = in_process(kills, count)
    rows = [
        Row(f"rows/s, {large:,} through one batch", f"> {RATE:,}", f"{large / took:,.0f}", large / took > RATE),
        Row("  a second of processor time", "", f"{large / busy:,.0f}", None),
        Row("  rows wrong; batches", "0; 1", f"{bad}; {made}", (bad, made) == (0, 1)),
        Row(f"  memory, and more than with {small:,}", "", f"{much:.0f} MB, {much - little:+.0f} MB", None),
        Row(f"kills at random steps: {met:,}", "0 lost, 0 twice", f"{lost} lost, {twice} twice", not (lost or twice)),
    ]
    met, lost, twice = real_kills(200 if quick else 2_000, real)
    what = f"kill -9 at random: {real}, of which {met} in the middle"
    return [*rows, Row(what, "0 lost, 0 twice", f"{lost} lost, {twice} twice", not (lost or twice))]
