"""Listing a folder with many checkpoints."""

from __future__ import annotations

import shutil
import time

from batch import Run
from batch.checkpoint import checkpoint_path, list_jobs
from batch.job import new_job_id
from batch.options import RunOptions
from benchmarks.common import ROOT, InstantEngine, Row, in_process, make_job, workspace

TARGET = 0.5


OLD = ROOT / "tests" / "core" / "format1" / "batch_finished.db"  # as the version before format 2 wrote it


def seconds(count: int, old: bool) -> list[tuple[float, float]]:
    """Three listings, each by the clock and in processor time; of `old` checkpoints, or of this version's."""
    with workspace() as processor:
        job = make_job(processor, 50)
        Run(job, InstantEngine(), RunOptions()).execute()
        assert job.checkpoint_file is not None
        model = OLD if old else job.checkpoint_file
        for _ in range(count - 1):
            shutil.copy(model, checkpoint_path(processor.checkpoint_dir, new_job_id()))
        times = []
        for _ in range(3):
            start, busy = time.perf_counter(), time.process_time()
            listed = list_jobs(processor.checkpoint_dir)
            times.append((time.perf_counter() - start, time.process_time() - busy))
            assert len(listed) == count and not listed.skipped
        return times


def measure(quick: bool) -> list[Row]:
    """The slowest of three."""
    count = 20 if quick else 1_000
    rows: list[Row] = []
    for what, old in ((f"listing {count:,} checkpoints", False), ("  of format 1", True)):
        worst, busy = max(in_process(seconds, count, old))
        rows.append(Row(what, f"< {TARGET:g} s", f"{worst:.2f} s", worst < TARGET))
        rows.append(Row("  in processor time", "", f"{busy:.2f} s", None))
    return rows
