"""From asking for a half done job to its first pending item in an engine's hands."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator

from batch import BatchProcessor, Run
from batch.engines.desk import Desk
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import RunOptions
from benchmarks.common import InstantEngine, Row, in_process, make_job, workspace

TARGET = 0.1


class FirstItem(InstantEngine):
    """Notes when it is given its first item, and which, and stops the run."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.given: tuple[float, float, int] | None = None

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        """No answer to any item."""
        async for item in items:
            if self.given is None:
                self.given = (time.perf_counter(), time.process_time(), int(item.id))
            assert self.run is not None
            self.run.stop("now")
            yield BatchResponse(-1, Answer("to nobody"))


def half_done(processor: BatchProcessor, count: int) -> str:
    """The checkpoint of a job whose first half is answered."""
    job = make_job(processor, count)
    path = job.checkpoint_file
    assert path is not None
    with sqlite3.connect(path) as connection:
        columns = "id, success, tokens_input, tokens_output, duration, attempts"
        connection.execute(
            f"INSERT INTO results ({columns}) SELECT id, 1, 20, 40, 0.5, 1 FROM items WHERE id < {count // 2}"
        )
        connection.execute(f"INSERT INTO answers SELECT id, text, NULL, NULL FROM items WHERE id < {count // 2}")
        connection.execute(f"UPDATE job SET completed = {count // 2}, status = 'running'")
    connection.close()
    return str(path)


def seconds(count: int) -> list[tuple[float, float]]:
    """Three resumes (open, lock, recount, find what is missing, hand out), by the clock and in processor time."""
    times = []
    with workspace() as processor:
        path = half_done(processor, count)
        for _ in range(3):
            engine = FirstItem()
            start, busy = time.perf_counter(), time.process_time()
            job = BatchProcessor(processor.checkpoint_dir).open_job(path)
            engine.run = Run(job, engine, RunOptions())
            engine.run.execute()
            assert engine.given is not None and engine.given[2] == count // 2 and job.completed == count // 2
            times.append((engine.given[0] - start, engine.given[1] - busy))
    return times


def measure(quick: bool) -> list[Row]:
    """The slowest of three."""
    count = 2_000 if quick else 1_000_000
    worst, busy = max(in_process(seconds, count))
    what = f"first pending item, {count:,} prompts half done"
    return [
        Row(what, f"< {TARGET:g} s", f"{worst:.2f} s", worst < TARGET),
        Row("  in processor time", "", f"{busy:.2f} s", None),
    ]
