"""BLEU and chrF as sacrebleu has them, with its signature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batch.errors import MissingExtraError
from batch.evaluation.families import Metric, Sums
from batch.evaluation.tokens import EXTRA, Tokeniser
from batch.evaluation.view import View


class Bleu:
    """Corpus BLEU. Where sacrebleu has the report's tokeniser it splits the texts, else they come to it split."""

    columns = 10

    def __init__(self, tokeniser: Tokeniser) -> None:
        self._bleu = _sacrebleu().BLEU(tokenize=tokeniser.bleu, force=True)
        self._split = tokeniser.bleu == "none"
        self._name = tokeniser.name
        _counts(self._bleu, "", "")  # before the first use it has no signature
        self.metrics = [Metric("bleu", "BLEU", self._score)]

    def measure(self, view: View) -> Sequence[int]:
        """Lengths and n-gram counts."""
        if self._split:
            return _counts(self._bleu, " ".join(view.predicted_tokens), " ".join(view.expected_tokens))
        return _counts(self._bleu, view.predicted, view.expected)

    @property
    def signature(self) -> str:
        """What sacrebleu says was measured."""
        return f"{self._bleu.get_signature()}" + (f" (split by {self._name})" if self._split else "")

    def _score(self, sums: Sums) -> float:
        return float(self._bleu._compute_score_from_stats([int(value) for value in sums]).score) / 100


class Chrf:
    """Corpus chrF over characters."""

    columns = 18

    def __init__(self) -> None:
        self._chrf = _sacrebleu().CHRF()
        _counts(self._chrf, "", "")
        self.metrics = [Metric("chrf", "chrF", lambda s: float(self._chrf._compute_f_score(s)) / 100)]

    def measure(self, view: View) -> Sequence[int]:
        """Counts of six orders."""
        return _counts(self._chrf, view.predicted, view.expected)

    @property
    def signature(self) -> str:
        """What sacrebleu says was measured."""
        return str(self._chrf.get_signature())


def _counts(metric: Any, predicted: str, expected: str) -> list[int]:
    # Its public functions keep all texts; these two, which they are made of, give the counts to add up.
    (counts,) = metric._extract_corpus_statistics([_line(predicted)], [[_line(expected)]])
    return list(counts)


def _line(text: str) -> str:
    # It takes a segment to be a line, and mecab stops at a NUL.
    return text.replace("\n", " ").replace("\0", "\ufffd")


def _sacrebleu() -> Any:
    try:
        import sacrebleu.metrics
    except ImportError:
        raise MissingExtraError(EXTRA, "Scoring by BLEU and chrF") from None
    return sacrebleu.metrics
