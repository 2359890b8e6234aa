"""A process that dies before or after any step of submit → collect: nothing handed over twice, lost, or left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from engines.provider.making import PROVIDERS, again, all_right, engine_for, job_of, run
from servers.batches import Batches
from servers.waiting import until

from batch.engines.provider.engine import ProviderEngine
from batch.job import BatchJob
from batch.running.progress import RunState
from benchmarks.kill_points import Killed, watch_desk, watch_page

COUNT = 4


class Steps:
    """Counts the steps of a run, and dies after one of them, or before the first.

    Between a step and the next nothing is written and nobody is called: to die after one is to die before the other.
    """

    def __init__(self, dies_at: int | None = None) -> None:
        self.count = -1
        self._dies_at = dies_at

    def begin(self) -> None:
        if self.count < 0:
            self.step()

    def step(self) -> None:
        self.count += 1
        if self.count == self._dies_at:
            raise Killed

    def watch(self, engine: ProviderEngine) -> None:
        opened = engine._line.open_page
        engine._line.open_page = lambda: watch_page(opened(), self.begin, self.step)


def one_life(job: BatchJob, name: str, url: str, steps: Steps, *, wait: bool) -> Any:
    """A process, until its end or its death."""
    with pytest.MonkeyPatch.context() as patch:
        watch_desk(patch.setattr, steps.begin, steps.step)
        engine = engine_for(name, url, grace=0.05)
        steps.watch(engine)
        try:
            return run(job, engine, wait=wait)
        except Killed:
            return None


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        *((name, "completed") for name in PROVIDERS),
        *((name, "expired") for name in ("openai", "anthropic")),  # the others have no part of their results then
        *(
            pytest.param(name, "expired", marks=pytest.mark.slow)
            for name in PROVIDERS
            if name not in ("openai", "anthropic")
        ),
    ],
)
def test_killed_at_every_step(name: str, outcome: str, tmp_path: Path, url: str, batches: Batches) -> None:
    def fresh() -> None:
        batches.made.clear()
        batches.files.clear()
        batches.creates.clear()
        # The first batch is cut short; those after it are whole.
        batches.outcome, batches.answered = outcome, 0.5

    fresh()
    whole = Steps()
    assert one_life(job_of(tmp_path / "whole", COUNT), name, url, whole, wait=outcome == "completed") is not None
    for at in range(whole.count + 1):
        fresh()
        job = job_of(tmp_path / str(at), COUNT)
        one_life(job, name, url, Steps(at), wait=outcome == "completed")
        if name == "anthropic":  # a batch of which nobody knows is known by its results, once they are there
            for made in batches.made.values():
                made.outcome = made.outcome or outcome
        batches.outcome = "completed"
        for _ in range(4):
            job = again(job)
            done = run(job, engine_for(name, url, grace=0.05))
            assert done.error is None, at
            if done.snapshot().state is not RunState.WAITING:
                break
        all_right(job, COUNT)
        assert set(batches.paid.values()) == {1}, f"step {at}: paid twice"
        assert outcome == "expired" or set(batches.asked.values()) == {1}, f"step {at}: handed over twice"
        assert all(made.outcome for made in batches.made.values()), f"step {at}: left behind"
        assert again(job).with_provider == 0


VICTIM = """
import sys
from pathlib import Path
from engines.provider.making import again, engine_for, run
from batch import BatchProcessor
job = BatchProcessor(Path(sys.argv[1]).parent).open_job(Path(sys.argv[1]))
run(job, engine_for("openai", sys.argv[2]))
"""


@pytest.mark.parametrize("moment", ["POST files", "POST batches"])
def test_really_killed(moment: str, tmp_path: Path, url: str, batches: Batches) -> None:
    batches.needed = 10**9
    job = job_of(tmp_path, COUNT)
    tests = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])}
    process = subprocess.Popen([sys.executable, "-c", VICTIM, str(job.checkpoint_file), url], env=env)
    try:
        until(lambda: batches.calls[moment] > 0 or process.poll() is not None, 60)
    finally:
        process.kill()
        process.wait()
    batches.needed = 1
    job = again(job)
    assert run(job, engine_for("openai", url)).error is None
    all_right(job, COUNT)
    assert len(batches.creates) == 1 and set(batches.paid.values()) == {1}
