"""What scored jobs have shown: rates with their intervals, chances that are calibrated, and what is not counted."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_router.routing.beta import interval, share_below
from ai_router.routing.evidence import ENOUGH, Evidence, EvidenceError, Graded, best_single, vector
from ai_router.routing.predictor import fit, fit_rows

sizes = st.floats(0.5, 5000)


@given(st.floats(0, 1), sizes, sizes)
def test_the_beta_distribution_is_scipys(x: float, a: float, b: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert share_below(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), abs=1e-9)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (0.6, 12), (400, 3), (37, 41)])
def test_its_interval_too(a: float, b: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert interval(a, b) == pytest.approx(stats.beta.interval(0.95, a, b), abs=1e-6)


def graded(model: str, n: int, right: int, text: str = "What is {} * 7?", source: str = "job") -> list[Graded]:
    return [Graded(text.format(i), model, float(i < right), source, 5, 10, 20, 0.5) for i in range(n)]


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path / "evidence.db")


def test_rates_by_category(evidence: Evidence) -> None:
    assert evidence.rates().overall == {}
    assert evidence.add(graded("a", 40, 30)) == 40
    evidence.add(graded("a", 5, 0, "Translate into French: the {} cats"))
    rates = evidence.rates()
    math, few = rates.of("a", "math"), rates.of("a", "translation")
    assert math is not None and few is not None
    assert (math.n, math.right, math.cost, math.tokens_output) == (40, 30, 5, 20)
    assert math.low < math.mean < math.high and 0.70 < math.mean < 0.76
    assert math.enough and not few.enough and few.n < ENOUGH
    assert rates.of("a", "creative") is None
    assert rates.overall["a"].n == 45


def test_the_same_answer_is_counted_once(evidence: Evidence) -> None:
    evidence.add(graded("a", 10, 10))
    evidence.add(graded("a", 10, 0))
    assert evidence.rates().overall["a"].right == 0
    evidence.take("job", "10/0", "", graded("a", 4, 4))
    assert evidence.rates().overall["a"].n == 4
    assert evidence.taken() == {"job": ("10/0", "")}


def test_the_best_single_model(evidence: Evidence) -> None:
    evidence.add([*graded("a", 30, 10), *graded("b", 30, 20), *graded("c", 3, 3)])
    rates = evidence.rates()
    assert best_single(rates, ["a", "b", "c"]) == "b"
    assert best_single(rates, ["a"]) == "a"
    assert best_single(rates, ["c", "gone"]) is None


def test_a_damaged_or_newer_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "evidence.db"
    path.write_bytes(b"no database at all, but long enough to be taken for one" * 20)
    with pytest.raises(EvidenceError, match="delete it, and it is made anew"):
        Evidence(path).rates()
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(EvidenceError, match="newer version"):
        Evidence(path).rates()


def test_chances_say_more_than_the_category_where_features_tell(evidence: Evidence) -> None:
    good = [Graded(f"What is the sum of {i} and {i + 3}?", "a", 1.0, "job") for i in range(60)]
    bad = [Graded(f"Prove that {i} divides the matrix of group {i + 5}.", "a", 0.0, "job") for i in range(60)]
    evidence.add([*good, *bad])
    made = fit(evidence, "a")
    assert made is not None and made.weights is not None
    assert made.quality.brier < made.quality.plain / 2
    assert made.chance("What is the sum of 101 and 7?") > 0.8 > 0.2 > made.chance("Prove that 9 divides the group.")


def test_chances_are_the_rate_where_features_say_nothing(evidence: Evidence) -> None:
    draw = np.random.default_rng(1)
    evidence.add(Graded(f"What is {i} * {i + 1}?", "a", float(draw.random() < 0.7), "job") for i in range(200))
    made = fit(evidence, "a")
    rate = evidence.rates().of("a", "math")
    assert made is not None and rate is not None
    assert made.chance("What is 5 * 8?") == pytest.approx(rate.mean, abs=0.1)
    assert made.quality.ece < 0.1


def test_stated_chances_are_calibrated() -> None:
    draw = np.random.default_rng(2)
    x = np.zeros((3000, len(vector("a"))), np.float32)
    x[:, :20] = draw.normal(0, 1, (3000, 20))
    x[:, -1] = 1  # all of one category
    right = (draw.random(3000) < 1 / (1 + np.exp(-x[:, :20] @ draw.normal(0, 0.5, 20)))).astype(np.float32)
    made = fit_rows("a", x[:2000], right[:2000], ["general"] * 2000)
    stated = made.chances(x[2000:])
    assert np.abs(stated.mean() - right[2000:].mean()) < 0.04
    assert ((stated - right[2000:]) ** 2).mean() < 0.19
    assert made.quality.ece < 0.06


def test_no_rows_no_predictor(evidence: Evidence) -> None:
    assert fit(evidence, "a") is None
