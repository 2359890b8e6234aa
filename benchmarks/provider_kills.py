"""Kills at random steps of submit and collect, in one process: the provider goes on, whoever asked it is gone.

A life ends before or after any call of the provider or write of the desk, as by SIGKILL: nothing of it runs any more.
The next life has the job's file and the provider, and nothing else.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batch import BatchJob, BatchProcessor, Run
from batch.engines.http.wire import Reply
from batch.engines.provider.base import Found, Limits, Lookup, Remote, Result, Settings
from batch.engines.provider.engine import ProviderEngine
from batch.items import Request
from batch.options import RunOptions, SamplingOptions
from batch.prices import Usage
from batch.running.policy import RetryPolicy
from benchmarks.common import workspace
from benchmarks.kill_points import Killed, watch_desk, watch_page

ITEMS = 12
BATCH = 5
LIVES = 400  # of one job; more than any needs


class Provider:
    """A provider that outlives the processes that ask it, and has bad days."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.batches: dict[str, dict[str, Any]] = {}
        self.paid: Counter[str] = Counter()  # answers given, by prompt

    def create(self, key: str, lines: list[tuple[str, str]]) -> str:
        """A batch; some of them end early, with a part of the answers."""
        name = f"b{len(self.batches)}"
        outcome = self.chance.choice(["completed"] * 4 + ["expired", "cancelled"])
        whole = len(lines) if outcome == "completed" else self.chance.randrange(len(lines))
        self.batches[name] = {"key": key, "lines": lines, "outcome": outcome, "answered": whole, "looks": 0}
        self.paid.update(text for _, text in lines[:whole])
        return name


class RemotePage:
    """The page of it that one process has."""

    limits = Limits(BATCH, 1 << 20)
    uploads = True
    cancels = True

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def line(self, custom_id: str, request: Request, options: SamplingOptions, left_out: Any) -> dict[str, Any]:
        """Name and text."""
        return {"custom_id": custom_id, "text": request.text}

    def upload(self, path: Path, key: str) -> str:
        """The file's content is its name."""
        return path.read_text("utf-8")

    def create(self, path: Path, file: str | None, key: str) -> Remote:
        """Made; now and then the answer to that is lost."""
        import orjson

        lines = [orjson.loads(line) for line in (file or "").splitlines()]
        name = self._provider.create(key, [(line["custom_id"], line["text"]) for line in lines])
        if self._provider.chance.random() < 0.1:
            raise ConnectionError("the line is dead")
        return Remote(name, "validating")

    def check(self, remote_id: str) -> Remote:
        """Over at the second look."""
        made = self._provider.batches[remote_id]
        made["looks"] += 1
        if made["looks"] < 2:
            return Remote(remote_id, "in_progress")
        untried = made["outcome"] != "completed"
        return Remote(remote_id, made["outcome"], over=True, untried=untried, results=(remote_id,))

    def results(self, remote: Remote) -> Iterator[Result]:
        """In no order, with a stranger among them."""
        made = self._provider.batches[remote.id]
        found = made["lines"][: made["answered"]]
        self._provider.chance.shuffle(found)
        yield Result("somebody-else-1", Reply("not yours"))
        for name, text in found:
            yield Result(name, Reply(f"answer to {text}", usage=Usage(3, 2), finish="stop", done=True))

    def find(self, lookup: Lookup) -> Found:
        """By its key."""
        for name, made in self._provider.batches.items():
            if made["key"] == lookup.key:
                return Found(Remote(name, "in_progress"))
        return Found()

    def cancel(self, remote_id: str) -> None:
        """Never asked."""

    def models(self) -> list[str]:
        """One."""
        return ["m"]

    def close(self) -> None:
        """Nothing is held."""


class Life:
    """Counts the steps of one process and ends it at one of them."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.dead = False

    def step(self) -> None:
        """One more, or the last."""
        self.left -= 1
        if self.left == 0:
            self.dead = True
        if self.dead:
            raise Killed


_CURRENT: list[Life] = []


def _step() -> None:
    _CURRENT[-1].step()


def one_life(job: BatchJob, provider: Provider, steps: int) -> bool:
    """A process, until it is killed or done; whether it was killed."""
    life = Life(steps)
    _CURRENT.append(life)

    def opened() -> Any:
        return watch_page(RemotePage(provider), life.step, life.step)

    settings = Settings("openai", "m", poll=0.001, grace=0.0)
    run = Run(job, ProviderEngine(settings, opened), RunOptions())
    run.retry = run._answering._handed_back = RetryPolicy(9, base=0.0001)
    try:
        run.execute()
    except Killed:
        return True
    if run.error is not None and not isinstance(run.error, Killed):
        raise run.error
    return run.error is not None


def kills(count: int, seed: int = 20261128) -> tuple[int, int, int]:
    """So many kills, over as many jobs as they take: kills, prompts without their answer, prompts paid twice."""
    chance = random.Random(seed)
    watch_desk(setattr, _step, _step)
    met = lost = twice = 0
    with workspace() as processor:
        while met < count:
            provider = Provider(chance)
            texts = [f"prompt {number}" for number in range(ITEMS)]
            job = processor.create_job("m", texts)
            path = job.checkpoint_file
            assert path is not None
            for _ in range(LIVES):
                if not one_life(job, provider, chance.randrange(1, 40)):
                    break
                met += 1
                job = BatchProcessor(path.parent).open_job(path)
            from batch.checkpoint import CheckpointStore

            with CheckpointStore(path) as store:
                found = {row.prompt_index: row.response_text for row in store.iter_results()}
            lost += sum(found.get(number) != f"answer to {text}" for number, text in enumerate(texts))
            twice += sum(paid > 1 for paid in provider.paid.values())
            path.unlink()
    return met, lost, twice
