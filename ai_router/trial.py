"""How quick a model is: a few questions one after the other, then many at once."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_router.models import ModelSpec, make_engine
from batch.engines.base import Engine
from batch.engines.desk import MemoryDesk
from batch.engines.local.host import HostedEngine
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import SamplingOptions, build_options

ALONE, TOGETHER = 3, 24  # requests; of a slow model fewer, so that this does not take minutes
SLOW, FEW = 2.0, 4  # seconds of the first answer, and how many are asked together then
LOOK = 0.02  # seconds between two looks
TOKENS = 32  # of each answer at most
QUESTIONS = (
    "Name a colour.",
    "What is a stack?",
    "Write one sentence about rain.",
    "What is seven times eight?",
    "Name a river and the country it is in.",
    "Explain what a prime number is.",
)


@dataclass(slots=True)
class Trial:
    """What came of it. Times are seconds; costs billionths of a dollar, None where one is not known."""

    latencies: list[float] = field(default_factory=list)  # of questions asked alone
    together: int = TOGETHER  # questions that were asked at once
    seconds: float = 0.0  # that those asked together took
    answered: int = 0  # of those asked together
    tokens: int = 0  # of their answers
    load_seconds: float | None = None  # of a local model
    first_tokens: list[float] = field(default_factory=list)  # of questions asked alone, where the engine keeps time
    peak_bytes: int | None = None  # most memory the model's process took
    failures: list[str] = field(default_factory=list)
    cost: int | None = 0
    models: set[str] = field(default_factory=set)  # that answered
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def first_token(self) -> float | None:
        """Seconds from a question asked alone to the first token of its answer, the median; None where not known."""
        return statistics.median(self.first_tokens) if self.first_tokens else None

    @property
    def latency(self) -> float | None:
        """Seconds of a question asked alone, the median; None where none was answered."""
        return statistics.median(self.latencies) if self.latencies else None

    def take(self, response: BatchResponse[Answer]) -> None:
        """Count an answer or a failure."""
        self.cost = None if self.cost is None or response.cost is None else self.cost + response.cost
        if response.error is not None:
            self.failures.append(response.error.message)
        elif response.model:
            self.models.add(response.model)


async def try_model(spec: ModelSpec) -> Trial:
    """Ask a model up to `ALONE` questions one by one and `TOGETHER` at once. Raises what its engine raises."""
    sampling = build_options(SamplingOptions, {**spec.sampling, "max_tokens": TOKENS})
    engine = make_engine(spec, sampling, workers=None)
    if isinstance(engine, HostedEngine):
        engine.timing = True
    trial, before = Trial(), _peak_of_children()
    watch = None if spec.is_remote else asyncio.create_task(_watched(engine, trial))
    try:
        await _ask_alone(engine, trial)
        await _ask_together(engine, trial)
        trial.about = dict(engine.about)
        if isinstance(engine, HostedEngine):
            trial.peak_bytes = peak_of(engine.pid)
    finally:
        if watch is not None:
            watch.cancel()
        await engine.close()
    if not spec.is_remote:
        after = _peak_of_children()
        if trial.peak_bytes is None and after is not None and after > (before or 0):  # else it was another one's
            trial.peak_bytes = after
        _remember(spec, trial)
    return trial


async def _ask_alone(engine: Engine[Request, Answer], trial: Trial) -> None:
    for number in range(ALONE):
        async for response in _asked(engine, 1, number):
            trial.take(response)
            if response.error is None:
                trial.latencies.append(response.duration_ns / 1e9)
                if response.timing is not None and response.timing.first_token_ns is not None:
                    trial.first_tokens.append(response.timing.first_token_ns / 1e9)
        if max(trial.latencies, default=0.0) > SLOW:
            trial.together = FEW
            return


async def _ask_together(engine: Engine[Request, Answer], trial: Trial) -> None:
    began = time.monotonic()
    async for response in _asked(engine, trial.together, ALONE):
        trial.take(response)
        if response.error is None:
            trial.answered += 1
            trial.tokens += response.tokens_output
    trial.seconds = time.monotonic() - began


def _remember(spec: ModelSpec, trial: Trial) -> None:
    """Keep what a GGUF file's engine did, as that engine is when nobody says more: two of them may run it."""
    usual = spec.adapter is None and not spec.engine_options and not spec.cluster
    if usual and spec.engine in ("torch", "gguf") and spec.path.is_file() and trial.tokens and not trial.failures:
        from batch.engines.gguf import measured

        precision = trial.about.get("precision") if spec.engine == "torch" else ""
        measured.keep(spec.path, spec.engine, trial.tokens / trial.seconds, str(precision or ""), trial.together)


async def _watched(engine: Engine[Request, Answer], trial: Trial) -> None:
    """Look on until the model is there, and keep how long that took."""
    began = time.monotonic()
    while not engine.about:
        await asyncio.sleep(LOOK)
    trial.load_seconds = time.monotonic() - began


def peak_of(pid: int | None) -> int | None:
    """The most memory that a process has had so far, where Linux says it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
    except (OSError, ValueError, IndexError):
        return None


def _peak_of_children() -> int | None:
    """The most memory that any child has had which has ended."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


async def _asked(engine: Engine[Request, Answer], count: int, first: int) -> AsyncIterator[BatchResponse[Answer]]:
    async def items() -> AsyncIterator[BatchItem[Request]]:
        for number in range(first, first + count):  # no two alike, or a cache would answer
            yield BatchItem(number, Request(f"{QUESTIONS[number % len(QUESTIONS)]} ({number + 1})"))

    async with aclosing(engine.answer(items(), MemoryDesk())) as answers:  # type: ignore[type-var]
        async for response in answers:
            yield response
