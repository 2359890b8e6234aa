"""A job in figures: its course, its durations, its models and failures, and its scores by category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from batch.checkpoint import CheckpointStore
from batch.checkpoint.pace import Pace, read_pace
from batch.checkpoint.summary import EDGES, JobSummary, Sums, summary_of
from batch.job import BatchJob

MOST_CATEGORIES = 40
MOST_ERRORS = 12
NO_CATEGORY, ALL = "(no category)", "all"


@dataclass(frozen=True, slots=True)
class Category:
    """The items of one category whose answer is known: how many were judged, how many are right, the 95 % interval."""

    name: str
    n: int
    right: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is drawn of a job. `pace` is None where nobody kept when its answers came."""

    job: BatchJob
    summary: JobSummary
    pace: Pace | None = None
    errors: Sequence[tuple[str, str, int]] = ()  # class, message, how many
    categories: Sequence[Category] = ()
    total: Sums = field(default_factory=Sums)  # over all models


def picture_of(path: Path) -> Picture:
    """Read a job's checkpoint for its picture. Raises CheckpointError."""
    with CheckpointStore(path) as store:
        job, errors = store.job(), store.error_counts(MOST_ERRORS)
    summary = summary_of(path)
    total = Sums()
    for sums in summary.models.values():
        total.add(sums)
    return Picture(job, summary, read_pace(path), errors, categories_of(path), total)


def categories_of(path: Path) -> list[Category]:
    """Right answers by the category that a dataset gives its examples, the most frequent first; of other jobs none."""
    with CheckpointStore(path) as store:
        job = store.job()
        extra = store.request(0).extra if job.total_prompts else None
        if not extra or "expected" not in extra:
            return []
        from batch.datasets.results import pair_of, with_requests
        from batch.evaluation.tally import ScoreTally

        tallies: dict[str, ScoreTally] = {}
        for request, result in with_requests(store, store.iter_results(part="done")):
            pair = pair_of(request, result)
            tallies.setdefault(pair.error_type or NO_CATEGORY, ScoreTally()).add(pair)
    found = [Category(name, tally.n, tally.right, *tally.interval) for name, tally in tallies.items() if tally.n]
    if [category.name for category in found] == [NO_CATEGORY]:  # nothing to be told apart
        found = [replace(found[0], name=ALL)]
    return sorted(found, key=lambda category: (-category.n, category.name))[:MOST_CATEGORIES]


def latency_bins(latency: Sequence[int]) -> list[tuple[str, int]]:
    """`≤ 0.08`, … seconds and how many answers took so long: the bins that hold something, and those between them."""
    full = [place for place, number in enumerate(latency) if number]
    if not full:
        return []
    names = [f"≤ {edge:,.2f}" if edge < 10 else f"≤ {edge:,.0f}" for edge in EDGES] + [f"> {EDGES[-1]:,.0f}"]
    return [(names[place], latency[place]) for place in range(full[0], full[-1] + 1)]
