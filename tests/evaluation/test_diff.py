"""Spans to show: nothing of a text is lost, and the marks say what changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.evaluation.diff import diff, marked, spans, spans_if_alike

TEXT = st.text("aあ漢 カ\n。", max_size=30)


@given(TEXT, TEXT)
def test_spans_hold_both_texts(before: str, after: str) -> None:
    found = spans(before, after)
    assert "".join(text for text, kind in found if kind != "inserted") == before
    assert "".join(text for text, kind in found if kind != "deleted") == after
    assert all(text for text, _ in found)


def test_a_text_with_little_in_common_stands_as_it_is() -> None:
    assert spans_if_alike("# A long answer in English.", "海は青い。") == [("海は青い。", "same")]
    assert spans_if_alike("the red house", "the blue house") == spans("the red house", "the blue house")
    assert spans_if_alike("gone", "") == []


@given(TEXT, TEXT, TEXT)
def test_a_pair_shows_each_of_its_texts(given_text: str, expected: str, predicted: str) -> None:
    shown = diff(given_text, expected, predicted)
    assert "".join(text for text, _ in shown.input) == given_text
    assert "".join(text for text, _ in shown.expected) == expected
    assert "".join(text for text, kind in shown.predicted if kind != "deleted") == predicted


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("学校は図書館から遠い", "学校は図書館より遠い", "学校は図書館[-から-]{+より+}遠い"),
        ("It are red", "It is red", "It [-are-]{+is+} red"),
        ("one two three", "one 2 3", "one [-two three-]{+2 3+}"),  # a phrase, not word by word
        ("same", "same", "same"),
        ("", "new", "{+new+}"),
        ("カメラを", "カメロを", "カメ[-ラ-]{+ロ+}を"),
    ],
)
def test_marks(before: str, after: str, shown: str) -> None:
    assert marked(spans(before, after)) == shown


def test_an_answer_is_compared_only_where_it_resembles_what_was_expected() -> None:
    shown = diff("What is it?", "A hash table", "A hashed table", correction=False)
    assert (marked(shown.input), marked(shown.expected)) == ("What is it?", "A hash table")
    assert marked(shown.predicted) == "A [-hash-]{+hashed+} table"
    assert marked(diff("3 + 4?", "7", "The sum is 8.", correction=False).predicted) == "The sum is 8."
