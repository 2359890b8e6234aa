"""Items a second through processor and store, every result on the disk, with an engine that answers at once."""

from __future__ import annotations

import time

from batch import Run
from batch.options import RunOptions
from benchmarks.common import InstantEngine, Row, in_process, make_job, workspace

TARGET = 20_000


def rate(count: int) -> float:
    """Items a second of one run, its start and its last commit included."""
    with workspace() as processor:
        job = make_job(processor, count)
        run = Run(job, InstantEngine(), RunOptions(workers=64))
        start = time.perf_counter()
        run.execute()
        seconds = time.perf_counter() - start
        assert job.completed == count
        return count / seconds


def measure(quick: bool) -> list[Row]:
    """The median of three."""
    count = 2_000 if quick else 200_000
    middle = sorted(in_process(rate, count) for _ in range(1 if quick else 3))[0 if quick else 1]
    what = f"engine that answers at once, {count:,} items, all on disk"
    return [Row(what, f"≥ {TARGET:,}/s", f"{middle:,.0f} items/s", middle >= TARGET)]
