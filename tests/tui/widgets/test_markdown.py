"""Markdown as lines: what is laid out, that nothing is lost on the way, and the widget that keeps it."""

from __future__ import annotations

import re

import pytest
from driving import until
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style
from textual.app import App, ComposeResult

from ai_router.tui.widgets import wrapping
from ai_router.tui.widgets.markdown import LEAST_WIDTH, code_blocks, is_marked_up, lay_out
from ai_router.tui.widgets.text import harmless
from ai_router.tui.widgets.text_view import MARKDOWN_AT_ONCE, MARKDOWN_STYLES, TextView
from ai_router.tui.widgets.wrapping import Block, wrap_blocks

PLAIN = dict.fromkeys(MARKDOWN_STYLES, Style())
NAMED = {name: Style(color=f"color({at})") for at, name in enumerate(MARKDOWN_STYLES, 1)}
TEXT = """# A heading

Two **bold** words and `code`
on a second line.

7) seven
8) eight
   - nested

| column | n |
|---|--:|
| wide | 2 |

```python
def f():  # why
    return "x"
```
"""
PIECES = st.sampled_from([
    "alpha", "βeta", "日本", "👩‍👩‍👧‍👦", " ", "\t", "    ", "\n", "\n\n", "- ", "3. ", "> ", "# ", "**", "*", "~~",
    "`", "```", "|", "---", "<b>", "</b>", "[", "](", ")", "!", "[x]: y", "\\", "&amp;",
])  # fmt: skip


def lines(text: str, width: int = 60) -> list[str]:
    """The texts of the lines."""
    return [line for line, _ in lay_out(text, width, PLAIN) or ()]


def test_headings_lists_tables_and_code() -> None:
    assert lines(TEXT) == [
        "A heading", "", "Two bold words and code", "on a second line.", "",
        " 7) seven", " 8) eight", "     • nested", "",
        "column   n", "──────────", "wide     2", "", "  def f():  # why", '      return "x"',
    ]  # fmt: skip


def test_the_styles_are_those_that_were_given() -> None:
    found: dict[str, Style] = {}
    for line, parts in lay_out(TEXT, 60, NAMED) or ():
        found.update({line[start:stop]: style for start, stop, style in parts})
    assert found["A heading"].color == NAMED["heading"].color and found["A heading"].bold
    assert found["bold"].bold and found["code"].color == NAMED["code"].color
    assert found["def"].color == NAMED["keyword"].color and found["# why"].color == NAMED["comment"].color
    assert found["x"].color == NAMED["string"].color
    assert all(style.bgcolor is None for style in found.values())


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("**a** <answer>42</answer>", "<answer>42</answer>"),
        ("# a\n\n<div>\nthere\n</div>", "there"),
        ("# a\n\n[note]: this is said", "[note]: this is said"),
        ("![alt *x*](pic.png)", "![alt *x*](pic.png)"),
        ("[text](http://127.0.0.1)", "text (http://127.0.0.1)"),
        ("**a** <http://127.0.0.1>", "a http://127.0.0.1"),
        ("- one\n-\n- three", " •"),
        ("2024. A good year", "2024. A good year"),
    ],
)
def test_what_markdown_leaves_out_is_shown_as_text(text: str, kept: str) -> None:
    assert kept in "\n".join(lines(text))


@given(st.lists(PIECES, max_size=40).map("".join), st.integers(1, 60))
def test_no_word_is_lost_and_no_line_is_too_wide(text: str, width: int) -> None:
    text = harmless(text, keep_newlines=True)
    found = lay_out(text, width, PLAIN)
    assert (found is None) == (width < LEAST_WIDTH or not is_marked_up(text))
    if found is None:
        return
    shown = re.sub(r"\s", "", "".join(line for line, _ in found))
    for word in ("alpha", "βeta", "日本"):
        fenced = sum(language.count(word) for language in re.findall(r"(?m)(?:```|~~~)(.*)$", text))
        assert shown.count(word) >= text.count(word) - fenced - text.count(
            "|"
        )  # cells beyond the columns are no table's
    assert all(cell_len(line) <= width for line, _ in found)


