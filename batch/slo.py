"""Service levels: targets that a batch or a job is to keep, and whether it did."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PERCENTILES = ("p50", "p95", "p99")
LEAST = ("tokens_per_second", "items_per_second")  # targets that are to be reached, not kept below
# What is known of a stored job: the time of each answer, its tokens, and how long the job ran.
JOB_TARGETS = (*(f"{percentile}_ms" for percentile in PERCENTILES), *LEAST)


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """One target and what was measured; None where nothing could be, which is a target missed."""

    name: str
    target: float
    measured: float | None
    met: bool

    @classmethod
    def of(cls, name: str, target: float, measured: float | None) -> ServiceLevel:
        """A target beside its measurement: rates are to reach it, times to stay within it."""
        met = measured is not None and (measured >= target if name in LEAST else measured <= target)
        return cls(name, target, measured, met)

    def __str__(self) -> str:
        """`p95_ms 430 of 500: met`."""
        measured = "—" if self.measured is None else f"{self.measured:,.4g}" if self.measured < 1e4 else self._large()
        return f"{self.name} {measured} of {self.target:,.10g}: {'met' if self.met else 'missed'}"

    def _large(self) -> str:
        return f"{self.measured:,.0f}"


def check_target(name: str, target: Any, known: Collection[str]) -> None:
    """Raise ValueError for a target that has no such name or is not a positive number."""
    if name not in known:
        raise ValueError(f"unknown target {name!r}; known: {', '.join(known)}")
    if isinstance(target, bool) or not isinstance(target, int | float) or not 0 < target < math.inf:
        raise ValueError(f"{name}: {target!r} is not a number above 0")


def parse_slo(value: Any) -> list[str]:
    """Targets of a job as `name=number` each, from those, from one text with commas, or from names with numbers."""
    if isinstance(value, Mapping):
        value = [f"{name}={target}" for name, target in value.items()]
    words = [word.strip() for text in ([value] if isinstance(value, str) else value) for word in str(text).split(",")]
    return [f"{name}={target:.10g}" for name, target in targets_of(filter(None, words)).items()]


def targets_of(words: Iterable[str]) -> dict[str, float]:
    """The targets that `name=number` words stand for; the last of one name holds. Raises ValueError."""
    found: dict[str, float] = {}
    for word in words:
        name, equals, number = (part.strip() for part in word.partition("="))
        try:
            target = float(number)
        except ValueError:
            said = f"{number!r} is not a number" if equals else "it is written NAME=NUMBER, as in p95_ms=500"
            raise ValueError(f"{name}: {said}") from None
        check_target(name, target, JOB_TARGETS)
        found[name] = target
    return found


def job_levels(words: Iterable[str], performance: Mapping[str, Any], elapsed: float) -> tuple[ServiceLevel, ...]:
    """A job's service levels from its checkpoint's `performance()`; `elapsed` is its seconds of running."""
    answers = int(performance["answers"])
    measured: dict[str, float | None] = {
        "tokens_per_second": performance["tokens_output"] / elapsed if elapsed > 0 else None,
        "items_per_second": answers / elapsed if elapsed > 0 else None,
    }
    for percentile in PERCENTILES:
        measured[f"{percentile}_ms"] = performance[f"{percentile}_seconds"] * 1000 if answers else None
    return tuple(ServiceLevel.of(name, target, measured[name]) for name, target in targets_of(words).items())
