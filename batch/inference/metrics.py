"""Percentiles of a batch, and whether it kept its service levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from batch.inference.limits import BatchRequestError
from batch.items import NS_PER_MS, BatchResponse, BatchResults, BatchStats
from batch.slo import LEAST, PERCENTILES, ServiceLevel, check_target

A = TypeVar("A")

# Service levels that are times: the figure and the percentile they are about.
LATEST = {
    f"{prefix}{percentile}_ms": (figure, f"{percentile}_ms")
    for prefix, figure in (("", "latency"), ("queue_", "queue"), ("first_token_", "first_token"))
    for percentile in PERCENTILES
}


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds, interpolated between the nearest ranks; of no values all are 0 and `count` says so."""

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, nanoseconds: Iterable[int]) -> Percentiles:
        """Of durations in nanoseconds."""
        values = sorted(value / NS_PER_MS for value in nanoseconds)
        if not values:
            return cls(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        p50, p95, p99 = (_quantile(values, share) for share in (0.50, 0.95, 0.99))
        return cls(len(values), sum(values) / len(values), p50, p95, p99, values[-1])


@dataclass(frozen=True, slots=True)
class BatchMetrics:
    """What a batch did, over its answered items; times are since the batch was handed over."""

    latency: Percentiles  # until the answer
    queue: Percentiles  # until work on the item began
    first_token: Percentiles  # of the items whose engine keeps time
    tokens_input: int
    tokens_output: int
    tokens_per_second: float  # output, over the wall time of the batch
    items_per_second: float

    @classmethod
    def of(cls, responses: Sequence[BatchResponse[A]], wall_ns: int) -> BatchMetrics:
        """Of the responses that came within `wall_ns`."""
        answered = [response for response in responses if response.success]
        timings = [response.timing for response in answered if response.timing is not None]
        tokens_output = sum(response.tokens_output for response in responses)
        return cls(
            latency=Percentiles.of(timing.total_ns for timing in timings),
            queue=Percentiles.of(timing.queue_ns for timing in timings),
            first_token=Percentiles.of(t.first_token_ns for t in timings if t.first_token_ns is not None),
            tokens_input=sum(response.tokens_input for response in responses),
            tokens_output=tokens_output,
            tokens_per_second=tokens_output * 1e9 / wall_ns if wall_ns else 0.0,
            items_per_second=len(answered) * 1e9 / wall_ns if wall_ns else 0.0,
        )


class InferenceResults(BatchResults[A]):
    """The results of a batch that an engine ran: wall time in `stats`, its `metrics`, and its `service_levels`."""

    def __init__(
        self,
        responses: Iterable[BatchResponse[A]],
        stats: BatchStats | None = None,
        slo: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(responses, stats)
        self.metrics = BatchMetrics.of(self.responses, self.stats.total_duration_ns)
        self.service_levels = [_level(name, target, self.metrics) for name, target in (slo or {}).items()]

    @property
    def slo_met(self) -> bool | None:
        """Whether every target was met; None where none was set."""
        return all(level.met for level in self.service_levels) if self.service_levels else None


def check_slo(slo: Mapping[str, float] | None) -> None:
    """Raise BatchRequestError for a target that has no such name or is not a positive number."""
    for name, target in (slo or {}).items():
        try:
            check_target(name, target, (*LATEST, *LEAST))
        except ValueError as error:
            raise BatchRequestError(f"slo: {error}") from None


def _level(name: str, target: float, metrics: BatchMetrics) -> ServiceLevel:
    if name in LEAST:
        return ServiceLevel.of(name, target, getattr(metrics, name))
    figure, percentile = LATEST[name]
    times: Percentiles = getattr(metrics, figure)
    return ServiceLevel.of(name, target, getattr(times, percentile) if times.count else None)


def _quantile(values: Sequence[float], share: float) -> float:
    """Linear between the two nearest ranks; `values` are sorted and not empty."""
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)
