"""The two themes of the house, and which one `auto` means on this terminal."""

from __future__ import annotations

import os
import re
import sys
import time
from dataclasses import replace

from textual.theme import Theme

SPOKEN = ("primary", "secondary", "accent", "success", "warning", "error")


def plainly(theme: Theme) -> Theme:
    """The theme with its colours as they are in texts too: Textual mixes a third of black or white into them there.

    On a light ground that leaves green, red and amber nearly black.
    """
    return replace(theme, variables={**theme.variables, **{f"text-{name}": getattr(theme, name) for name in SPOKEN}})


DARK = plainly(
    Theme(
        name="dark",
        primary="#7aa2f7",
        secondary="#7aa2f7",
        accent="#7aa2f7",
        success="#8fc98a",
        warning="#e2b86b",
        error="#f48489",
        foreground="#d5dae6",
        background="#11131a",
        surface="#171a23",
        panel="#1c202b",
        dark=True,
        variables={"text-muted": "#949db2", "border": "#2b3040", "block-cursor-text-style": "none"},
    )
)
LIGHT = plainly(
    Theme(
        name="light",
        primary="#2654bd",
        secondary="#2654bd",
        accent="#2654bd",
        success="#20672f",
        warning="#7d5100",
        error="#ab2219",
        foreground="#1e2330",
        background="#fbfbfd",
        surface="#ffffff",
        panel="#eceff5",
        dark=False,
        variables={"text-muted": "#535b70", "border": "#c9cfdd", "block-cursor-text-style": "none"},
    )
)
AUTO = "auto"
QUERY_SECONDS = 0.15
_BACKGROUND = re.compile(rb"\x1b\]11;rgb:([0-9a-fA-F]+)/([0-9a-fA-F]+)/([0-9a-fA-F]+)")
_ATTRIBUTES = re.compile(rb"\x1b\[\?[0-9;]*c")


def choose_theme(name: str, *, ask_terminal: bool = False) -> str:
    """The theme a setting means: itself, or for `auto` dark or light as the terminal is (dark where it won't say)."""
    if name != AUTO:
        return name
    dark = _from_environment()
    if dark is None and ask_terminal:
        dark = _ask_terminal()
    return LIGHT.name if dark is False else DARK.name


def _from_environment() -> bool | None:
    """COLORFGBG, as rxvt, Konsole and others set it: the last number is the background's colour."""
    last = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return None if not last.isdigit() else int(last) not in (7, 15)


def _ask_terminal() -> bool | None:
    """Ask for the background colour (OSC 11); the question that follows (DA1) every terminal answers at once."""
    if sys.platform == "win32" or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    import select
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    try:
        before = termios.tcgetattr(descriptor)
    except termios.error:
        return None
    answer = b""
    try:
        tty.setcbreak(descriptor)
        os.write(sys.stdout.fileno(), b"\x1b]11;?\x1b\\\x1b[c")
        deadline = time.monotonic() + QUERY_SECONDS
        while not _ATTRIBUTES.search(answer):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                break
            answer += os.read(descriptor, 1024)
    except OSError:
        return None
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
    return _is_dark(answer)


def _is_dark(answer: bytes) -> bool | None:
    """By the luminance (ITU-R BT.601) of the colour in a terminal's answer."""
    found = _BACKGROUND.search(answer)
    if not found:
        return None
    red, green, blue = (int(part, 16) / (16 ** len(part) - 1) for part in found.groups())
    return bool(0.299 * red + 0.587 * green + 0.114 * blue < 0.5)
