"""Jobs that run one after the other: which one stands where another began."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ai_router.tui.turns import Turns
from batch import BatchProcessor


def test_the_latest_is_found_though_a_job_has_two_turns(tmp_path: Path) -> None:
    jobs = [BatchProcessor(tmp_path).create_job("m", ["a"]) for _ in range(2)]
    one, other = (cast("Path", job.checkpoint_file) for job in jobs)
    begun: list[Any] = []
    app = SimpleNamespace(watched=None, start_run=begun.append, call_later=lambda *_: True, live_runs=lambda: [])
    turns = Turns(cast("Any", app))
    for before, job in ((one, jobs[1]), (other, jobs[0])):
        turns.add(job)
        turns._before = before
        turns.tick()
        for thread in threading.enumerate():
            if thread.name == "next-job":
                thread.join()
    assert begun == [jobs[1], jobs[0]]
    assert turns.latest(one) == one and turns.latest(other) == one
