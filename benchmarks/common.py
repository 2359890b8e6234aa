"""What the benchmarks share: a row of the table, a job, an engine that costs nothing, a process of its own."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
import tempfile
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from batch import BatchJob, BatchProcessor
from batch.engines.desk import Desk
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request

ROOT = Path(__file__).parents[1]
PROMPT = "Explain item {} in two sentences, and say when one would rather use something else."
ANSWER = "It keeps its entries in order, so that looking one up takes as many steps as the number has digits. " * 2


class Row(NamedTuple):
    """One line of the table; `met` is None where there is no target to meet."""

    what: str
    target: str
    measured: str
    met: bool | None


class Skipped(Exception):
    """This cannot be measured here; the text says why."""


class InstantEngine:
    """Answers each item the moment it gets it, so that what is measured is everything else."""

    name = "instant"
    status = "ready"
    about: Mapping[str, Any] = {}

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        """One answer for all."""
        answer = Answer(ANSWER)
        async for item in items:
            yield BatchResponse(item.id, answer, 1_000_000, tokens_input=20, tokens_output=40)

    def partial_texts(self) -> Mapping[ItemId, str]:
        """None."""
        return {}

    async def close(self) -> None:
        """Nothing to free."""


class HoardingEngine(InstantEngine):
    """Takes so many items before it answers any, as one does whose requests go out as files: of them it holds ids."""

    def __init__(self, most: int) -> None:
        self.most = most

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        """One answer for all, a hoard at a time."""
        answer, held = Answer(ANSWER), array("q")
        source = aiter(items)
        more = True
        while more:
            more = False
            async for item in source:
                held.append(int(item.id))
                if more := len(held) >= min(self.most, desk.pending + len(held)):
                    break
            for item_id in held:
                yield BatchResponse(item_id, answer, 1_000_000, tokens_input=20, tokens_output=40)
            del held[:]


@contextmanager
def workspace() -> Iterator[BatchProcessor]:
    """A processor over a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="ai-router-bench-", ignore_cleanup_errors=True) as folder:
        yield BatchProcessor(Path(folder) / "checkpoints")


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the median of what these are drawn from is, in 95 of 100 cases at least; of no distribution (by ranks)."""
    ranked, rank, below = sorted(values), 0, 0.0
    # So many from either end can be left out: that the median is beyond them has a chance of at most one in forty.
    while rank < len(ranked) // 2 and (below := below + math.comb(len(ranked), rank) / 2 ** len(ranked)) <= 0.025:
        rank += 1
    rank = max(0, rank - 1)
    return ranked[rank], ranked[-1 - rank]


def make_job(processor: BatchProcessor, count: int) -> BatchJob:
    """A job of so many prompts of ordinary length."""
    return processor.create_job("bench", (PROMPT.format(i) for i in range(count)))


def in_process(function: Callable[..., Any], *args: Any) -> Any:
    """What a function of a benchmark returns (JSON) in a fresh process: no earlier benchmark's memory or imports."""
    code = "from benchmarks.common import answer_task; answer_task()"
    module = function.__module__
    if module == "__main__" and (spec := sys.modules[module].__spec__) is not None:
        module = spec.name  # of a benchmark that was started by itself
    task = json.dumps([module, function.__name__, args])
    command = [sys.executable, "-c", code]  # the task goes in by a pipe: an argument may have 128 KiB
    done = subprocess.run(command, cwd=ROOT, input=task, stdout=subprocess.PIPE, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    if "skipped" in answer:
        raise Skipped(answer["skipped"])
    return answer["result"]


def answer_task() -> None:
    """What `in_process` asks of its process: the task from the standard input, what came of it to the output."""
    module, name, args = json.load(sys.stdin)
    try:
        answer = {"result": getattr(importlib.import_module(module), name)(*args)}
    except Skipped as reason:
        answer = {"skipped": str(reason)}
    print(json.dumps(answer))
