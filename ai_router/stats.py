"""All jobs together: items, tokens, cost, latency and failures, by model, day and tag."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from batch.checkpoint.about import read_about
from batch.checkpoint.listing import checkpoints_of
from batch.checkpoint.summary import JobSummary, Sums, summary_of
from batch.checkpoint.texts import mark_of
from batch.errors import BatchError
from batch.prices import dollars

CACHE_NAME = "stats.cache"  # beside the checkpoints: the sums of jobs that have not changed since
CACHE_FORMAT = 2
NO_TAG = "(no tag)"
_SUMS = tuple(part.name for part in fields(Sums))


@dataclass(slots=True)
class Part:
    """One line of a table: how many jobs, and what they add up to."""

    jobs: int = 0
    sums: Sums = field(default_factory=Sums)

    def add(self, sums: Sums, jobs: int = 1) -> None:
        """Take another's in."""
        self.jobs += jobs
        self.sums.add(sums)

    def facts(self) -> dict[str, Any]:
        """As JSON has it; a cost that is not known of all is not known."""
        sums = self.sums
        return {
            "jobs": self.jobs,
            "answered": sums.answered,
            "failed": sums.failed,
            "tokens_input": sums.tokens_input,
            "tokens_output": sums.tokens_output,
            "cost_dollars": sums.cost / 1e9,
            "cost_unknown": sums.cost_unknown,
            "mean_seconds": round(sums.seconds / sums.answered, 4) if sums.answered else None,
            "p50_seconds": _rounded(sums.percentile(0.5)),
            "p95_seconds": _rounded(sums.percentile(0.95)),
        }


@dataclass(slots=True)
class Stats:
    """The whole, and its parts. `days` are of the last change of a job (ISO), in order; a job counts for each tag."""

    total: Part = field(default_factory=Part)
    prompts: int = 0
    models: dict[str, Part] = field(default_factory=dict)
    days: dict[str, Part] = field(default_factory=dict)
    tags: dict[str, Part] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    skipped: list[tuple[Path, str]] = field(default_factory=list)

    def take(self, tags: Iterable[str], summary: JobSummary) -> None:
        """Count a job in."""
        whole = Sums()
        for name, sums in summary.models.items():
            whole.add(sums)
            if sums == Sums():  # only tries that cost nothing: another model answered, or its server by another name
                continue
            self.models.setdefault(name, Part()).add(sums)
        if not summary.models:
            self.models.setdefault(summary.model, Part()).add(whole)
        self.total.add(whole)
        self.prompts += summary.total
        self.days.setdefault(summary.timestamp[:10], Part()).add(whole)
        for tag in tuple(tags) or (NO_TAG,):
            self.tags.setdefault(tag, Part()).add(whole)
        for kind, number in summary.failures.items():
            self.failures[kind] = self.failures.get(kind, 0) + number

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            **self.total.facts(),
            "prompts": self.prompts,
            "failures": self.failures,
            "models": {name: part.facts() for name, part in self.models.items()},
            "days": {name: part.facts() for name, part in self.days.items()},
            "tags": {name: part.facts() for name, part in self.tags.items()},
            "skipped": [{"file": str(path), "reason": reason} for path, reason in self.skipped],
        }


def cost_text(sums: Sums) -> str:
    """`$1.20`, `≥ $1.20` where a part is not known, `unknown` where nothing is."""
    if sums.cost_unknown:
        return f"≥ {dollars(sums.cost)}" if sums.cost else "unknown"
    return dollars(sums.cost)


def read_stats(folder: Path, *, since: str = "", tag: str = "") -> Stats:
    """Count the jobs of a folder of checkpoints, of those changed since a day (ISO) and with a tag where given.

    Jobs that have not changed since they were last counted are not read again.
    """
    stats = Stats()
    cache = _Cache(folder / CACHE_NAME)
    for path in checkpoints_of(folder):
        try:
            summary = cache.summary(path)
        except (BatchError, OSError) as error:
            stats.skipped.append((path, str(error)))
            continue
        if summary.timestamp[:10] < since:
            continue
        tags = read_about(path).tags
        if not tag or tag in tags:
            stats.take(tags, summary)
    cache.save()
    stats.models = dict(sorted(stats.models.items(), key=lambda pair: -pair[1].sums.answered))
    stats.days = dict(sorted(stats.days.items()))
    stats.tags = {} if set(stats.tags) <= {NO_TAG} else dict(sorted(stats.tags.items()))
    stats.failures = dict(sorted(stats.failures.items(), key=lambda pair: -pair[1]))
    return stats


class _Cache:
    """Summaries by file, size and moment of the last change; a broken or foreign file is an empty one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: Mapping[str, Any] = {}
        self._now: dict[str, Any] = {}
        try:
            data = json.loads(path.read_bytes())
            if data["format"] == CACHE_FORMAT:
                self._kept = dict(data["jobs"])
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def summary(self, path: Path) -> JobSummary:
        """A job's, read where it is not known. Raises CheckpointError or OSError."""
        mark = mark_of(path)
        kept = self._kept.get(path.name)
        try:
            if kept is not None and kept["mark"] == mark:
                models = {name: Sums(*sums) for name, sums in kept["models"].items()}
                self._now[path.name] = kept
                return JobSummary(models, dict(kept["failures"]), *kept["job"])
        except (KeyError, TypeError, AttributeError):
            pass
        found = summary_of(path)
        self._now[path.name] = {
            "mark": mark,
            "models": {name: [getattr(sums, part) for part in _SUMS] for name, sums in found.models.items()},
            "failures": found.failures,
            "job": [found.model, found.total, found.timestamp],
        }
        return found

    def save(self) -> None:
        """Keep them, where something is new; a folder that cannot be written is no reason to fail."""
        from batch.export.atomic import atomic_file

        new = {name: value for name, value in self._now.items() if self._kept.get(name) is not value}
        if not new:
            return
        kept = {**self._kept, **self._now}
        kept = {name: value for name, value in kept.items() if (self._path.parent / name).exists()}
        try:
            with atomic_file(self._path) as file:
                file.write(json.dumps({"format": CACHE_FORMAT, "jobs": kept}).encode())
        except (OSError, BatchError):
            return


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
