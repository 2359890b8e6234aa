"""Items a second through processor and store, every result on the disk, with an engine that answers at once."""

from __future__ import annotations

import time

from batch import Run
from batch.options import RunOptions
from benchmarks.common import InstantEngine, Row, in_process, make_job, workspace

TARGET = 80_000


def rates(count: int) -> tuple[float, float]:
    """Items a second of one run, and items a second of processor time; its start and its last commit included."""
    with workspace() as processor:
        job = make_job(processor, count)
        run = Run(job, InstantEngine(), RunOptions(workers=64))
        start, busy = time.perf_counter(), time.process_time()
        run.execute()
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        assert job.completed == count
        return count / seconds, count / busy


def measure(quick: bool) -> list[Row]:
    """The median of three."""
    count = 2_000 if quick else 200_000
    middle, busy = sorted(in_process(rates, count) for _ in range(1 if quick else 3))[0 if quick else 1]
    what = f"engine that answers at once, {count:,} items, all on disk"
    return [
        Row(what, f"≥ {TARGET:,}/s", f"{middle:,.0f} items/s", middle >= TARGET),
        Row("  for each second of processor time", "", f"{busy:,.0f} items", None),
    ]
