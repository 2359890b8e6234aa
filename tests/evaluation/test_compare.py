"""Two runs beside each other, matched by id."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.evaluation.bootstrap import mcnemar_p
from batch.evaluation.compare import compare
from batch.evaluation.evaluate import evaluate
from batch.evaluation.options import EvaluationOptions
from batch.evaluation.pairs import Pair
from batch.evaluation.report import Comparison, Report
from batch.evaluation.verdicts import Verdict

pytest.importorskip("numpy")
GIVEN, WANTED, OTHER = "私が本は読む。", "私が本を読む。", "私が本で読む。"


def run(**predicted: str | None) -> list[Pair]:
    return [
        Pair(GIVEN, WANTED, made or GIVEN, name, error=None if made else "lost") for name, made in predicted.items()
    ]


def again(pairs: Sequence[Pair]) -> Callable[[], Sequence[Pair]]:
    return lambda: pairs


def compared(ours: Sequence[Pair], theirs: Sequence[Pair], samples: int = 200) -> tuple[Report, Comparison]:
    options = EvaluationOptions(samples=samples, fluency=False, tokeniser="script", task="correction")
    return compare(again(ours), again(theirs), options)


def test_what_got_fixed_and_what_broke() -> None:
    ours = run(a=WANTED, b=OTHER, c=WANTED, d=GIVEN, e=WANTED, f=None, only_ours=WANTED)
    theirs = run(e=WANTED, d=GIVEN, c=WANTED, b=WANTED, a=GIVEN, f=WANTED, only_theirs=OTHER)
    report, found = compared(ours, theirs)
    assert (found.paired, found.fixed, found.broken, found.both_right, found.both_wrong) == (5, 1, 1, 2, 1)
    assert (found.unchanged, found.only_ours, found.only_theirs, found.differing) == (3, 1, 2, 0)
    (fixed,), (broken,) = found.changes["fixed"], found.changes["broken"]
    assert (fixed.pair.example_id, fixed.before, fixed.verdict_before) == ("a", GIVEN, Verdict.NOT_CORRECTED)
    assert (broken.pair.example_id, broken.before, broken.pair.predicted) == ("b", WANTED, OTHER)
    assert broken.verdict is Verdict.WRONG
    # The reports are of all pairs, the differences of those in both.
    assert report.main.value == pytest.approx(4 / 6) and found.theirs.main.value == pytest.approx(4 / 7)
    exact = found.differences[0]
    assert (exact.ours, exact.theirs, exact.change, exact.test, exact.p) == (0.6, 0.6, 0.0, "mcnemar", 1.0)


def test_the_tests_see_a_difference_that_is_there() -> None:
    names = [f"q{at}" for at in range(60)]
    ours = run(**{name: WANTED if at < 50 else GIVEN for at, name in enumerate(names)})
    theirs = run(**{name: WANTED if at >= 30 else GIVEN for at, name in enumerate(names)})
    _, found = compared(ours, theirs)
    by_key = {difference.key: difference for difference in found.differences}
    exact = by_key["exact_match"]
    assert exact.p == pytest.approx(mcnemar_p(30, 10)) and exact.low is not None and exact.low > 0
    recall = by_key["edit_recall"]
    assert recall.test == "randomisation" and recall.p is not None and recall.p < 0.02
    assert recall.low is not None and recall.high is not None and recall.low < recall.change < recall.high
    assert by_key["no_correction_rate"].change == pytest.approx(-1 / 3)


def test_the_same_id_with_another_text_is_not_compared() -> None:
    ours = run(a=WANTED, b=WANTED)
    theirs = [Pair("別の文", "別の文", "別の文", "a"), *run(b=GIVEN)]
    _, found = compared(ours, theirs)
    assert (found.paired, found.differing, found.fixed) == (1, 1, 1)


def test_runs_without_a_common_question() -> None:
    _, found = compared(run(a=WANTED), run(b=WANTED))
    assert found.paired == 0 and found.differences == () and "nothing to compare" in found.notes[0]


def test_without_numpy_counts_are_compared_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("compare", "evaluate"):
        monkeypatch.setattr(f"batch.evaluation.{module}.has_numpy", lambda: False)
    _, found = compared(run(a=WANTED), run(a=GIVEN))
    assert found.fixed == 1 and "numpy" in found.notes[0]


OUTCOMES = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([WANTED, GIVEN, OTHER, None]), max_size=8)


@given(OUTCOMES, OUTCOMES)
@settings(deadline=None, max_examples=40)
def test_turned_around_the_difference_is_the_opposite(
    ours: dict[str, str | None], theirs: dict[str, str | None]
) -> None:
    _, one = compared(run(**ours), run(**theirs), samples=0)
    _, other = compared(run(**theirs), run(**ours), samples=0)
    assert (one.fixed, one.broken, one.only_ours) == (other.broken, other.fixed, other.only_theirs)
    assert one.fixed + one.broken + one.both_right + one.both_wrong == one.paired <= min(len(ours), len(theirs))
    for a, b in zip(one.differences, other.differences, strict=True):
        assert a.change == pytest.approx(-b.change)


def test_a_run_s_own_report_is_the_one_it_has_alone() -> None:
    ours = run(a=WANTED, b=OTHER, c=None)
    report, _ = compared(ours, run(a=OTHER))
    alone = evaluate(ours, EvaluationOptions(samples=200, fluency=False, tokeniser="script", task="correction"))
    assert report == alone
