"""Two runs over the same questions for a screen, and the runs there are to compare with."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_router.kinds import kind_of
from ai_router.kinds.base import SCORE
from ai_router.tui.results.pages import Rows
from ai_router.tui.scoring.data import JobPairs, PairSource, Scorer

if TYPE_CHECKING:
    from batch.checkpoint import CheckpointInfo
    from batch.evaluation.options import EvaluationOptions
    from batch.evaluation.pairs import Pair
    from batch.evaluation.report import Comparison, Report

FIXED, BROKEN, BOTH_WRONG, BOTH_RIGHT = range(4)


@dataclass(frozen=True, slots=True)
class Both:
    """A question with what both runs predicted."""

    pair: Pair  # of the run that is looked at
    before: str


class Compared:
    """Two scored runs beside each other: for each question in both, where it is and what became of it."""

    def __init__(self, ours: Scorer, theirs: Scorer) -> None:
        from batch.evaluation.compare import compared, matched
        from batch.evaluation.measure import VERDICTS
        from batch.evaluation.verdicts import Verdict

        mine, other = ours.measured, theirs.measured
        assert mine is not None and other is not None and ours.report is not None and theirs.report is not None
        self.ours, self.theirs = ours.source, theirs.source
        self.report: Report = ours.report
        self.comparison: Comparison = compared(
            mine, other, ours.report, theirs.report, ours.source.pairs, theirs.source.pairs
        )
        self.places: array[int] = array("q")
        self.places_before: array[int] = array("q")
        self.verdicts, self.verdicts_before = bytearray(), bytearray()
        self.outcomes, self.changed = bytearray(), bytearray()
        right = VERDICTS.index(Verdict.RIGHT)
        for a, b in matched(mine, other):
            now, before = mine.row_verdicts[a], other.row_verdicts[b]
            self.places.append(ours.rows.places[ours.scored_rows[a]])
            self.places_before.append(theirs.rows.places[theirs.scored_rows[b]])
            self.verdicts.append(now)
            self.verdicts_before.append(before)
            self.outcomes.append(
                (BOTH_RIGHT if before == right else FIXED)
                if now == right
                else BROKEN
                if before == right
                else BOTH_WRONG
            )
            self.changed.append(mine.predictions[a] != other.predictions[b])

    def __len__(self) -> int:
        return len(self.places)

    def count(self, outcome: int) -> int:
        """How many questions had an outcome."""
        return self.outcomes.count(outcome)

    def select(self, outcome: int | None = None, *, changed: bool = False) -> Sequence[int]:
        """The rows of an outcome, or those whose prediction is another one now; else all."""
        if changed:
            return array("i", (row for row, other in enumerate(self.changed) if other))
        if outcome is None:
            return range(len(self))
        return array("i", (row for row, other in enumerate(self.outcomes) if other == outcome))

    @contextmanager
    def opened(self) -> Iterator[Rows[Both]]:
        """Reads some rows, whole."""
        with self.ours.opened() as now, self.theirs.opened() as before:

            def rows(wanted: Sequence[int]) -> list[Both]:
                pairs = now([self.places[row] for row in wanted])
                earlier = before([self.places_before[row] for row in wanted])
                return [Both(pair, old.predicted) for pair, old in zip(pairs, earlier, strict=True)]

            yield rows


class Comparing:
    """Scores two runs with the same setup in one thread; another may look how far it is, and stop it."""

    def __init__(self, ours: PairSource, theirs: PairSource, options: EvaluationOptions) -> None:
        self._sources, self._options = (ours, theirs), options
        self._scorer: Scorer | None = None
        self._stopped = False
        self.text = "scoring"

    def stop(self) -> None:
        """Go no further."""
        self._stopped = True
        if self._scorer is not None:
            self._scorer.stop()

    def run(self, progress: Callable[[], object]) -> Compared:
        """Both, one after the other. Raises Stopped."""
        done: list[Scorer] = []
        for number, source in enumerate(self._sources, 1):
            setup = done[0].measured.setup if done and done[0].measured else None
            scorer = self._scorer = Scorer(source, self._options, setup=setup, keep_ids=True)
            if self._stopped:
                scorer.stop()

            def scored(scorer: Scorer = scorer, number: int = number) -> None:
                self.text = f"run {number} of 2: {scorer.text}"
                progress()

            done.append(scorer.run(scored))
        self.text = "comparing"
        progress()
        return Compared(*done)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that could be compared with."""

    info: CheckpointInfo
    about: str  # the model, and its adapter
    same_test: bool


def candidates(folder: Path, like: PairSource | None = None) -> list[Candidate]:
    """The jobs of a folder with known answers that have results, newest first; over the same test file first."""
    from batch.checkpoint import list_jobs
    from batch.errors import BatchError

    found = []
    for info in list_jobs(folder):
        if (
            SCORE not in kind_of(info.kind).actions
            or not info.completed
            or (like is not None and _same_file(info.file, like.path))
        ):
            continue
        try:
            job = JobPairs(info.file)
        except (BatchError, OSError):  # gone or damaged since it was listed
            continue
        same = isinstance(like, JobPairs) and _test_file(job) == _test_file(like)
        found.append(Candidate(info, job.about, same))
    return sorted(found, key=lambda candidate: not candidate.same_test)


def _test_file(job: JobPairs) -> Any:
    return os.path.basename(str(job.details.get("test_file", ""))), job.total


def _same_file(a: Path, b: Path) -> bool:
    return a.absolute() == b.absolute()
