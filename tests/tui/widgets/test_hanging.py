"""A value that is too long goes on below itself; nothing of it is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from textual.content import Content

from ai_router.tui.widgets.hanging import hanging


def test_labels_stand_alone() -> None:
    text = Content("created       2026-11-28 23:13:13\nfile          /a/path/that/is/long\nfits          yes")
    assert hanging(text, 14, 28).plain.split("\n") == [
        "created       2026-11-28",
        "              23:13:13",
        "file          /a/path/that/is/long",  # gets the whole width, as before
        "fits          yes",
    ]


@given(st.lists(st.lists(st.text("abcde日本é", min_size=1, max_size=12), max_size=12), max_size=6), st.integers(0, 60))
def test_no_word_is_lost_and_lines_fit(values: list[list[str]], width: int) -> None:
    text = Content("\n".join(f"{'label':<8}{' '.join(words)}" for words in values))
    hung = hanging(text, 8, width)
    assert hung.plain.split() == text.plain.split()
    if width >= 8 + 24:
        assert all(line.cell_length <= width for line in hung.split("\n", allow_blank=True))
