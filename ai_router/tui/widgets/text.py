"""Text from outside, made fit to be shown: never obeyed, never cut unseen."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.cells import cell_len, chop_cells
from textual.content import Content

ELLIPSIS = "…"
NEWLINE = "⏎"
_SHOWN = 4096  # characters of a text looked at for one line of a screen


def _symbol(code: int) -> str:
    """What a character that must not reach the terminal is shown as."""
    if code < 0x20:
        return chr(0x2400 + code)  # ␀ … ␟
    if code == 0x7F:
        return "␡"
    if 0x80 <= code < 0xA0:
        return "�"
    return f"‹U+{code:04X}›"


def _replacement(code: int) -> str | None:
    """None for what may be shown as it is."""
    if code < 0x20 or 0x7F <= code < 0xA0:
        return _symbol(code)
    category = unicodedata.category(chr(code))
    if category in ("Cf", "Zl", "Zp"):
        # Joiners are part of how emoji and Indic scripts are written; everything else here is invisible or turns text.
        return None if code in (0x200C, 0x200D) else _symbol(code)
    return "�" if category == "Cs" else None


class _Table(dict[int, str | int]):
    """For `str.translate`; learns characters as they come."""

    def __missing__(self, code: int) -> str | int:
        shown = _replacement(code)
        self[code] = value = code if shown is None else shown
        return value


_ONE_LINE = _Table({10: NEWLINE, 9: " "})
_LINES = _Table({10: "\n", 9: "    "})


# Half of all terminals draw a joined emoji as one sign, the others as its parts: without what joins them all draw
# alike, and what is counted is what is drawn. Joiners of scripts are no emoji's and stay.
_JOINING = re.compile("(?<=[\u2190-\u2bff\U0001f000-\U0001faff])[\u200d\ufe0f\U0001f3fb-\U0001f3ff]+|\ufe0f\u20e3?")


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def harmless(text: str, *, keep_newlines: bool = False) -> str:
    """The text with every control, bidi and unpaired-surrogate character replaced by a visible sign.

    Newlines become `⏎`, or stay; tabs become four spaces where newlines stay, one where they do not. A joined emoji is
    shown by its parts, so that it takes as many cells everywhere.
    """
    if _is_plain(text):
        return text
    text = text.replace("\r\n", "\n").translate(_LINES if keep_newlines else _ONE_LINE)
    return _JOINING.sub("", text)


def cut(text: str, width: int) -> str:
    """A harmless one-line text in at most `width` cells, the end marked by `…` where something is missing."""
    if width <= 0:
        return ""
    if len(text) <= width and text.isascii():
        return text
    text, more = text[: width * 8 + 8], len(text) > width * 8 + 8
    if not more and cell_len(text) <= width:
        return text
    room = width - 1
    head = chop_cells(text, room)[0] if room and text else ""
    # A character two cells wide may not fit into the last cell.
    while cell_len(head) > room:
        head = head[:-1]
    return head + ELLIPSIS


def one_line(text: str, width: int | None = None) -> str:
    """Outside text as one harmless line, cut to `width` cells where one is given."""
    if width is not None:
        more = len(text) > max(width * 8, _SHOWN)
        text = text[: max(width * 8, _SHOWN)]
        line = harmless(text.strip())
        return cut(line + ELLIPSIS if more else line, width)
    return harmless(text)


def inert(text: str, width: int | None = None) -> Content:
    """Outside text as content that no markup is read from: one line, cut by cells where a width is given."""
    return Content(one_line(text, width))


def inert_block(text: str) -> Content:
    """Outside text over several lines, for reading it whole."""
    return Content(harmless(text, keep_newlines=True))


def pad(text: str, width: int, *, right: bool = False) -> str:
    """A line of exactly `width` cells: cut or filled with spaces, at the left where `right`-aligned."""
    text = cut(text, width)
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def within(text: str, root: Path) -> str:
    """A text in which files below a folder are named from there on: where it is cut, more than a path is left."""
    return text.replace(f"{root}{os.sep}", "")


def count(number: int) -> str:
    """`1,234,567`."""
    return f"{number:,}"


def lines_of(parts: Iterable[str], width: int, between: str = " · ") -> list[str]:
    """The parts that say something in lines of a width (0: one line), broken between parts."""
    lines: list[str] = []
    for part in filter(None, parts):
        longer = f"{lines[-1]}{between}{part}" if lines else part
        if lines and (not width or cell_len(longer) <= width):
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def plural(number: int, one: str, many: str = "") -> str:
    """`1 job`, `2 jobs`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def filled(parts: Iterable[str], width: int, between: str = " · ") -> str:
    """Parts in lines of at most `width` cells, none of which is broken: a number stays beside its unit."""
    return "\n".join(lines_of(parts, width, between))


def fitting(parts: Iterable[str], width: int, between: str = " · ") -> str:
    """One line of the parts that fit into `width` cells, each of them whole; the first one is there in any case."""
    line = ""
    for part in parts:
        if not line:
            line = part
        elif cell_len(line) + cell_len(between) + cell_len(part) <= width:
            line += between + part
    return line


def hits(text: str, words: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Where some casefolded words stand in a harmless text, in order and without overlaps."""
    if not words:
        return
    pattern = re.compile("|".join(re.escape(harmless(word)) for word in sorted(words, key=len, reverse=True)), re.I)
    for match in pattern.finditer(text):
        if match.end() > match.start():
            yield match.span()
