"""Pairs in, counts out: one pass over a run that keeps a few whole numbers a pair."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from statistics import median
from typing import TYPE_CHECKING, Any

from batch.errors import MissingExtraError
from batch.evaluation.edits import MOST_CELLS, levenshtein
from batch.evaluation.families import (
    Corrections,
    Distance,
    Edits,
    Family,
    Found,
    Gleu,
    JsonFields,
    Overlap,
    Sentences,
)
from batch.evaluation.match import Match, Unscorable
from batch.evaluation.normalise import Normalisation
from batch.evaluation.options import EvaluationOptions
from batch.evaluation.pairs import Pair
from batch.evaluation.tokens import Tokeniser, find_tokeniser
from batch.evaluation.verdicts import Verdict
from batch.evaluation.view import View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOOKED_AT = 200  # pairs by which what is automatic is decided
_SIMILAR = 0.5  # from here on an expected answer is a correction of its input
_MOST_NAMES = 500  # error types and messages counted apart

VERDICTS = tuple(Verdict)
# An expected answer of the other kinds is no text that a prediction should resemble.
_COMPARED_AS_TEXTS = ("exact", "contains")
_OTHERS = "(others)"


class Setup:
    """How pairs are measured: the choices made, by a person or by the look of the first pairs."""

    def __init__(self, options: EvaluationOptions, sample: Sequence[Pair] = ()) -> None:
        self.options = options
        self.match: Match = options.match  # type: ignore[assignment]  # checked by the options
        self.normalise = Normalisation.of(options.normalise)
        self.notes: list[str] = []
        self.correction = _is_correction(options, sample)
        self.tokenise = find_tokeniser(options.tokeniser, [pair.expected for pair in sample])
        if self.tokenise.note:
            self.notes.append(f"Tokens are {self.tokenise.note}.")
        self.signatures: dict[str, str] = {}
        self.families = self._families()

    def view(self, pair: Pair) -> View:
        """A pair as the metrics see it. Raises Unscorable."""
        return View(
            pair, self.match, self.normalise, self.tokenise, correction=self.correction, level=self.options.level
        )

    def verdict(self, pair: Pair) -> Verdict:
        """What became of one pair."""
        if pair.error is not None:
            return Verdict.FAILED
        try:
            return self.view(pair).verdict
        except Unscorable:
            return Verdict.UNSCORABLE

    def _families(self) -> list[Family]:
        found: list[Family] = [Sentences(self.match)]
        if self.match == "json":
            found.append(JsonFields())
        elif self.match in ("number", "choice"):
            found.append(Found(self.match))
        if self.match not in _COMPARED_AS_TEXTS:
            return found
        if self.correction:
            found += [Edits("token"), Edits("character")]
            if self.options.errant:
                from batch.evaluation.errant import Errant

                found.append(Errant())
            found.append(Gleu())
        found += [Overlap("token"), Overlap("character")]
        found += self._fluency(self.tokenise)
        found.append(Distance())
        if self.correction:
            found.append(Corrections())
        return found

    def _fluency(self, tokenise: Tokeniser) -> list[Family]:
        if not self.options.fluency:
            return []
        from batch.evaluation.fluency import Bleu, Chrf

        try:
            bleu, chrf = Bleu(tokenise), Chrf()
        except MissingExtraError as error:
            self.notes.append(f"{error}.")
            return []
        self.signatures = {"bleu": bleu.signature, "chrf": chrf.signature}
        return [bleu, chrf]


class Measured:
    """The counts of a run, a row a scored pair. Texts are kept only of the first pairs of each verdict."""

    def __init__(self, setup: Setup, *, keep_ids: bool = False) -> None:
        self.setup = setup
        self.columns = sum(family.columns for family in setup.families)
        self.verdicts: Counter[Verdict] = Counter()
        self.types: dict[str, list[int]] = {}  # n, right, edits right, too many, missing
        self.lengths: dict[int, list[int]] = {}  # by characters of the input: n, right
        self.errors: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()  # why pairs could not be judged
        self.examples: dict[Verdict, list[Pair]] = {verdict: [] for verdict in Verdict}
        self.long = 0  # pairs whose texts may be too long to align
        self.unchanged = 0  # not right, and the input itself
        self.lengthened = 0  # neither, and over 1.5 times as long as expected
        self.ids: dict[str, int] | None = {} if keep_ids else None  # the row of an id
        self.row_verdicts = array("b")
        self.questions = array("q")  # hashes of input and expected answer, where ids are kept
        self.predictions = array("q")
        self._counts = array("i")

    @property
    def scored(self) -> int:
        """Pairs that were scored."""
        return len(self.row_verdicts)

    def add(self, pair: Pair) -> Verdict:
        """Count one pair."""
        if pair.error is not None:
            self.errors[_bounded(self.errors, pair.error)] += 1
            return self._count(Verdict.FAILED, pair)
        try:
            view = self.setup.view(pair)
        except Unscorable as error:
            self.reasons[_bounded(self.reasons, str(error))] += 1
            return self._count(Verdict.UNSCORABLE, pair)
        for family in self.setup.families:
            self._counts.extend(family.measure(view))
        verdict = view.verdict
        self.row_verdicts.append(VERDICTS.index(verdict))
        if self.ids is not None:
            self.ids[pair.example_id] = len(self.row_verdicts) - 1
            self.questions.append(hash((pair.input, pair.expected)))
            self.predictions.append(hash(pair.predicted))
        if self.setup.correction and len(view.input) * max(len(view.expected), len(view.predicted)) > MOST_CELLS:
            self.long += 1
        self._break_down(view, verdict)
        return self._count(verdict, pair)

    def counts(self) -> NDArray[np.int32]:
        """All counts as (pairs, columns)."""
        import numpy as np

        return np.frombuffer(self._counts, dtype=np.int32).reshape(-1, self.columns)

    def sums(self) -> list[int]:
        """The sum of each column."""
        return [sum(self._counts[at :: self.columns]) for at in range(self.columns)]

    def _count(self, verdict: Verdict, pair: Pair) -> Verdict:
        self.verdicts[verdict] += 1
        kept = self.examples[verdict]
        if len(kept) < self.setup.options.rows:
            kept.append(pair)
        return verdict

    def _break_down(self, view: View, verdict: Verdict) -> None:
        pair = view.pair
        bin_ = self.lengths.setdefault(len(pair.input), [0, 0])
        bin_[0] += 1
        bin_[1] += view.right
        if verdict is not Verdict.RIGHT:
            if view.predicted == view.input:
                self.unchanged += 1
            elif len(view.predicted) > 1.5 * len(view.expected):
                self.lengthened += 1
        if pair.error_type is not None:
            of_type = self.types.setdefault(_bounded(self.types, pair.error_type), [0, 0, 0, 0, 0])
            for at, value in enumerate((1, view.right, *(view.token_edits if self.setup.correction else ()))):
                of_type[at] += value


def measure(
    pairs: Iterable[Pair], options: EvaluationOptions, *, setup: Setup | None = None, keep_ids: bool = False
) -> Measured:
    """The counts of a run; `setup` is that of another run where both are to be compared."""
    stream = iter(pairs)
    first = list(islice(stream, LOOKED_AT))
    measured = Measured(setup or Setup(options, first), keep_ids=keep_ids)
    for pair in chain(first, stream):
        measured.add(pair)
    return measured


def _is_correction(options: EvaluationOptions, sample: Sequence[Pair]) -> bool:
    if options.match not in _COMPARED_AS_TEXTS or options.task == "answer":
        return False
    if options.task == "correction":
        return True
    alike = [_similarity(pair.input, pair.expected) for pair in sample if pair.expected]
    return bool(alike) and median(alike) >= _SIMILAR


def _similarity(a: str, b: str) -> float:
    a, b = a[:2_000], b[:2_000]
    return 1 - levenshtein(a, b) / max(len(a), len(b)) if a and b else 0.0


def _bounded(known: Any, name: str) -> str:
    return name if name in known or len(known) < _MOST_NAMES else _OTHERS