def test_plain_text_and_what_is_nested_too_deep_stay_as_they_came() -> None:
    assert lay_out("Just words,\n  two lines. 1 * 2 * 3", 40, PLAIN) is None
    deep = "> " * 40 + "word"
    assert lay_out(deep, 40, PLAIN) is None
    assert [line.text for line in wrap_blocks([Block(deep)], 200)] == [deep]


def test_lines_of_a_paragraph_end_where_they_did_or_flow() -> None:
    text = "**one**\ntwo"
    assert [line for line, _ in lay_out(text, 40, PLAIN) or ()] == ["one", "two"]
    assert [line for line, _ in lay_out(text, 40, PLAIN, flows=True) or ()] == ["one two"]


def test_code_blocks_are_those_with_fences() -> None:
    assert code_blocks(TEXT) == [("python", 'def f():  # why\n    return "x"\n')]


class Shown(App[None]):
    """A view."""

    def compose(self) -> ComposeResult:
        yield TextView()


async def test_a_view_lays_out_once_and_anew_at_another_width(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(
        "ai_router.tui.widgets.markdown.lay_out",
        lambda text, width, styles, flows: made.append(text) or [(f"{width}", ())],
    )
    app = Shown()
    async with app.run_test(size=(40, 20)) as pilot:
        view = app.query_one(TextView)
        view.show(Block("first", markdown=True))
        view.follow(Block("first", markdown=True), Block("second", markdown=True), last=True)
        await until(pilot, lambda: made == ["first", "second"])
        await pilot.resize_terminal(30, 20)
        await until(pilot, lambda: made == ["first", "second"] * 2 and view._lines[0].text == "28")
        app.theme = "textual-light"
        await until(pilot, lambda: made == ["first", "second"] * 3)


async def test_a_text_that_grows_is_followed_to_its_end_by_who_reads_there() -> None:
    app = Shown()
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(TextView)
        text = "- item\n" * 40
        assert view.follow(Block(text, markdown=True), last=True)
        await until(pilot, lambda: view.scroll_offset.y == view.max_scroll_y > 0)
        view.scroll_to(y=3, animate=False)
        await until(pilot, lambda: view.scroll_offset.y == 3)
        view.follow(Block(text + "- more\n", markdown=True), last=True)
        await until(pilot, lambda: len(view._lines) == 41)
        await pilot.pause()
        assert view.scroll_offset.y == 3
        view.scroll_end(animate=False)
        await until(pilot, lambda: view.scroll_offset.y == view.max_scroll_y)
        long = "- words of it\n" * (MARKDOWN_AT_ONCE // 10)  # laid out in a thread
        view.follow(Block(long, markdown=True), last=True)
        await until(pilot, lambda: len(view._lines) >= MARKDOWN_AT_ONCE // 10)
        await until(pilot, lambda: view.scroll_offset.y == view.max_scroll_y)


async def test_a_text_that_grows_rests_as_long_as_showing_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("ai_router.tui.widgets.text_view.time.monotonic", lambda: now[0])
    app = Shown()
    async with app.run_test(size=(40, 10)):
        view = app.query_one(TextView)
        monkeypatch.setattr(view, "show", lambda *_, **__: now.__setitem__(0, now[0] + 0.1))
        assert view.follow(Block("a"))
        now[0] += 0.3
        assert not view.follow(Block("ab")) and view.follow(Block("abc"), last=True)
        now[0] += 0.6
        assert view.follow(Block("abcd"))


def test_very_long_markdown_is_shown_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrapping, "MOST_MARKDOWN", 10)
    found, _ = wrapping.Made(40, PLAIN).wrap([Block("# much longer", markdown=True), Block("# short", markdown=True)])
    assert [line.text for line in found] == ["# much longer", "short"]
