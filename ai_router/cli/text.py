"""Text on its way to a terminal: made inert, measured in cells, and never a reason to fail."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from datetime import datetime

_SHOWN = {code: chr(0x2400 + code) for code in range(32)} | {0x7F: "\u2421"}  # Unicode has pictures of these
_SHOWN |= {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}
# What turns the direction of text around, or ends a line where none was ended.
_SHOWN |= {
    code: f"\\u{code:04x}"
    for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029)
}
_SHOWN_IN_LINES = {code: shown for code, shown in _SHOWN.items() if chr(code) not in "\n\t"}
_SURROGATE = re.compile("[\ud800-\udfff]")


def inert(text: str, *, lines: bool = False) -> str:
    """Text from outside as a terminal may have it: what it would obey is shown instead. `lines` keeps \\n and \\t."""
    if lines:
        text = text.replace("\r\n", "\n")
    text = text.translate(_SHOWN_IN_LINES if lines else _SHOWN)
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person looks at this stream."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def narrate(text: str, stream: TextIO | None = None, *, end: str = "\n") -> None:
    """Lines for the person, on stderr; a terminal that is gone is no reason to stop."""
    stream = stream or sys.stderr
    with suppress(OSError, ValueError, AttributeError):
        stream.write(inert(text, lines=True) + end)
        stream.flush()


def emit(text: str) -> None:
    """A line of data on stdout: as it is into a file or a pipe, inert onto a terminal."""
    sys.stdout.write((inert(text, lines=True) if is_terminal(sys.stdout) else _SURROGATE.sub("\ufffd", text)) + "\n")


def emit_json(value: Any) -> None:
    """A JSON document on stdout."""
    import json

    # Only ASCII leaves, and no DEL: whatever the texts hold, no terminal obeys it.
    terminal = is_terminal(sys.stdout)
    text = json.dumps(value, indent=2, ensure_ascii=terminal, default=str)
    sys.stdout.write((text.replace("\x7f", "\\u007f") if terminal else text) + "\n")


def emit_json_list(head: Mapping[str, Any], key: str, values: Iterable[Any]) -> None:
    """The same of an object that ends with a list, of which one value at a time is held."""
    from ai_router.longjson import pieces

    terminal = is_terminal(sys.stdout)
    for piece in pieces(head, key, values, ascii_only=terminal):
        sys.stdout.write(piece.replace("\x7f", "\\u007f") if terminal else piece)
    sys.stdout.write("\n")


def confirm(question: str) -> bool:
    """Ask on the terminal; no answer is a no."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{inert(question)} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    return False


def can_ask() -> bool:
    """Whether there is somebody to ask."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def width_of(stream: TextIO | None) -> int:
    """Columns of the terminal behind a stream; 80 where it does not say."""
    with suppress(OSError, ValueError, AttributeError):
        assert stream is not None
        return os.get_terminal_size(stream.fileno()).columns or 80
    return 80


def cells(text: str) -> int:
    """Columns a text takes: two for East Asian wide ones, none for combining ones."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1 for c in text
    )


def clip(text: str, width: int) -> str:
    """At most so many columns, `…` where something is missing."""
    if cells(text) <= width:
        return text
    used = 0
    for at, character in enumerate(text):
        used += cells(character)
        if used >= width:
            return text[:at] + "…"
    return text


def one_line(text: str, width: int) -> str:
    """The words of a text on one line of at most so many columns."""
    return clip(inert(" ".join(text[: 8 * width].split())), width)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = (), width: int = 0) -> str:
    """Columns side by side; those named by `right` stand to the right. The last column takes what `width` leaves."""
    shown = [[inert(cell) for cell in row] for row in rows]
    sizes = [max(cells(row[i]) for row in [list(heads), *shown]) for i in range(len(heads))]
    if width:
        sizes[-1] = max(8, min(sizes[-1], width - sum(sizes[:-1]) - 2 * (len(sizes) - 1)))
    lines = []
    for row in [list(heads), *shown]:
        parts = []
        for i, cell in enumerate(row):
            cell = clip(cell, sizes[i])
            gap = " " * (sizes[i] - cells(cell))
            parts.append(gap + cell if heads[i] in right else cell + gap)
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def age(timestamp: str, now: datetime | None = None) -> str:
    """How long ago an ISO time without zone was: `12s`, `5m`, `3h`, `2d`."""
    from datetime import datetime

    try:
        seconds = ((now or datetime.now()) - datetime.fromisoformat(timestamp)).total_seconds()
    except (ValueError, TypeError):
        return "—"
    seconds = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def cut_text(count: int) -> str:
    """What is said of answers that the limit of tokens ended."""
    return f"{count:,} cut at the token limit"


def plural(count: int, what: str, many: str = "") -> str:
    """`1 prompt`, `25 prompts`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {many or what + 's'}"
