"""What a job costs in memory does not depend on how many prompts it has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEASURE = """
import resource, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
from batch import BatchProcessor, Run
from batch.options import RunOptions
from servers.engines import HoldingEngine, InstantEngine
processor = BatchProcessor(sys.argv[2])
job = processor.create_job("m", (f"prompt number {i}, as long as prompts are" for i in range(int(sys.argv[3]))))
holds = sys.argv[4] == "holds"
run = Run(job, HoldingEngine() if holds else InstantEngine(), RunOptions(workers=None if holds else 64))
run.execute()
assert job.completed == int(sys.argv[3]), job
list(zip(job.prompts, range(10)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peaks(folder: Path, *counts: int, engine: str = "instant") -> list[float]:
    """MB at most, of processes that each make and run a job of so many prompts."""
    commands = [[sys.executable, "-c", MEASURE, str(ROOT), str(folder), str(count), engine] for count in counts]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    outputs = [child.communicate()[0] for child in children]
    assert not any(child.returncode for child in children)
    return [int(output) / (2**20 if sys.platform == "darwin" else 2**10) for output in outputs]


@pytest.mark.skipif(sys.platform == "win32", reason="getrusage")
def test_resident_memory_is_flat(tmp_path: Path) -> None:
    small, large = peaks(tmp_path, 10_000, 150_000)
    assert large - small < 25, f"{small:.0f} MB for 10,000 prompts, {large:.0f} MB for 150,000"


@pytest.mark.skipif(sys.platform == "win32", reason="getrusage")
def test_an_engine_that_holds_all_items_holds_no_texts(tmp_path: Path) -> None:
    """Ids alone, and one byte an item in the run."""
    small, large = peaks(tmp_path, 20_000, 100_000, engine="holds")
    assert large - small < 20, f"{small:.0f} MB for 20,000 prompts, {large:.0f} MB for 100,000"
