"""ERRANT behind its extra. Its own English model is not here, so its annotator is stood in for."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from batch.errors import BatchError, MissingExtraError
from batch.evaluation.edits import edits
from batch.evaluation.evaluate import evaluate
from batch.evaluation.options import EvaluationOptions
from batch.evaluation.pairs import Pair

OPTIONS = EvaluationOptions(errant=True, samples=0, fluency=False, tokeniser="script", task="correction")
ROW = Pair("He go quickly to school", "He goes quickly to the school", "He goes quickly at school", "1")


class Annotator:
    """The two functions that are used, with words for parses."""

    def parse(self, text: str, tokenise: bool = False) -> list[str]:
        assert tokenise
        return text.split()

    def annotate(self, source: list[str], target: list[str]) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(
                o_start=e.start,
                o_end=e.end,
                c_str=" ".join(e.replacement),
                type="UNK" if e.replacement == ("at",) else "R:OTHER",
            )
            for e in edits(source, target)
        ]


def test_its_edits_are_counted_but_for_those_it_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "errant", SimpleNamespace(load=lambda language: Annotator()))
    report = evaluate([ROW], OPTIONS)
    assert (report.value("errant_precision"), report.value("errant_recall")) == (1.0, 0.5)
    assert report.value("edit_precision") == 0.5
    assert report.value("errant_f0.5") == pytest.approx(1.25 * 0.5 / (0.25 + 0.5))


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "errant", None)
    with pytest.raises(MissingExtraError, match=r"ai-router\[errant\]"):
        evaluate([ROW], OPTIONS)

    def load(language: str) -> None:
        raise OSError("[E050] Can't find model")

    monkeypatch.setitem(sys.modules, "errant", SimpleNamespace(load=load))
    with pytest.raises(BatchError, match="spacy download en_core_web_sm"):
        evaluate([ROW], OPTIONS)
