"""Categories on prompts of other families than they were learned from; languages; code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_router.routing.categories import category_of, probabilities
from ai_router.routing.cues import CATEGORIES
from ai_router.routing.features import BUCKETS, features, has_code
from ai_router.routing.language import LANGUAGES, language_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "routing"
sys.path.insert(0, str(EXAMPLE))
train_categories = pytest.importorskip("train_categories")


def test_the_halves_share_no_family_and_are_large_enough() -> None:
    train, held = (train_categories.read(EXAMPLE / "prompts" / f"{half}.txt") for half in ("train", "held_out"))
    assert not {p.family for p in train} & {p.family for p in held}
    assert not {p.text for p in train} & {p.text for p in held}
    assert len(train) + len(held) >= 600 and len(held) >= 300
    assert len({p.language for p in held}) >= 5 and "ja" in {p.language for p in held}
    assert {p.category for p in held} == set(CATEGORIES)


def test_good_and_calibrated_on_the_held_out_half(capsys: pytest.CaptureFixture[str]) -> None:
    figures = train_categories.measure(train_categories.read(EXAMPLE / "prompts" / "held_out.txt"), errors=False)
    assert figures["macro_f1"] >= 0.90
    assert figures["ece"] <= 0.05
    assert figures["macro_f1"] > figures["keywords"]


@given(st.text())
def test_any_text_has_a_category_and_shares_that_add_up(text: str) -> None:
    shares = probabilities(text)
    assert sum(shares) == pytest.approx(1) and min(shares) >= 0
    guess = category_of(text)
    assert guess.category in CATEGORIES and 0 <= guess.probability <= 1
    assert language_of(text) in LANGUAGES
    buckets, weights = features(text)
    assert len(buckets) == len(weights) and all(0 <= bucket < BUCKETS for bucket in buckets)


def test_a_long_prompt_is_looked_at_in_part() -> None:
    text = "Translate into French: " + "the sea is wide and blue today, " * 20_000
    assert category_of(text).category == "translation"
    assert len(features(text)[0]) < 500


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is the station?", "en"),
        ("Wo ist der Bahnhof?", "de"),
        ("Où est la gare, et comment y aller ?", "fr"),
        ("¿Dónde está la estación de los trenes?", "es"),
        ("駅はどこですか", "ja"),
        ("车站在哪里", "zh"),
        ("역이 어디예요?", "ko"),
        ("Где вокзал?", "ru"),
        ("", "en"),
        ("What does 猫 mean in this long English sentence about cats?", "en"),
    ],
)
def test_language(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    "text", ["def f(x):\n    return x", "x => x + 1", "SELECT a FROM b WHERE c", "<div>x</div>", "```\na\n```"]
)
def test_code(text: str) -> None:
    assert has_code(text)
    assert not has_code("Please write to me about the weather (rain, wind) in Rome; thanks: a lot.")
