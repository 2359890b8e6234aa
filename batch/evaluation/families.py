"""The metrics. Each family counts a few whole numbers a pair; its scores come from their sums over any set of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from batch.evaluation.edits import levenshtein
from batch.evaluation.gleu import gleu_score, gleu_stats
from batch.evaluation.reading.choice import choice_in
from batch.evaluation.reading.number import number_in
from batch.evaluation.reading.value import fields_of, json_in
from batch.evaluation.verdicts import Verdict
from batch.evaluation.view import View

Sums = Sequence[float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A score, 0 to 1, from the sums of its family's columns; `share` is where a proportion has its part and whole."""

    key: str
    title: str
    score: Callable[[Sums], float]
    share: tuple[int, int] | None = None
    lower_is_better: bool = False


class Family(Protocol):
    """Metrics that are made from the same counts."""

    @property
    def columns(self) -> int:
        """How many numbers it counts for each pair."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """Its scores."""

    def measure(self, view: View) -> Sequence[int]:
        """The numbers of one pair."""


def ratio(part: float, whole: float, empty: float = 0.0) -> float:
    """A share; `empty` where there is nothing to have a share of."""
    return part / whole if whole else empty


def f_score(precision: float, recall: float, beta: float) -> float:
    """The weighted harmonic mean; beta below 1 weighs precision more."""
    weight = beta * beta
    return ratio((1 + weight) * precision * recall, weight * precision + recall)


def proportion(key: str, title: str, part: int, whole: int, *, lower_is_better: bool = False) -> Metric:
    """A metric that is a share of pairs."""
    return Metric(key, title, lambda s: ratio(s[part], s[whole]), (part, whole), lower_is_better)


class Sentences:
    """Whether the whole text is right: the same, and as the kind of match has it."""

    columns = 3

    def __init__(self, match: str) -> None:
        self.metrics = [] if match == "regex" else [proportion("exact_match", "Exact match", 1, 0)]
        if match != "exact":
            title = {"json": "JSON equal"}.get(match, f"{match.capitalize()} match")
            self.metrics.insert(0, proportion(f"{match}_match", title, 2, 0))

    def measure(self, view: View) -> Sequence[int]:
        """One, exact, right."""
        return 1, view.exact, view.right


class Overlap:
    """Precision, recall and F1 of what prediction and expected text share, as multisets, summed over all pairs."""

    columns = 3

    def __init__(self, unit: str) -> None:
        self._characters = unit == "character"
        name = "Characters" if self._characters else "Tokens"
        self.metrics = [
            Metric(f"{unit}_precision", f"{name}, precision", lambda s: ratio(s[0], s[1])),
            Metric(f"{unit}_recall", f"{name}, recall", lambda s: ratio(s[0], s[2])),
            Metric(f"{unit}_f1", f"{name}, F1", lambda s: f_score(ratio(s[0], s[1]), ratio(s[0], s[2]), 1)),
        ]

    def measure(self, view: View) -> Sequence[int]:
        """Shared, predicted, expected."""
        if self._characters:
            made: Sequence[str] = view.predicted
            wanted: Sequence[str] = view.expected
        else:
            made, wanted = view.predicted_tokens, view.expected_tokens
        if made == wanted:
            return len(made), len(made), len(made)
        left = Counter(wanted)
        shared = 0
        for item, times in Counter(made).items():
            if item in left:
                shared += min(times, left[item])
        return shared, len(made), len(wanted)


class Edits:
    """Precision, recall and F0.5 of edits to the input, equal in place and replacement (as ERRANT's, without types).

    Where no edit is made precision is 1, where none is wanted recall is 1, as ERRANT has it.
    """

    columns = 3

    def __init__(self, level: str) -> None:
        self._characters = level == "character"
        key, name = ("character_edit", "Character edits") if self._characters else ("edit", "Edits")
        self.metrics = [
            Metric(f"{key}_precision", f"{name}, precision", edit_precision),
            Metric(f"{key}_recall", f"{name}, recall", edit_recall),
            Metric(f"{key}_f0.5", f"{name}, F0.5", edit_f05),
        ]

    def measure(self, view: View) -> Sequence[int]:
        """Right, too many, missing."""
        return view.character_edits if self._characters else view.token_edits


def edit_precision(sums: Sums) -> float:
    """Precision from edits right, too many, missing; 1 where none was made."""
    return ratio(sums[0], sums[0] + sums[1], 1.0)


def edit_recall(sums: Sums) -> float:
    """Recall from edits right, too many, missing; 1 where none was wanted."""
    return ratio(sums[0], sums[0] + sums[2], 1.0)


def edit_f05(sums: Sums) -> float:
    """F0.5 from edits right, too many, missing."""
    return f_score(edit_precision(sums), edit_recall(sums), 0.5)


class Gleu:
    """GLEU of the official script over the report's tokens."""

    columns = 10
    metrics = (Metric("gleu", "GLEU", gleu_score),)

    def measure(self, view: View) -> Sequence[int]:
        """The n-gram counts."""
        return gleu_stats(view.input_tokens, view.predicted_tokens, view.expected_tokens)


class Distance:
    """Levenshtein distance in characters over the length of the longer text, summed over all pairs."""

    columns = 2
    metrics = (
        Metric(
            "normalized_edit_distance",
            "Normalised edit distance",
            lambda s: ratio(s[0], s[1]),
            lower_is_better=True,
        ),
    )

    def measure(self, view: View) -> Sequence[int]:
        """Distance, longest."""
        longest = max(len(view.expected), len(view.predicted))
        return 0 if view.exact else levenshtein(view.expected, view.predicted), longest


class Corrections:
    """How often too much, too little or nothing was corrected, and how often a right input was changed."""

    columns = 6
    metrics = (
        proportion("over_correction_rate", "Over-corrected", 1, 0, lower_is_better=True),
        proportion("under_correction_rate", "Under-corrected", 2, 0, lower_is_better=True),
        proportion("no_correction_rate", "Not corrected", 3, 0, lower_is_better=True),
        proportion("changed_right_rate", "Right inputs changed", 5, 4, lower_is_better=True),
    )

    def measure(self, view: View) -> Sequence[int]:
        """One, over, under, none, input right, input right and changed."""
        verdict = view.verdict
        fine = view.input == view.expected
        return (
            1,
            verdict is Verdict.OVER_CORRECTED,
            verdict is Verdict.UNDER_CORRECTED,
            verdict is Verdict.NOT_CORRECTED,
            fine,
            fine and view.predicted != view.input,
        )


class JsonFields:
    """Whether predictions are JSON, and how many of the expected fields they have right."""

    columns = 4
    metrics = (
        proportion("json_validity", "Valid JSON", 1, 0),
        Metric("field_accuracy", "Fields right", lambda s: ratio(s[2], s[3])),
    )

    def measure(self, view: View) -> Sequence[int]:
        """One, valid, fields right, fields expected."""
        wanted = fields_of(json_in(view.pair.expected), view.normalise)
        try:
            made = fields_of(json_in(view.pair.predicted), view.normalise)
        except ValueError:
            return 1, 0, 0, len(wanted)
        return 1, 1, sum(made.get(path) == value for path, value in wanted.items()), len(wanted)


class Found:
    """How many predictions hold an answer of the kind looked for."""

    columns = 2

    def __init__(self, match: str) -> None:
        self._find: Callable[[str], object] = number_in if match == "number" else choice_in
        what = "number" if match == "number" else "choice"
        self.metrics = [proportion(f"{what}_found", f"A {what} found", 1, 0)]

    def measure(self, view: View) -> Sequence[int]:
        """One, found."""
        return 1, self._find(view.pair.predicted) is not None
