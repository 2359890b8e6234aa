"""Edits as ERRANT finds them (Bryant et al. 2017), which knows English only."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from batch.errors import BatchError, MissingExtraError
from batch.evaluation.families import Metric, edit_f05, edit_precision, edit_recall
from batch.evaluation.view import View

EXTRA = "errant"
# What ERRANT's own comparison leaves out where corrections count.
_IGNORED = ("UNK", "noop")


class Errant:
    """Span-based correction, ERRANT's default: an edit is right where its place and its replacement are."""

    columns = 3

    def __init__(self) -> None:
        self._annotator = _annotator()
        self.metrics = [
            Metric("errant_precision", "ERRANT, precision", edit_precision),
            Metric("errant_recall", "ERRANT, recall", edit_recall),
            Metric("errant_f0.5", "ERRANT, F0.5", edit_f05),
        ]

    def measure(self, view: View) -> Sequence[int]:
        """Right, too many, missing."""
        if view.exact and view.input == view.expected:
            return 0, 0, 0
        source = self._annotator.parse(view.input, True)
        wanted = self._edits(source, view.expected)
        made = wanted if view.exact else self._edits(source, view.predicted)
        return len(wanted & made), len(made - wanted), len(wanted - made)

    def _edits(self, source: Any, text: str) -> set[tuple[int, int, str]]:
        found = self._annotator.annotate(source, self._annotator.parse(text, True))
        return {(edit.o_start, edit.o_end, edit.c_str) for edit in found if edit.type not in _IGNORED}


def _annotator() -> Any:
    try:
        errant = importlib.import_module("errant")
    except ImportError:
        raise MissingExtraError(EXTRA, "ERRANT") from None
    try:
        return errant.load("en")
    except OSError:  # spaCy's way to say that a model is not there
        raise BatchError("ERRANT needs spaCy's small English model: python -m spacy download en_core_web_sm") from None
