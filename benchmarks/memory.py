"""Resident memory of a process that makes and runs a job, by the number of its prompts."""

from __future__ import annotations

import sys

from batch import Run
from batch.options import RunOptions
from benchmarks.common import HoardingEngine, InstantEngine, Row, Skipped, in_process, make_job, workspace

TARGET = 200


def peak(count: int, held: int = 0) -> float:
    """Most resident memory in MB; of an engine that takes `held` items before it answers any, where that is given."""
    import resource

    with workspace() as processor:
        job = make_job(processor, count)
        engine = HoardingEngine(held) if held else InstantEngine()
        Run(job, engine, RunOptions(workers=None if held else 64)).execute()
        assert job.completed == count
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure(quick: bool) -> list[Row]:
    """A small job and a large one."""
    if sys.platform == "win32":
        raise Skipped("no getrusage")
    small, large, held = (1_000, 2_000, 600) if quick else (10_000, 1_000_000, 300_000)
    little, much, hoard = in_process(peak, small), in_process(peak, large), in_process(peak, large, held)
    return [
        Row(f"resident memory at {large:,} prompts", f"< {TARGET} MB", f"{much:.0f} MB", much < TARGET),
        Row(f"  with an engine that holds {held:,} at once", f"< {TARGET} MB", f"{hoard:.0f} MB", hoard < TARGET),
        Row(f"  of which more than at {small:,}", "flat", f"{much - little:+.0f} MB", much - little < 50),
    ]
