"""What the results of one job add up to, by model and kind of failure: one pass over the slim table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from batch.checkpoint import legacy
from batch.checkpoint.store import CheckpointStore
from batch.errors import CheckpointError

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
    """The sums of one job by the model that answered, and its failures by class; and of the job its own model, how
    many items it has, and when it was changed last (ISO).
    """

    models: dict[str, Sums] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    model: str = ""
    total: int = 0
    timestamp: str = ""


_BIN = f"CASE {' '.join(f'WHEN r.duration <= {edge} THEN {at}' for at, edge in enumerate(EDGES))} ELSE {len(EDGES)} END"
# By number of model and by bin: one small group each, whatever the number of rows.
_RESULTS = f"""
SELECT r.model, r.success, r.error_class, {_BIN}, count(*), sum(r.tokens_input), sum(r.tokens_output),
    coalesce(sum(r.cost), 0), sum(r.cost IS NULL AND r.tokens_input + r.tokens_output > 0), sum(r.duration)
FROM results r GROUP BY 1, 2, 3, 4
"""
_TRIES = """
SELECT t.model, sum(t.tokens_input), sum(t.tokens_output), coalesce(sum(t.cost), 0),
    sum(t.cost IS NULL AND t.tokens_input + t.tokens_output > 0)
FROM attempts t GROUP BY 1
"""


def summary_of(path: Path) -> JobSummary:
    """Count a job's results; tries that are no results count with their tokens and cost.

    A row of which nobody kept who answered counts for the job's own model. Raises CheckpointError or OSError.
    """
    if path.suffix == ".json":  # an old one: its own counts are all there is
        job, _ = legacy.read(path)
        sums = Sums(job.completed, job.failed, 0, job.tokens_output)
        failures = {"unknown": job.failed} if job.failed else {}
        return JobSummary({job.model_id: sums}, failures, job.model_id, job.total_prompts, job.updated_at or "")
    with CheckpointStore(path, "snapshot") as store:
        found = JobSummary({}, {}, *_job_of(store))
        names: dict[int | None, str] = dict(store.rows("SELECT id, name FROM models"))

        def sums_of(model: int | None) -> Sums:
            return found.models.setdefault(names.get(model, found.model), Sums())

        for model, success, kind, place, count, tokens_in, tokens_out, cost, unknown, seconds in store.rows(_RESULTS):
            sums = sums_of(model)
            sums.tokens_input += tokens_in
            sums.tokens_output += tokens_out
            sums.cost += cost
            sums.cost_unknown += unknown
            if success:
                sums.answered += count
                sums.seconds += seconds
                sums.latency[place] += count
            else:
                sums.failed += count
                found.failures[kind or "permanent"] = found.failures.get(kind or "permanent", 0) + count
        for model, tokens_in, tokens_out, cost, unknown in store.rows(_TRIES):
            sums_of(model).add(Sums(0, 0, tokens_in, tokens_out, cost, unknown))
    return found


def _job_of(store: CheckpointStore) -> tuple[str, int, str]:
    """Model, items and last change: all that is wanted of the job's row here, where a thousand of them are read."""
    rows = store.rows("SELECT j.model_id, p.total, j.updated_at FROM job j JOIN plan p ON p.id = j.id")
    if not rows or [type(value) for value in rows[0]] != [str, int, str]:
        raise CheckpointError(f"Damaged checkpoint {store.path}: it holds no job")
    model, total, timestamp = rows[0]
    return model, total, timestamp
