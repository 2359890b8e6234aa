"""Intervals and tests: seeded, of the known width, and right about chance."""

from __future__ import annotations

import math
import random

import pytest

from batch.evaluation.bootstrap import interval, mcnemar_p, randomisation_p, resampled, swapped
from batch.evaluation.evaluate import evaluate
from batch.evaluation.options import EvaluationOptions
from batch.evaluation.pairs import Pair

np = pytest.importorskip("numpy")


def test_resampled_sums_are_of_as_many_pairs_and_seeded() -> None:
    counts = np.array([[1, 5], [1, 0], [1, 7]], dtype=np.int32)
    totals = resampled(counts, 200, seed=1)
    assert totals.shape == (200, 2) and (totals[:, 0] == 3).all()
    assert set(totals[:, 1]) <= {5 * a + 7 * b for a in range(4) for b in range(4 - a)}
    assert (totals == resampled(counts, 200, seed=1)).all()
    assert (totals != resampled(counts, 200, seed=2)).any()


def test_blocks_change_nothing_about_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.arange(60, dtype=np.int32).reshape(30, 2)
    whole = resampled(counts, 17, seed=3)
    monkeypatch.setattr("batch.evaluation.bootstrap._BLOCK", 7)
    assert (resampled(counts, 17, seed=3) == whole).all()


def test_the_interval_of_a_share_is_as_wide_as_theory_says() -> None:
    right = np.array([[1, int(at < 300)] for at in range(1_000)], dtype=np.int32)
    low, high = interval(resampled(right, 2_000, seed=0), lambda sums: sums[1] / sums[0])
    wide = 1.96 * math.sqrt(0.3 * 0.7 / 1_000)
    assert low == pytest.approx(0.3 - wide, abs=0.004) and high == pytest.approx(0.3 + wide, abs=0.004)


def test_scores_come_with_their_intervals_and_the_seed_decides() -> None:
    rng = random.Random(0)
    rows = [Pair("", "abcdef", "abc" + rng.choice("defxyz") * 3, str(at)) for at in range(60)]
    options = {"task": "answer", "fluency": False}
    first = evaluate(rows, EvaluationOptions(**options)).score("character_f1")  # type: ignore[arg-type]
    assert first is not None and first.low is not None and first.high is not None
    assert first.low < first.value < first.high and first.method == "bootstrap"
    assert evaluate(rows, EvaluationOptions(**options)).score("character_f1") == first  # type: ignore[arg-type]
    assert evaluate(rows, EvaluationOptions(**options, seed=1)).score("character_f1") != first  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ours", "theirs", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 5, 0.0625),  # 2 / 2**5
        (1, 9, 0.021484375),  # 2 * (1 + 10) / 2**10
        (9, 1, 0.021484375),
        (1_400, 1_600, math.erfc(math.sqrt(199**2 / 3_000 / 2))),
    ],
)
def test_mcnemar(ours: int, theirs: int, p: float) -> None:
    assert mcnemar_p(ours, theirs) == pytest.approx(p)


def test_randomisation_agrees_with_the_exact_test_where_there_is_one() -> None:
    a = np.array([[1, int(at < 60)] for at in range(100)], dtype=np.int32)
    b = np.array([[1, int(at % 2 == 0 and at < 90)] for at in range(100)], dtype=np.int32)
    better, worse = int((a[:, 1] > b[:, 1]).sum()), int((a[:, 1] < b[:, 1]).sum())
    moved = swapped(a - b, 20_000, seed=0)
    p = randomisation_p(a.sum(0).tolist(), b.sum(0).tolist(), moved, lambda s: s[1] / s[0])
    assert p == pytest.approx(mcnemar_p(better, worse), abs=0.01)


def test_runs_that_are_the_same_do_not_differ() -> None:
    a = np.array([[1, 1], [1, 0]], dtype=np.int32)
    moved = swapped(a - a, 100, seed=0)
    assert randomisation_p([2, 1], [2, 1], moved, lambda s: s[1] / s[0]) == 1.0
