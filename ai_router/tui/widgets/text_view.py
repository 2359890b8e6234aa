"""Text of any length, wrapped and drawn line by line: only what is seen is ever laid out as cells."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import accumulate, takewhile
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from ai_router.tui.widgets.text import fitting, harmless
from ai_router.tui.widgets.wrapping import Block, Line, Made, wrap, wrap_blocks

AT_ONCE = 50_000  # characters wrapped without a thread
MARKDOWN_AT_ONCE = 12_000  # and of Markdown
MARKDOWN_STYLES = ("heading", "code", "quote", "link", "comment", "keyword", "string", "number", "name", "muted")
EDGE = 6  # cells of a title that its corners and gaps take
RESTS = 5.0  # times as long as it took to show a text that grows, until it is shown again


def _letters(line: Line) -> int:
    """How many characters a line has without its spaces, some of which go where a line is broken."""
    return len(line.text.replace(" ", ""))


class TextView(ScrollView, can_focus=True):
    """Shows blocks of text, made harmless, each beginning on a line of its own. The mouse can select in it."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "text-view--title",
        "text-view--answer",
        "text-view--error",
        "text-view--muted",
        "text-view--accent",
        "text-view--inserted",
        "text-view--deleted",
        "text-view--hit",
        *(f"text-view--markdown-{name}" for name in MARKDOWN_STYLES),
    }
    DEFAULT_CSS = """
    TextView {
        height: 1fr; background: transparent; overflow-x: hidden; scrollbar-gutter: stable;
        & > .text-view--title { color: $text-muted; text-style: bold; }
        & > .text-view--answer { color: $accent; text-style: bold; }
        & > .text-view--error { color: $text-error; text-style: bold; }
        & > .text-view--muted { color: $text-muted; }
        & > .text-view--accent { color: $accent; }
        & > .text-view--inserted { color: $text-success; text-style: underline; }
        & > .text-view--hit { color: $background; background: $warning; text-style: bold; }
        &:ansi > .text-view--hit { color: ansi_default; background: ansi_default; text-style: reverse; }
        & > .text-view--deleted { color: $text-error; text-style: strike; }
        & > .text-view--markdown-heading { color: $accent; }
        & > .text-view--markdown-code { color: $text-warning; text-style: bold; }
        & > .text-view--markdown-quote { color: $text-muted; }
        & > .text-view--markdown-link { color: $text-muted; text-style: underline; }
        & > .text-view--markdown-comment { color: $text-muted; text-style: italic; }
        & > .text-view--markdown-keyword { color: $accent; }
        & > .text-view--markdown-string { color: $text-success; }
        & > .text-view--markdown-number { color: $text-warning; }
        & > .text-view--markdown-name { text-style: bold; }
        & > .text-view--markdown-muted { color: $text-muted; }
    }
    """

    markdown_note = ""  # said at the lower edge where Markdown is laid out

    def __init__(self, *blocks: Block, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._blocks: tuple[Block, ...] = blocks
        self._lines: list[Line] = []
        self._made = Made(0, {})
        self._wrapped_at = 0  # the width of the lines
        self._number = 0  # of the wrapping under way
        self._title: tuple[str, ...] = ()  # its parts
        self._frame = 0, Style()  # what all lines of a frame share: their width and style

    @property
    def plain(self) -> str:
        """All of the text, harmless and unwrapped."""
        return "\n".join(harmless(block.text, keep_newlines=True) for block in self._blocks)

    def show(self, *blocks: Block, home: bool = True) -> None:
        """Show other text, from its beginning unless told to stay; long text is wrapped in a thread first."""
        self._kept = None
        before, self._blocks = self._blocks, blocks
        self._follows = False
        if not self._grow(before, blocks):
            self._wrap(begin=home)
        if home:
            self.scroll_to(0, 0, animate=False, immediate=True)

    def follow(self, *blocks: Block, last: bool = False) -> bool:
        """Show a text that grows; who reads its end stays there. Returns whether it was shown.

        It is not where that would take more than a part of the time, unless it is the `last` of it.
        """
        now = time.monotonic()
        if not last and now < self._rests_until:
            return False
        at_end = self.max_scroll_y - self.scroll_offset.y <= 1
        self.show(*blocks, home=False)
        self._rests_until = now + RESTS * (time.monotonic() - now)
        self._follows = at_end
        if at_end:
            self.scroll_end(animate=False)
        return True

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Who scrolls up is no more at the end."""
        super().watch_scroll_y(old_value, new_value)
        if new_value < min(old_value, self.max_scroll_y - 1):
            self._follows = False

    _follows = False  # whether the end is scrolled to once the text is wrapped
    _rests_until = 0.0

    def _grow(self, before: Sequence[Block], after: Sequence[Block]) -> bool:
        """Where only the last block has grown, wrap no more than its last line again."""
        width = self._width
        if not before or len(before) != len(after) or before[:-1] != after[:-1] or width != self._wrapped_at:
            return False
        old, new = before[-1], after[-1]
        if old.style != new.style or new.parts or not new.text.startswith(old.text) or not self._lines:
            return False
        if old.markdown or new.markdown:
            return False
        # The lines of a block that ends in a line without break begin after its last one.
        start = old.text.rfind("\n") + 1
        again = len(list(wrap(harmless(old.text[start:], keep_newlines=True), width)))
        del self._lines[len(self._lines) - again :]
        self._lines += [Line(line, new.style) for line in wrap(harmless(new.text[start:], keep_newlines=True), width)]
        self._resized()
        return True

    def lines_with(self, style: str) -> list[int]:
        """The lines that hold a stretch of this style, from the first on."""
        return [number for number, line in enumerate(self._lines) if any(name == style for _, _, name in line.parts)]

    def show_title(self, parts: Sequence[str]) -> None:
        """In the upper edge the first of these harmless parts, and of the others those that fit: no number is cut."""
        self._title = tuple(parts)
        self.border_title = Content(fitting(parts, self.outer_size.width - EDGE))

    # -- wrapping -------------------------------------------------------------------------------------------------

    @property
    def _width(self) -> int:
        return self.scrollable_content_region.width

    def on_mount(self) -> None:
        """Lay out what there is."""
        self._wrap()

    def on_resize(self) -> None:
        """Wrap anew where the width has changed; what stands at the top stays there."""
        if self._width != self._wrapped_at:
            top = round(self.scroll_offset.y)
            if self._kept is None and 0 < top < len(self._lines):
                self._kept = sum(map(_letters, self._lines[:top]))
            self._wrap(begin=not self._kept)
            if self._title:
                self.show_title(self._title)

    def notify_style_update(self) -> None:
        """Lay Markdown out anew where its colours are others now."""
        super().notify_style_update()
        if self._made.lines and self.is_attached and self._markdown_styles() != self._made.styles:
            self._wrap()

    def _markdown_styles(self) -> dict[str, Style]:
        """The styles of Markdown, without a ground."""
        return {
            name: _without_ground(self.get_component_rich_style(f"text-view--markdown-{name}"))
            for name in MARKDOWN_STYLES
        }

    def _wrap(self, *, begin: bool = True) -> None:
        """Wrap all; of a long text, `begin` shows as much of it at once as there is time for."""
        width, blocks = self._width, self._blocks
        if width <= 0:
            return
        self._number += 1
        number, made = self._number, self._made.at(width)
        marked = [block for block in blocks if block.markdown]
        if marked:
            made = made.drawn_in(self._markdown_styles())
        new = sum(len(block.text) for block in marked if block not in made.lines)
        if new <= MARKDOWN_AT_ONCE and sum(len(block.text) for block in blocks) <= AT_ONCE:
            self._take(number, width, *made.wrap(blocks))
            return
        if begin:  # something to read at once; the whole of it when it is wrapped
            head = [Block(block.text[: AT_ONCE // 5], block.style) for block in blocks]
            self._take(number, width, wrap_blocks(head, width), made)

        def work() -> None:
            self.app.call_later(self._take, number, width, *made.wrap(blocks))

        self.run_worker(work, thread=True, group="wrap", exit_on_error=False)

    def _take(self, number: int, width: int, lines: list[Line], made: Made) -> None:
        if number == self._number and self.is_attached:
            self._lines, self._wrapped_at, self._made = lines, width, made
            if self.markdown_note:
                self.border_subtitle = Content(self.markdown_note if made.marked_up else "")
            self._resized()
            if self._follows:
                self.scroll_end(animate=False)
            elif self._kept is not None:
                before = accumulate(map(_letters, lines))
                self.scroll_to(y=sum(1 for _ in takewhile(self._kept.__ge__, before)), animate=False, immediate=True)
            self._kept = None

    _kept: int | None = None  # letters above the top, while a text is wrapped for another width

    def _resized(self) -> None:
        self.virtual_size = Size(self._width, len(self._lines))
        self.refresh()

    # -- drawing --------------------------------------------------------------------------------------------------

    def render_lines(self, crop: Region) -> list[Strip]:
        """Several lines: what is the same for all of them is asked for once."""
        self._frame = self.scrollable_content_region.width, self.rich_style
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """One line of what is scrolled to."""
        width, base = self._frame
        index = y + round(self.scroll_offset.y)
        if index >= len(self._lines):
            return Strip.blank(width, base)
        line = self._lines[index]
        strip = Strip(self._segments(index, line, base)).adjust_cell_length(width, base)
        return strip.apply_offsets(0, index)

    def _style(self, base: Style, name: str | Style) -> Style:
        if not name:
            return base
        if isinstance(name, Style):
            return base + name
        found = self.get_component_rich_style(f"text-view--{name}")
        return base + _without_ground(found) + (Style(bgcolor=found.bgcolor) if name == "hit" else Style())

    def _segments(self, index: int, line: Line, base: Style) -> list[Segment]:
        style = self._style(base, line.style)
        segments: list[Segment] = []
        at = 0
        for start, end, name in line.parts:
            segments += [Segment(line.text[at:start], style), Segment(line.text[start:end], self._style(style, name))]
            at = end
        segments.append(Segment(line.text[at:], style))
        selection = self.text_selection
        span = selection.get_span(index) if selection is not None else None
        if span is None:
            return segments
        chosen = self.screen.get_component_rich_style("screen--selection")
        start, end = span[0], len(line.text) if span[1] == -1 else span[1]
        return list(_chosen(segments, start, end, chosen))

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text, as it is shown."""
        return selection.extract("\n".join(line.text for line in self._lines)), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Draw it."""
        self.refresh()


def _without_ground(style: Style) -> Style:
    """The style of a component for text on any ground."""
    return Style(
        color=style.color,
        reverse=style.reverse or None,
        bold=style.bold or None,
        italic=style.italic or None,
        underline=style.underline or None,
        strike=style.strike or None,
    )


def _chosen(segments: Sequence[Segment], start: int, end: int, style: Style) -> Iterator[Segment]:
    """The segments with another style from one character to another."""
    at = 0
    for text, own, _ in segments:
        a, b = (min(max(place - at, 0), len(text)) for place in (start, end))
        yield Segment(text[:a], own)
        yield Segment(text[a:b], (own or Style()) + style)
        yield Segment(text[b:], own)
        at += len(text)
