"""Text from outside: shown, never obeyed, cut by cells."""

from __future__ import annotations

import pytest
from driving import until
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult

from ai_router.tui.widgets.text import count, cut, fitting, harmless, inert, inert_block, one_line, pad, plural
from ai_router.tui.widgets.text_view import TextView
from ai_router.tui.widgets.wrapping import Block, wrap, wrap_blocks

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
    start = time.process_time()  # of this process alone, whatever else the machine does
    assert cell_len(one_line(text, 60)) == 60
    assert time.process_time() - start < 1


@given(st.text(alphabet=st.sampled_from("ab cd日本 語é🙂x\n ")), st.integers(2, 30))
def test_wrapping_loses_nothing_and_fits(text: str, width: int) -> None:
    lines = list(wrap(text, width))
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one two three", ["one two", "three"]),
        ("  indented", ["  indent", "ed"]),
        ("aaaaaaaaaa", ["aaaaaaaa", "aa"]),
        ("日本語の文です", ["日本語の", "文です"]),
        ("日本 語の文", ["日本", "語の文"]),
        ("a\n\nb", ["a", "", "b"]),
        ("", [""]),
    ],
)
def test_wrapping(text: str, lines: list[str]) -> None:
    assert list(wrap(text, 8)) == lines


class ViewApp(App[None]):
    """One text."""

    def compose(self) -> ComposeResult:
        yield TextView(Block("PROMPT", "title"), Block("a b c " * 20), Block("日本語\x1b[31m"))


async def test_a_view_grows_as_a_whole_would_be_wrapped() -> None:
    app = ViewApp()
    async with app.run_test(size=(20, 8)) as pilot:
        view = app.query_one(TextView)
        text = ""
        for piece in ("Once ", "upon a time there was", " a very\nlong", "\n", "", "日本語の文です" * 5, "\n\nend"):
            text += piece
            view.show(Block("PROMPT", "title"), Block(text), home=False)
            assert view._lines == wrap_blocks(view._blocks, view._width)
        await pilot.resize_terminal(33, 8)
        await pilot.pause()
        assert view._lines == wrap_blocks(view._blocks, view._width)


async def test_a_view_is_harmless_and_can_be_selected_from() -> None:
    app = ViewApp()
    async with app.run_test(size=(30, 12)) as pilot:
        view = app.query_one(TextView)
        assert "日本語␛[31m" in view.plain
        assert [view.render_line(y).text.rstrip()[:11] for y in (0, 1)] == ["PROMPT", "a b c a b c"]
        await pilot.mouse_down(view, offset=(0, 0))
        await pilot.hover(view, offset=(3, 1))
        await pilot.mouse_up(view, offset=(3, 1))
        await pilot.pause()
        assert app.screen.get_selected_text() == "PROMPT\na b "


async def test_a_megabyte_is_wrapped_in_a_thread() -> None:
    app = ViewApp()
    async with app.run_test(size=(30, 12)) as pilot:
        view = app.query_one(TextView)
        view.show(Block("word " * 200_000 + "end"))
        assert 0 < len(view._lines) < 1000
        await until(pilot, lambda: view._lines[-1][0].endswith("end"))


@pytest.mark.parametrize("lines", [200, 20_000])
async def test_what_is_read_stays_at_the_top_where_the_width_changes(lines: int) -> None:
    app = ViewApp()
    async with app.run_test(size=(60, 12)) as pilot:
        view = app.query_one(TextView)
        view.show(Block("".join(f"{n} " + "word " * 12 + "\n" for n in range(lines))))
        await until(pilot, lambda: len(view._lines) >= 2 * lines)
        at = next(place for place, line in enumerate(view._lines) if line.text.startswith(f"{lines // 2} "))
        await pilot.pause()
        view.scroll_to(y=at, animate=False, immediate=True)
        await pilot.pause()
        for width in (100, 20, 70):
            await pilot.resize_terminal(width, 12)
            await until(pilot, lambda width=width: view._wrapped_at == view._width > width - 8)
            top = "".join(line.text for line in view._lines[round(view.scroll_offset.y) - 1 :][:4])
            assert f"{lines // 2} " in top


def test_numbers() -> None:
    assert count(1234567) == "1,234,567"
    assert plural(1, "job") == "1 job"
    assert plural(2, "job") == "2 jobs"
    assert plural(2, "match", "matches") == "2 matches"


EMOJI = ["👩‍👩‍👧‍👦", "❤️", "👍🏽", "🏳️‍🌈", "👩🏽‍💻", "❤️‍🔥", "☀️", "1️⃣", "🧑🏿‍🚀", "a", " ", "日", "क्ष", "می‌خواهم"]


@given(st.lists(st.sampled_from(EMOJI), max_size=8).map("".join))
def test_emoji_take_as_many_cells_in_every_terminal(text: str) -> None:
    """A terminal that joins them and one that draws their parts put the border into the same column."""
    line = harmless(text)
    assert sum(cell_len(character) for character in line) == cell_len(line)


def test_joiners_of_scripts_stay() -> None:
    assert harmless("می‌خواهم क्‍ष") == "می‌خواهم क्‍ष"


def test_parts_of_a_line_are_whole_or_left_out() -> None:
    parts = ["# 4", "✓ done", "43 tokens in, 29 out", "1.13 s", "$0.000037", "demo"]
    assert fitting(parts, 80) == "# 4 · ✓ done · 43 tokens in, 29 out · 1.13 s · $0.000037 · demo"
    assert fitting(parts, 51) == "# 4 · ✓ done · 43 tokens in, 29 out · 1.13 s · demo"
    assert fitting(parts, 5) == "# 4" and fitting([], 5) == "" and fitting(parts, 0) == "# 4"
