"""Blocks of text as lines of a width: broken at spaces, Markdown laid out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.cells import cell_len, get_character_cell_size
from rich.style import Style

from ai_router.tui.widgets.text import harmless, plural

MOST_MARKDOWN = 200_000  # characters that are laid out as Markdown

Part = tuple[int, int, str | Style]  # begin, end, and a style or its name: of a stretch of a text


@dataclass(frozen=True, slots=True)
class Block:
    """Text from anywhere, and the name of its style: "", title, answer, error, muted.

    `parts` are stretches with a style of their own, in order, of a text that was made harmless before. A text of
    `markdown` is laid out as such, up to `MOST_MARKDOWN` characters; where it `flows`, the lines of a paragraph are
    joined, which those of an answer are not.
    """

    text: str
    style: str = ""
    parts: tuple[Part, ...] = ()
    markdown: bool = False
    flows: bool = False


def thinking_blocks(thought: str, folded: str = "") -> list[Block]:
    """What was thought before an answer; where it is `folded`, its length in one line, and how it is shown."""
    if folded:
        return [Block(f"▸ thinking, {plural(len(thought), 'character')} ({folded})", "muted")]
    return [Block("▾ thinking", "muted"), Block(thought, "muted"), Block("")]


class Line(NamedTuple):
    """A line as it is drawn."""

    text: str
    style: str
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """The Markdown that is laid out, by its block: at a width, in some styles. Shown again, it is not made again."""

    width: int
    styles: Mapping[str, Style]
    lines: Mapping[Block, list[Line] | None] = field(default_factory=dict)

    def at(self, width: int) -> Made:
        """At this width."""
        return self if width == self.width else Made(width, self.styles)

    def drawn_in(self, styles: Mapping[str, Style]) -> Made:
        """In these styles."""
        return self if styles == self.styles else Made(self.width, styles)

    def wrap(self, blocks: Sequence[Block]) -> tuple[list[Line], Made]:
        """All lines of some blocks, and what of them is Markdown."""
        lines: list[Line] = []
        laid: dict[Block, list[Line] | None] = {}
        for block in blocks:
            if block.markdown and block not in laid:
                laid[block] = self.lines[block] if block in self.lines else self._lay_out(block)
            lines += laid.get(block) or _wrap_block(block, self.width)
        return lines, Made(self.width, self.styles, laid)

    @property
    def marked_up(self) -> bool:
        """Whether any of it had Markdown in it."""
        return any(lines is not None for lines in self.lines.values())

    def _lay_out(self, block: Block) -> list[Line] | None:
        """Its lines; None where they are those of any text."""
        from ai_router.tui.widgets.markdown import lay_out

        text = harmless(block.text, keep_newlines=True)
        drawn = lay_out(text, self.width, self.styles, flows=block.flows) if len(text) <= MOST_MARKDOWN else None
        return None if drawn is None else [Line(line, block.style, parts) for line, parts in drawn]


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
