"""A run's report against reference implementations and against counts made by hand."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.evaluation.evaluate import evaluate
from batch.evaluation.match import MATCHES, Match
from batch.evaluation.measure import Setup
from batch.evaluation.options import EvaluationOptions
from batch.evaluation.pairs import Pair, read_results
from batch.evaluation.report import Report
from batch.evaluation.tally import ScoreTally, wilson
from batch.evaluation.verdicts import Verdict

QUICK = {"samples": 0, "fluency": False, "tokeniser": "script"}
SENTENCE = st.text("私はがを本読む。", min_size=1, max_size=12)
PAIRS = st.lists(st.tuples(SENTENCE, SENTENCE, SENTENCE), min_size=1, max_size=20)


def pair(given_text: str, expected: str, predicted: str, name: str = "1", **more: str | None) -> Pair:
    return Pair(given_text, expected, predicted, name, **more)


def correction(*pairs: Pair, **options: object) -> Report:
    return evaluate(pairs, EvaluationOptions(**{**QUICK, "task": "correction", **options}))  # type: ignore[arg-type]


# What is wrong in each is by hand: two edits are wanted, は→を and む→みます.
GIVEN, WANTED = "私が本は読む。", "私が本を読みます。"
CASES = {
    Verdict.RIGHT: (WANTED, (2, 0, 0)),
    Verdict.NOT_CORRECTED: (GIVEN, (0, 0, 2)),
    Verdict.UNDER_CORRECTED: ("私が本を読む。", (1, 0, 1)),
    Verdict.OVER_CORRECTED: ("彼が本を読みます。", (2, 1, 0)),
    Verdict.WRONG: ("彼が本を読む。", (1, 1, 1)),
}


@pytest.mark.parametrize("verdict", CASES)
def test_verdicts_and_edits(verdict: Verdict) -> None:
    predicted, (right, extra, missing) = CASES[verdict]
    report = correction(pair(GIVEN, WANTED, predicted))
    assert report.verdicts == {verdict: 1}
    assert report.examples[verdict][0].predicted == predicted
    precision = right / (right + extra) if right + extra else 1.0
    recall = right / (right + missing)
    assert (report.value("edit_precision"), report.value("edit_recall")) == (precision, recall)
    f05 = 1.25 * precision * recall / (0.25 * precision + recall) if right else 0.0
    assert report.value("edit_f0.5") == pytest.approx(f05)


def test_rates_of_correction() -> None:
    report = correction(
        *(pair(GIVEN, WANTED, predicted, verdict) for verdict, (predicted, _) in CASES.items()),
        pair(WANTED, WANTED, "違う", "a"),
        pair(WANTED, WANTED, WANTED, "b"),
    )
    for key, value in (
        ("exact_match", 2 / 7),
        ("over_correction_rate", 2 / 7),
        ("under_correction_rate", 1 / 7),
        ("no_correction_rate", 1 / 7),
        ("changed_right_rate", 1 / 2),
    ):
        score = report.score(key)
        assert score is not None and score.value == pytest.approx(value) and score.method == "wilson"
    assert report.unchanged == 1


def test_failed_and_unscorable_rows_are_in_no_score() -> None:
    report = correction(
        pair(GIVEN, WANTED, WANTED),
        pair(WANTED, WANTED, WANTED, "2", error="timed out"),
        pair(GIVEN, "", GIVEN, "3"),
    )
    assert (report.total, report.scored, report.failed, report.unscorable) == (3, 1, 1, 1)
    assert report.main.value == 1.0 and report.errors == (("timed out", 1),)


def test_nothing_to_score_is_no_error() -> None:
    report = evaluate([pair("a", "b", "a", error="lost")])
    assert report.scored == 0 and report.main.low is None and report.lengths == () and report.failed == 1
    assert evaluate([]).total == 0


@given(PAIRS)
@settings(deadline=None, max_examples=60)
def test_overlap_and_distance_against_their_definitions(rows: list[tuple[str, str, str]]) -> None:
    distance = pytest.importorskip("rapidfuzz.distance").Levenshtein.distance
    report = correction(*(pair(*row, str(at)) for at, row in enumerate(rows)))
    shared = sum((Counter(wanted) & Counter(made)).total() for _, wanted, made in rows)
    made_in_all, wanted_in_all = (sum(len(row[at]) for row in rows) for at in (2, 1))
    assert report.value("character_precision") == pytest.approx(shared / made_in_all)
    assert report.value("character_recall") == pytest.approx(shared / wanted_in_all)
    apart = sum(distance(wanted, made) for _, wanted, made in rows)
    longest = sum(max(len(wanted), len(made)) for _, wanted, made in rows)
    assert report.value("normalized_edit_distance") == pytest.approx(apart / longest)
    assert report.main.value == sum(wanted == made for _, wanted, made in rows) / len(rows)
    assert all(0 <= score.value <= 1 for score in report.scores)


@given(PAIRS)
@settings(deadline=None, max_examples=30)
def test_the_order_of_pairs_does_not_matter(rows: list[tuple[str, str, str]]) -> None:
    pairs = [pair(*row, str(at)) for at, row in enumerate(rows)]
    assert correction(*pairs).scores == correction(*reversed(pairs)).scores


def test_bleu_and_chrf_are_sacrebleu_s() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    pytest.importorskip("MeCab")
    wanted = ["山下先生は母をご存知です。", "昨日の辞書は新しかったです。", "会長が薬を召し上がります。"]
    made = ["山下先生は母をしています。", "昨日の辞書は新しかったです。", "会長が\n薬を飲みます"]
    lines = [text.replace("\n", " ") for text in made]
    for tokeniser, name in (("mecab", "ja-mecab"), ("character", "char"), ("13a", "13a")):
        rows = [pair(w, w, m, str(at)) for at, (w, m) in enumerate(zip(wanted, made, strict=True))]
        report = evaluate(rows, EvaluationOptions(tokeniser=tokeniser, samples=50))
        bleu = sacrebleu.BLEU(tokenize=name)
        assert report.value("bleu") == pytest.approx(bleu.corpus_score(lines, [wanted]).score / 100)
        assert report.signatures["bleu"] == str(bleu.get_signature())
        chrf = sacrebleu.CHRF()
        assert report.value("chrf") == pytest.approx(chrf.corpus_score(lines, [wanted]).score / 100)
        assert report.signatures["chrf"] == str(chrf.get_signature())
    split = [(pair(w, w, m, str(at))) for at, (w, m) in enumerate(zip(wanted, made, strict=True))]
    assert evaluate(split, EvaluationOptions(tokeniser="script")).signatures["bleu"].endswith("(split by script)")


def test_bleu_of_a_known_example() -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("MeCab")
    row = pair("", "山下先生は母をしています。", "山下先生は母をご存知です。")
    for tokeniser, value in (("mecab", 0.421), ("13a", 0.0)):
        report = evaluate([row], EvaluationOptions(tokeniser=tokeniser, samples=0))
        assert report.value("bleu") == pytest.approx(value, abs=5e-4)


def test_without_the_extra_the_rest_is_measured_and_the_report_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MeCab", "ipadic", "sacrebleu", "sacrebleu.metrics", "sacrebleu.tokenizers.tokenizer_13a"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("batch.evaluation.evaluate.has_numpy", lambda: False)
    report = evaluate([pair(GIVEN, WANTED, WANTED)])
    assert report.tokeniser == "script" and report.score("bleu") is None and report.value("gleu") == 1.0
    assert report.score("exact_match") and report.score("exact_match").low is not None  # type: ignore[union-attr]
    assert report.score("gleu").low is None  # type: ignore[union-attr]
    said = " ".join(report.notes)
    assert said.count('pip install "ai-router[evaluation]"') == 3 and "BLEU and chrF" in said and "numpy" in said


def test_error_types_and_lengths() -> None:
    rows = [
        pair(GIVEN, WANTED, WANTED if at % 2 else GIVEN, str(at), error_type="particle" if at < 10 else "verb")
        for at in range(16)
    ]
    report = correction(*rows, pair("短い", "短い", "短い", "z", error_type="none"))
    assert [(t.name, t.n, t.right) for t in report.types] == [("particle", 10, 5), ("verb", 6, 3), ("none", 1, 1)]
    assert (report.types[0].low, report.types[0].high) == wilson(5, 10)
    assert report.types[0].edit_f05 == pytest.approx(1.25 * 0.5 / (0.25 + 0.5)) and report.types[2].edit_f05 is None
    assert [(b.shortest, b.longest, b.n, b.right) for b in report.lengths] == [(2, 7, 17, 9)]


def test_what_kind_of_task_it_is() -> None:
    questions = [pair("What is the capital of France?", "Paris", "Paris", str(at)) for at in range(3)]
    assert evaluate(questions, EvaluationOptions(**QUICK)).task == "answer"  # type: ignore[arg-type]
    report = evaluate([pair(GIVEN, WANTED, GIVEN)], EvaluationOptions(**QUICK))  # type: ignore[arg-type]
    assert report.task == "correction"
    report = evaluate([pair(GIVEN, WANTED, GIVEN)], EvaluationOptions(**QUICK, task="answer"))  # type: ignore[arg-type]
    assert report.verdicts == {Verdict.WRONG: 1} and report.score("edit_f0.5") is None


def test_general_matches_have_their_own_scores() -> None:
    rows = [
        pair("?", '{"a": 1, "b": "x"}', '{"a": 1, "b": "y"}', "1"),
        pair("?", '{"a": 1, "b": "x"}', "no idea", "2"),
        pair("?", '{"a": 1}', '```\n{"a": 1.0}\n```', "3"),
    ]
    report = evaluate(rows, EvaluationOptions(match="json", samples=20))
    assert report.main.key == "json_match" and report.main.value == pytest.approx(1 / 3)
    assert report.value("json_validity") == pytest.approx(2 / 3)
    assert report.value("field_accuracy") == pytest.approx(2 / 5)
    report = evaluate([pair("?", "B", "none"), pair("?", "B", "(B)")], EvaluationOptions(match="choice"))
    assert (report.main.key, report.main.value, report.value("choice_found")) == ("choice_match", 0.5, 0.5)
    report = evaluate([pair("?", "^4", "42")], EvaluationOptions(match="regex"))
    assert [score.key for score in report.scores] == ["regex_match"]


def test_normalisation_counts_everywhere_once_asked_for() -> None:
    row = pair("ＡＢＣ は", "ABC を", "ＡＢＣ を")
    assert correction(row).main.value == 0.0
    report = correction(row, normalise="width")
    assert report.main.value == report.value("edit_f0.5") == report.value("character_f1") == 1.0
    assert report.normalisation == ("width",)


def test_edits_of_characters_may_decide_the_verdict() -> None:
    # As script tokens the katakana word is one edit, which is wrong; as characters one of its two is right.
    row = pair("カメロ を", "カメラー を", "カメラ を")
    assert correction(row, level="token").verdicts == {Verdict.WRONG: 1}
    assert correction(row, level="character").verdicts == {Verdict.WRONG: 1}
    row = pair("アメロ を", "カメラ を", "アメラ を")
    assert correction(row, level="token").verdicts == {Verdict.WRONG: 1}
    assert correction(row, level="character").verdicts == {Verdict.UNDER_CORRECTED: 1}


def test_rows_kept_are_bounded(tmp_path: Path) -> None:
    rows = (pair(GIVEN, WANTED, GIVEN, str(at), error_type=f"type {at}") for at in range(700))
    report = evaluate(rows, EvaluationOptions(**QUICK, rows=3))  # type: ignore[arg-type]
    assert [p.example_id for p in report.examples[Verdict.NOT_CORRECTED]] == ["0", "1", "2"]
    assert len(report.types) == 501 and report.types[0].name == "(others)" and report.types[0].n == 200


def test_skipped_lines_are_part_of_the_report(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"input": "a", "expected": "a", "predicted": "a", "example_id": 1}\nbroken\n')
    report = evaluate(read_results(path))
    assert (report.total, report.skipped, report.problems[0].line) == (1, 1, 2)


def test_pairs_too_long_to_align_are_named() -> None:
    given_text = "x" + "文" * 20_000 + "y"
    report = correction(pair(given_text, "X" + given_text[1:], "X" + given_text[1:-1] + "Y"))
    assert report.verdicts == {Verdict.WRONG: 1} and "1 pairs over 16,384 characters" in report.notes[0]


def test_a_verdict_alone() -> None:
    setup = Setup(EvaluationOptions(**QUICK, task="correction"))  # type: ignore[arg-type]
    for verdict, (predicted, _) in CASES.items():
        assert setup.verdict(pair(GIVEN, WANTED, predicted)) is verdict
    assert setup.verdict(pair(GIVEN, WANTED, WANTED, error="lost")) is Verdict.FAILED
    assert setup.verdict(pair(GIVEN, "", GIVEN)) is Verdict.UNSCORABLE


@pytest.mark.parametrize("match", MATCHES)
def test_the_running_score_agrees_with_the_report(match: Match) -> None:
    texts = ["B", "(B) 12", '{"a": 1}', "no", "12", "^B", ""]
    rows = [pair("?", w, m, f"{w}{m}", error="x" if m == "no" else None) for w in texts for m in texts]
    running = ScoreTally(match)
    for row in rows:
        running.add(row)
    report = evaluate(rows, EvaluationOptions(match=match, samples=0))
    assert (running.n, running.failed, running.unscorable) == (report.scored, report.failed, report.unscorable)
    assert running.n and running.score == report.main.value and running.interval == (report.main.low, report.main.high)
