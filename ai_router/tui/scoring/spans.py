"""Texts with their differences, for a `TextView`: coloured and styled, and in marks where colours are not enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len

from ai_router.tui.widgets.text import harmless, plural
from ai_router.tui.widgets.wrapping import Block, Part

if TYPE_CHECKING:
    from batch.evaluation.diff import Span

LABEL = 11  # cells of the names before texts that fit into one line
LONGEST = 20_000  # characters of a text whose differences are looked for


@dataclass(frozen=True, slots=True)
class RowText:
    """A row to read: its title, its text, and what is copied of it."""

    title: str
    blocks: Sequence[Block]
    copied: str
    json: str
    subtitle: str = ""
    number: str = ""


def same(text: str) -> list[Span]:
    """A text without differences."""
    return [(text, "same")]


def labelled(texts: Sequence[tuple[str, Sequence[Span]]], width: int, *, marks: bool) -> list[Block]:
    """Named texts below each other: beside their names, so that they can be compared, where each fits into one line."""
    blocks = [spans_block(spans, marks=marks) for _, spans in texts]
    if all("\n" not in block.text and cell_len(block.text) <= width - LABEL for block in blocks):
        return [_beside(name, block) for (name, _), block in zip(texts, blocks, strict=True)]
    found: list[Block] = []
    for (name, _), block in zip(texts, blocks, strict=True):
        found += [Block(name.upper(), "title"), block, Block("")]
    return found[:-1]


def spans_block(spans: Sequence[Span], *, marks: bool) -> Block:
    """Spans as one block."""
    from batch.evaluation.diff import MARKS

    text, parts = "", []
    for piece, kind in spans:
        begin, shown = len(text), harmless(piece, keep_newlines=True)
        if kind == "same":
            text += shown
            continue
        left, right = MARKS[kind] if marks else ("", "")
        text += left + shown + right
        parts.append((begin, len(text), str(kind)))
    return Block(text, "", tuple(parts))


def too_long(*texts: str) -> str:
    """Why differences are not shown, where texts are too long for it."""
    longest = max(map(len, texts))
    return f"differences are not marked in texts of {plural(longest, 'character')}" if longest > LONGEST else ""


def legend(*, marks: bool) -> str:
    """How differences are shown."""
    return "[-goes-] {+comes+} · d colours" if marks else "struck: goes · underlined: comes · d marks"


def _beside(name: str, block: Block) -> Block:
    parts: list[Part] = [(0, LABEL, "muted")]
    parts += [(begin + LABEL, end + LABEL, style) for begin, end, style in block.parts]
    return Block(f"{name:<{LABEL}}{block.text}", "", tuple(parts))
