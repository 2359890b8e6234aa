"""Text from outside: shown, never obeyed, cut by cells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ai_router.tui.widgets.text import count, cut, harmless, inert, inert_block, one_line, pad, plural

FORBIDDEN = {chr(code) for code in [*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x202A, 0x2066, 0x2028, 0xFEFF]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b]52;c;aGk=\x07", "␛]52;c;aGk=␇"),
        ("a\0b", "a␀b"),
        ("one\ntwo\r\nthree", "one⏎two⏎three"),
        ("a\tb", "a b"),
        ("\x9b31m", "�31m"),
        ("\u202eabc", "‹U+202E›abc"),
        ("\ud800", "�"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
        ("日本語", "日本語"),
    ],
)
def test_harmless(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_a_block_keeps_its_lines() -> None:
    assert inert_block("one\n\ttwo\x1b").plain == "one\n    two␛"


def test_markup_is_text() -> None:
    assert inert("[red]x[/] [@click=app.bell]y[/]").plain == "[red]x[/] [@click=app.bell]y[/]"
    assert not inert("[red]x[/]").spans


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
        ("", 4, ""),
    ],
)
def test_cut(text: str, width: int, shown: str) -> None:
    assert cut(text, width) == shown


@given(st.text(), st.integers(0, 40))
def test_one_line_fits_and_is_harmless(text: str, width: int) -> None:
    line = one_line(text, width)
    assert cell_len(line) <= width
    assert not FORBIDDEN & set(line)


@given(st.text(), st.integers(1, 40), st.booleans())
def test_pad_is_exact(text: str, width: int, right: bool) -> None:
    assert cell_len(pad(one_line(text), width, right=right)) == width


def test_a_megabyte_on_one_line_is_quick_to_show() -> None:
    import time

    text = "x\x1b" * 500_000
    start = time.perf_counter()
    assert cell_len(one_line(text, 60)) == 60
    assert time.perf_counter() - start < 0.1


def test_numbers() -> None:
    assert count(1234567) == "1,234,567"
    assert plural(1, "job") == "1 job"
    assert plural(2, "job") == "2 jobs"
    assert plural(2, "match", "matches") == "2 matches"
