"""When a prediction is right, and what is found in free text."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.evaluation.match import Match, Unscorable, is_right
from batch.evaluation.normalise import Normalisation
from batch.evaluation.reading.choice import choice_in
from batch.evaluation.reading.number import number_in
from batch.evaluation.reading.value import fields_of, json_in

PLAIN = Normalisation()


@pytest.mark.parametrize(
    ("match", "expected", "predicted", "right"),
    [
        ("exact", "a b", "a b", True),
        ("exact", "a b", "a b ", False),
        ("contains", "Paris", "It is Paris.", True),
        ("contains", "Paris", "It is paris.", False),
        ("regex", r"\b4[0-9]\b", "about 42 of them", True),
        ("regex", r"^42$", "about 42", False),
        ("number", "#### 1,234", "So she has 1234.0 apples.", True),
        ("number", "12", "１２個です", True),
        ("number", "-3", "it falls to −3", True),
        ("number", "3", "4, not 3 but 5", False),
        ("number", "3", "none", False),
        ("json", '{"a": 1, "b": [1, 2]}', '```json\n{"b": [1, 2.0], "a": 1}\n```', True),
        ("json", '{"a": 1}', '{"a": "1"}', False),
        ("json", '{"a": 1}', "{a: 1}", False),
        ("choice", "B", "The answer is (B).", True),
        ("choice", "B", "A, not B", False),
        ("choice", "B", "I think it is B", True),
    ],
)
def test_matches(match: Match, expected: str, predicted: str, right: bool) -> None:
    assert is_right(expected, predicted, match, PLAIN) is right


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("exact", ""),
        ("contains", " \n"),
        ("regex", "(unclosed"),
        ("number", "none"),
        ("json", "{"),
        ("choice", "none of them"),
    ],
)
def test_an_expected_answer_that_is_none_cannot_be_scored(match: Match, expected: str) -> None:
    with pytest.raises(Unscorable, match="expected answer"):
        is_right(expected, "anything", match, PLAIN)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(c)", "C"),
        ("**D**", "D"),
        ("D. Because it is", "D"),
        ("Answer: C, though A is near", "C"),
        ("答えはBです", "B"),
        ("Ｂ", "B"),
        ("A hash table is quick", None),
        ("I do not know", None),
        ("I would say D", "D"),
        ("", None),
    ],
)
def test_choices_in_text(text: str, letter: str | None) -> None:
    assert choice_in(text) == letter


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_a_number_is_found_however_it_is_written(number: Decimal) -> None:
    assert number_in(f"In the end: {number:,} in all.") == number
    assert number_in(f"1. It is {number}") == number


@given(st.text(max_size=60))
def test_nothing_in_a_text_makes_it_fail(text: str) -> None:
    number_in(text)
    choice_in(text)
    for match in ("number", "json", "choice", "contains", "exact"):
        is_right({"json": "1", "choice": "A"}.get(match, "1"), text, match, PLAIN)  # type: ignore[arg-type]


def test_fields_are_found_by_their_path() -> None:
    value = json_in('{"a": {"b": [1, "x"]}, "c": {}, "a/b": null}')
    assert fields_of(value, PLAIN) == {
        ("a", "b", 0): "1",
        ("a", "b", 1): '"x"',
        ("c",): "{}",
        ("a/b",): "null",
    }
    assert fields_of({"a": "Ａ"}, Normalisation(width=True)) == {("a",): '"A"'}


def test_long_runs_of_spaces_are_no_trap() -> None:
    for begin in ("answer", "A", "```", "1,"):
        text = (begin + " " * 50_000) * 4
        assert choice_in(text) in ("A", None)
        number_in(text)


@pytest.mark.parametrize("text", ["NaN", "[" * 100_000, "```\nnot json\n```", ""])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError):
        json_in(text)


def test_normalisation_is_off_unless_asked_for() -> None:
    text = " Ａ\u3000ﾊﾟ ①\n"
    assert not PLAIN and PLAIN(text) == text
    assert Normalisation(width=True)(text) == " A パ ①\n"
    assert Normalisation(nfkc=True)(text) == " A パ 1\n"
    assert Normalisation(whitespace=True)(text) == "Ａ ﾊﾟ ①"
    assert Normalisation(nfkc=True, whitespace=True, case=True)(text) == "a パ 1"
    assert Normalisation.of(" NFKC, case ").names == ("nfkc", "case")
    assert Normalisation.of("none") == PLAIN
    with pytest.raises(ValueError, match="there are nfkc, width, whitespace, case"):
        Normalisation.of("upper")


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    for normalise in (Normalisation(width=True), Normalisation(nfkc=True, whitespace=True)):
        assert normalise(normalise(text)) == normalise(text)
