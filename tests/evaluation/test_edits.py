"""Alignment and distances, against rapidfuzz and against what must hold for any pair of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.evaluation.edits import Edit, edits, levenshtein

distance = pytest.importorskip("rapidfuzz.distance")
FEW = st.lists(st.sampled_from("abcd"), max_size=12)
MANY = st.lists(st.sampled_from("abcdefghij"), max_size=40)


def applied(source: Sequence[str], found: list[Edit]) -> list[str]:
    made: list[str] = []
    at = 0
    for edit in found:
        made += [*source[at : edit.start], *edit.replacement]
        at = edit.end
    return made + list(source[at:])


@given(st.one_of(st.tuples(FEW, FEW), st.tuples(MANY, MANY)))
def test_edits_lead_from_source_to_target_at_the_least_cost(both: tuple[list[str], list[str]]) -> None:
    source, target = both
    found = edits(source, target)
    assert applied(source, found) == target
    cost = sum(distance.OSA.distance(source[e.start : e.end], list(e.replacement)) for e in found)
    assert cost == distance.OSA.distance(source, target)
    for edit, following in pairwise(found):
        assert edit.end < following.start  # adjacent ones are merged
    assert all(e.start < e.end or e.replacement for e in found)


@given(FEW, st.integers(0, 11), st.sampled_from("abcd"))
def test_one_insertion_is_the_same_edit_wherever_it_was_made(source: list[str], at: int, item: str) -> None:
    at = min(at, len(source))
    (edit,) = edits(source, [*source[:at], item, *source[at:]])
    assert edit == Edit(edit.start, edit.start, (item,))
    # It stands behind all equal neighbours.
    assert edit.start == len(source) or source[edit.start] != item


@given(st.text("aあ漢 ", max_size=40), st.text("aあ漢 ", max_size=40))
def test_levenshtein_is_rapidfuzz_s(a: str, b: str) -> None:
    assert levenshtein(a, b) == distance.Levenshtein.distance(a, b)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("a b c", "a b c", []),
        ("a b c", "a x c", [Edit(1, 2, ("x",))]),
        ("a b c", "b a c", [Edit(0, 2, ("b", "a"))]),  # an exchange is one edit, not two
        ("a b c d", "a x y d", [Edit(1, 3, ("x", "y"))]),
        ("a b c d e", "x b c d y", [Edit(0, 1, ("x",)), Edit(4, 5, ("y",))]),
        ("a b b c", "a b c", [Edit(2, 3, ())]),
        ("", "a b", [Edit(0, 0, ("a", "b"))]),
    ],
)
def test_known_edits(source: str, target: str, expected: list[Edit]) -> None:
    assert edits(source.split(), target.split()) == expected


def test_what_is_too_large_to_align_is_one_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch.evaluation.edits.MOST_CELLS", 8)
    assert edits(list("abcde"), list("xbcdy")) == [Edit(0, 5, tuple("xbcdy"))]
    monkeypatch.setattr("batch.evaluation.edits.MOST_DISTANCE_CELLS", 8)
    assert levenshtein("-abcde-", "-xbcdy-") == 5


def test_long_texts_with_a_small_difference_are_quick_and_exact() -> None:
    text = "0123456789" * 100_000
    assert levenshtein(text, text[:500_000] + "x" + text[500_001:]) == 1
    assert edits(text, text[:-5] + text[-3:]) == [Edit(999_995, 999_997, ())]
