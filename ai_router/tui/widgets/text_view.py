"""Text of any length, wrapped and drawn line by line: only what is seen is ever laid out as cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from rich.cells import cell_len, get_character_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from ai_router.tui.widgets.text import harmless

AT_ONCE = 50_000  # characters wrapped without a thread


Part = tuple[int, int, str]  # begin, end and the name of a style: of a stretch of a text


@dataclass(frozen=True, slots=True)
class Block:
    """Text from anywhere, and the name of its style: "", title, answer, error, muted.

    `parts` are stretches with a style of their own, in order, of a text that was made harmless before.
    """

    text: str
    style: str = ""
    parts: tuple[Part, ...] = ()


class Line(NamedTuple):
    """A line as it is drawn."""

    text: str
    style: str
    parts: tuple[Part, ...] = ()


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
    }
    """

    def __init__(self, *blocks: Block, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._blocks: tuple[Block, ...] = blocks
        self._lines: list[Line] = []
        self._wrapped_at = 0  # the width of the lines
        self._number = 0  # of the wrapping under way
        self._frame = 0, Style()  # what all lines of a frame share: their width and style

    @property
    def plain(self) -> str:
        """All of the text, harmless and unwrapped."""
        return "\n".join(harmless(block.text, keep_newlines=True) for block in self._blocks)

    def show(self, *blocks: Block, home: bool = True) -> None:
        """Show other text, from its beginning unless told to stay; long text is wrapped in a thread first."""
        before, self._blocks = self._blocks, blocks
        if not self._grow(before, blocks):
            self._wrap()
        if home:
            self.scroll_to(0, 0, animate=False, immediate=True)

    def _grow(self, before: Sequence[Block], after: Sequence[Block]) -> bool:
        """Where only the last block has grown, wrap no more than its last line again."""
        width = self._width
        if not before or len(before) != len(after) or before[:-1] != after[:-1] or width != self._wrapped_at:
            return False
        old, new = before[-1], after[-1]
        if old.style != new.style or new.parts or not new.text.startswith(old.text) or not self._lines:
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

    # -- wrapping -------------------------------------------------------------------------------------------------

    @property
    def _width(self) -> int:
        return self.scrollable_content_region.width

    def on_mount(self) -> None:
        """Lay out what there is."""
        self._wrap()

    def on_resize(self) -> None:
        """Wrap anew where the width has changed."""
        if self._width != self._wrapped_at:
            self._wrap()

    def _wrap(self) -> None:
        width, blocks = self._width, self._blocks
        if width <= 0:
            return
        self._number += 1
        if sum(len(block.text) for block in blocks) <= AT_ONCE:
            self._take(self._number, width, wrap_blocks(blocks, width))
            return
        number = self._number
        # Something to read at once; the whole of it when it is wrapped.
        head = [Block(block.text[: AT_ONCE // 5], block.style) for block in blocks]
        self._take(number, width, wrap_blocks(head, width))

        def work() -> None:
            self.app.call_later(self._take, number, width, wrap_blocks(blocks, width))

        self.run_worker(work, thread=True, group="wrap", exit_on_error=False)

    def _take(self, number: int, width: int, lines: list[Line]) -> None:
        if number == self._number and self.is_attached:
            self._lines, self._wrapped_at = lines, width
            self._resized()

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

    def _style(self, base: Style, name: str) -> Style:
        if not name:
            return base
        found = self.get_component_rich_style(f"text-view--{name}")
        return base + Style(
            color=found.color,
            bgcolor=found.bgcolor if name == "hit" else None,
            reverse=found.reverse or None,
            bold=found.bold or None,
            underline=found.underline or None,
            strike=found.strike or None,
        )

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


def wrap_blocks(blocks: Sequence[Block], width: int) -> list[Line]:
    """All lines of some blocks."""
    return [line for block in blocks for line in _wrap_block(block, width)]


def _wrap_block(block: Block, width: int) -> Iterator[Line]:
    text = harmless(block.text, keep_newlines=True)
    begin = 0
    for source in text.split("\n"):
        at = begin
        for line in wrap(source, width):
            if not block.parts:
                yield Line(line, block.style)
                continue
            at += not text.startswith(line, at)  # the space at which it was broken
            end = at + len(line)
            parts = [(max(a, at) - at, min(b, end) - at, name) for a, b, name in block.parts if a < end and b > at]
            yield Line(line, block.style, tuple(parts))
            at = end
        begin += len(source) + 1


def _chosen(segments: Sequence[Segment], start: int, end: int, style: Style) -> Iterator[Segment]:
    """The segments with another style from one character to another."""
    at = 0
    for text, own, _ in segments:
        a, b = (min(max(place - at, 0), len(text)) for place in (start, end))
        yield Segment(text[:a], own)
        yield Segment(text[a:b], (own or Style()) + style)
        yield Segment(text[b:], own)
        at += len(text)


def wrap(text: str, width: int) -> Iterator[str]:
    """Harmless text as lines of at most `width` cells, broken at spaces where there are any."""
    for line in text.split("\n"):
        if line.isascii():
            yield from _wrap_ascii(line, width)
        elif cell_len(line[: width + 1]) <= width and len(line) <= width:
            yield line
        else:
            yield from _wrap_cells(line, width)


def _wrap_ascii(line: str, width: int) -> Iterator[str]:
    start, length = 0, len(line)
    while length - start > width:
        space = line.rfind(" ", start + 1, start + width + 1)
        breaks = space > start and not line[start:space].isspace()
        end = space if breaks else start + width
        yield line[start:end]
        start = end + breaks
    yield line[start:]


def _wrap_cells(line: str, width: int) -> Iterator[str]:
    start = place = cells = 0
    space = -1  # the last one of this line
    while place < len(line):
        character = line[place]
        size = get_character_cell_size(character)
        if cells + size > width and place > start:
            breaks = space > start and not line[start:space].isspace()
            end = space if breaks else place
            yield line[start:end]
            start = end + breaks
            # What stands after the space has been measured before; that is at most one line.
            place = max(place, start)
            cells, space = cell_len(line[start:place]), -1
            continue
        if character == " ":
            space = place
        cells += size
        place += 1
    yield line[start:]
