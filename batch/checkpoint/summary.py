"""What the results of one job add up to, by model and kind of failure: one pass over the slim table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from batch.checkpoint.listing import CheckpointInfo
from batch.checkpoint.store import CheckpointStore

# Seconds; durations are counted between them, and above the last.
EDGES = tuple(round(0.01 * 2**step, 2) for step in range(20))


@dataclass(slots=True)
class Sums:
    """Counts and sums of some results. `cost` is in billionths of a dollar, of what is known of it."""

    answered: int = 0
    failed: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    cost: int = 0
    cost_unknown: int = 0
    seconds: float = 0.0  # of answering, over all answers
    latency: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))  # answers by duration, between EDGES

    def add(self, other: Sums) -> None:
        """Take another's in."""
        self.answered += other.answered
        self.failed += other.failed
        self.tokens_input += other.tokens_input
        self.tokens_output += other.tokens_output
        self.cost += other.cost
        self.cost_unknown += other.cost_unknown
        self.seconds += other.seconds
        self.latency = [a + b for a, b in zip(self.latency, other.latency, strict=True)]

    def percentile(self, fraction: float) -> float | None:
        """The duration that this share of the answers did not exceed, within the width of its bin; None without any."""
        total = sum(self.latency)
        wanted, seen = fraction * total, 0
        for place, number in enumerate(self.latency):
            if number and seen + number >= wanted:
                low = EDGES[place - 1] if place else 0.0
                high = EDGES[place] if place < len(EDGES) else 2 * EDGES[-1]
                share = max(0.0, wanted - seen) / number
                return float(low + (high - low) * share)
            seen += number
        return None


@dataclass(slots=True)
class JobSummary:
    """The sums of one job by the model that answered ("" where that was not kept), and its failures by class."""

    models: dict[str, Sums] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)


_BINS = ", ".join(
    f"sum(r.success AND r.duration > {low} AND r.duration <= {high})"
    for low, high in zip((-1.0, *EDGES), (*EDGES, 1e300), strict=True)
)
_RESULTS = f"""
SELECT coalesce(m.name, ''), r.error_class, sum(r.success), sum(NOT r.success), sum(r.tokens_input),
    sum(r.tokens_output), coalesce(sum(r.cost), 0),
    sum(r.cost IS NULL AND r.tokens_input + r.tokens_output > 0), sum(CASE WHEN r.success THEN r.duration END),
    {_BINS}
FROM results r LEFT JOIN models m ON m.id = r.model GROUP BY 1, 2
"""
_TRIES = """
SELECT coalesce(m.name, ''), sum(t.tokens_input), sum(t.tokens_output), coalesce(sum(t.cost), 0),
    sum(t.cost IS NULL AND t.tokens_input + t.tokens_output > 0)
FROM attempts t LEFT JOIN models m ON m.id = t.model GROUP BY 1
"""


def summary_of(path: Path, info: CheckpointInfo | None = None) -> JobSummary:
    """Count a job's results; tries that are no results count with their tokens and cost.

    A row without a model is the job's own, where `info` says which that is.
    """
    own = info.model_id if info is not None else ""
    found = JobSummary()
    with CheckpointStore(path, "snapshot") as store:
        for name, kind, good, bad, tokens_in, tokens_out, cost, unknown, seconds, *bins in store.rows(_RESULTS):
            sums = Sums(good, bad, tokens_in, tokens_out, cost, unknown, seconds or 0.0, bins)
            found.models.setdefault(name or own, Sums()).add(sums)
            if bad:
                found.failures[kind or "permanent"] = found.failures.get(kind or "permanent", 0) + bad
        for name, tokens_in, tokens_out, cost, unknown in store.rows(_TRIES):
            sums = Sums(0, 0, tokens_in, tokens_out, cost, unknown)
            found.models.setdefault(name or own, Sums()).add(sums)
    return found
