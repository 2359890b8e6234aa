"""When a job's answers came: counts by the second of work, beside the results, which keep no time of their own.

A table of its own that a version before this one neither makes nor misses: no step between formats. The second is that
of the job's `elapsed`, which goes on over resumes and stands still between them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from batch.checkpoint.store import CheckpointStore

TABLE = """
CREATE TABLE IF NOT EXISTS pace (
    second INTEGER PRIMARY KEY, answered INTEGER NOT NULL, failed INTEGER NOT NULL, tokens INTEGER NOT NULL,
    cost INTEGER NOT NULL
)
"""
_ADD = """
INSERT INTO pace (second, answered, failed, tokens, cost) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (second) DO UPDATE SET answered = answered + excluded.answered, failed = failed + excluded.failed,
    tokens = min(tokens + excluded.tokens, 9e18), cost = min(cost + excluded.cost, 9e18)
"""
MOST_POINTS = 120


@dataclass(frozen=True, slots=True)
class Point:
    """What came in a stretch of work that begins at `second`: `cost` is in billionths of a dollar, where known."""

    second: int
    answered: int = 0
    failed: int = 0
    tokens: int = 0
    cost: int = 0


def note_pace(connection: sqlite3.Connection, second: int, came: Point) -> None:
    """Add what came to a second, in the transaction that writes the results."""
    connection.execute(_ADD, (second, came.answered, came.failed, came.tokens, came.cost))


@dataclass(frozen=True, slots=True)
class Pace:
    """Stretches of equal length, `width` seconds each, from the job's beginning to its last answer without a gap.

    The last one is as long as the work went on in it: `seconds` of work in all; 0: to the end of the stretch.
    """

    width: int
    points: Sequence[Point]
    seconds: float = 0.0

    @property
    def lengths(self) -> list[float]:
        """Seconds of work in each stretch; of the last one half a second at least, so that its rate says something."""
        whole = [float(self.width)] * len(self.points)
        if whole and self.points[-1].second < self.seconds < self.points[-1].second + self.width:
            whole[-1] = max(0.5, self.seconds - self.points[-1].second)
        return whole

    @property
    def rates(self) -> list[float]:
        """Answers and failures a second, a figure a stretch."""
        came = zip(self.points, self.lengths, strict=True)
        return [(point.answered + point.failed) / seconds for point, seconds in came]

    @property
    def token_rates(self) -> list[float]:
        """Output tokens a second, a figure a stretch."""
        return [point.tokens / seconds for point, seconds in zip(self.points, self.lengths, strict=True)]

    @property
    def spent(self) -> list[int]:
        """The known cost up to the end of each stretch."""
        total, sums = 0, []
        for point in self.points:
            total += point.cost
            sums.append(total)
        return sums


def read_pace(path: Path) -> Pace | None:
    """The course of a job; None where nobody kept it. Raises CheckpointError."""
    with CheckpointStore(path) as store:
        if not store.rows("SELECT 1 FROM sqlite_master WHERE name = 'pace'"):
            return None
        rows = store.rows("SELECT second, answered, failed, tokens, cost FROM pace ORDER BY second")
        elapsed = store.job().elapsed
    return replace(course([Point(*row) for row in rows]), seconds=elapsed) if rows else None


def course(seconds: Sequence[Point], most: int = MOST_POINTS) -> Pace:
    """Some seconds, in their order, as at most so many stretches."""
    length = seconds[-1].second + 1
    # Where answers come every few seconds, a stretch holds several of them: else they are a row of spikes.
    width = max(-(-length // most), round(2 * (length / len(seconds) - 1)))
    found: dict[int, Point] = {}
    for point in seconds:
        at = point.second // width
        had = found.get(at, Point(at * width))
        found[at] = Point(
            at * width, had.answered + point.answered, had.failed + point.failed, had.tokens + point.tokens,
            had.cost + point.cost,
        )  # fmt: skip
    return Pace(width, [found.get(at) or Point(at * width) for at in range((length - 1) // width + 1)])
