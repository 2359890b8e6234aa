"""What an evaluation found, as plain values for whoever shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from batch.evaluation.pairs import Pair, Problem
from batch.evaluation.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Score:
    """One metric, 0 to 1, and its 95 % interval; None where there is none."""

    key: str
    title: str
    value: float
    low: float | None = None
    high: float | None = None
    method: str = ""  # of the interval: "wilson" or "bootstrap"
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True)
class TypeScore:
    """The pairs of one error type: how many, how many right, and F0.5 of their edits where edits are compared."""

    name: str
    n: int
    right: int
    low: float
    high: float
    edit_f05: float | None

    @property
    def share(self) -> float:
        """The share of right ones."""
        return self.right / self.n


@dataclass(frozen=True, slots=True)
class LengthBin:
    """The pairs whose input has `shortest` to `longest` characters, and how many of them are right."""

    shortest: int
    longest: int
    n: int
    right: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one run. Metrics are over `scored` pairs: all but the failed and the unscorable."""

    name: str
    total: int
    scored: int
    verdicts: Mapping[Verdict, int]
    scores: tuple[Score, ...]
    types: tuple[TypeScore, ...]
    lengths: tuple[LengthBin, ...]
    match: str
    task: str
    tokeniser: str
    normalisation: tuple[str, ...]
    level: str
    samples: int
    seed: int
    notes: tuple[str, ...] = ()  # what is missing and how to get it, what was assumed
    signatures: Mapping[str, str] = field(default_factory=dict)  # sacrebleu's, by metric
    errors: tuple[tuple[str, int], ...] = ()  # why predictions failed, the most frequent first
    skipped: int = 0  # lines that are no rows
    superseded: int = 0  # rows whose id came again later
    problems: tuple[Problem, ...] = ()  # the first of the skipped lines
    examples: Mapping[Verdict, tuple[Pair, ...]] = field(default_factory=dict)  # the first pairs of each verdict
    unchanged: int = 0  # predictions that are not right, and the input itself
    lengthened: int = 0  # those neither right nor unchanged, and over 1.5 times as long as expected

    @property
    def failed(self) -> int:
        """Pairs without a prediction."""
        return self.verdicts.get(Verdict.FAILED, 0)

    @property
    def unscorable(self) -> int:
        """Pairs that could not be judged; a note says why."""
        return self.verdicts.get(Verdict.UNSCORABLE, 0)

    @property
    def right(self) -> int:
        """Pairs that are right."""
        return self.verdicts.get(Verdict.RIGHT, 0)

    @property
    def main(self) -> Score:
        """The score that counts: the share of right predictions."""
        return self.scores[0]

    def score(self, key: str) -> Score | None:
        """The score of a key, None where it was not measured."""
        return next((score for score in self.scores if score.key == key), None)

    def value(self, key: str) -> float | None:
        """Its value alone."""
        found = self.score(key)
        return None if found is None else found.value


@dataclass(frozen=True, slots=True)
class Change:
    """A pair whose prediction changed from one run to the other."""

    pair: Pair  # of the run evaluated
    before: str  # what the other run predicted
    verdict: Verdict
    verdict_before: Verdict


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric in both runs over the pairs both answered: ours less theirs, its 95 % interval, and the test's p."""

    key: str
    title: str
    ours: float
    theirs: float
    low: float | None
    high: float | None
    p: float | None
    test: str  # "mcnemar" or "randomisation"
    lower_is_better: bool = False

    @property
    def change(self) -> float:
        """Ours less theirs."""
        return self.ours - self.theirs


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs over the same questions, matched by id. The counts but the last ones are of pairs scored in both."""

    name: str  # of the run evaluated
    against: str
    paired: int
    fixed: int  # right now, not before
    broken: int  # right before, not now
    both_right: int
    both_wrong: int
    unchanged: int  # the same text predicted; part of the four above
    only_ours: int  # ids that the other run does not have scored
    only_theirs: int
    differing: int  # the same id with another input or expected answer; not compared
    differences: tuple[Difference, ...]
    changes: Mapping[str, tuple[Change, ...]]  # "fixed" and "broken", the first of each
    theirs: Report
    notes: tuple[str, ...] = ()
