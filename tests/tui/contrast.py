"""Which texts of a screen are hard to read on their ground: a contrast below 4.5 : 1 (WCAG 2.1, 1.4.3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rich.color import ColorType
from rich.style import Style
from textual.app import App
from textual.color import Color
from textual.geometry import Region
from textual.screen import ModalScreen

LEAST = 4.5
DRAWN = re.compile(r"[\s─-╿▀-▟⠀-⣿…·│]*")  # lines, bars and plots are no text


def hard_to_read(app: App[Any]) -> Iterator[str]:
    """A line for each pair of colours of some text."""
    seen: set[tuple[str, str]] = set()
    boxes = app.screen.query("#dialog, #--results") if isinstance(app.screen, ModalScreen) else ()
    box = boxes.first().region if boxes else Region(0, 0, *app.size)  # what lies behind a dialog is dimmed
    for strip in app.screen._compositor.render_strips(app.size)[box.y : box.bottom]:
        for text, style, _ in strip.crop(box.x, box.right):
            if style is None or DRAWN.fullmatch(text):
                continue
            front, ground = colours(style)
            ratio = contrast(front, ground) if front and ground else LEAST
            if ratio < LEAST and (front.hex, ground.hex) not in seen:  # type: ignore[union-attr]
                seen.add((front.hex, ground.hex))  # type: ignore[union-attr]
                yield f"{ratio:.1f} {front.hex} on {ground.hex}: {text.strip()[:50]!r}"  # type: ignore[union-attr]


def contrast(one: Color, other: Color) -> float:
    """From 1 to 21, by the relative luminances of two colours."""
    low, high = sorted(map(_luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Color) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour.normalized]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def colours(style: Style) -> tuple[Color | None, Color | None]:
    """What a text is drawn in, and on what; None where the terminal decides."""
    pair = [
        None if colour is None or colour.type is ColorType.DEFAULT else Color.from_rich_color(colour)
        for colour in (style.color, style.bgcolor)
    ]
    if style.reverse:
        pair.reverse()
    front, ground = pair
    if style.dim and front is not None and ground is not None:
        front = ground.blend(front, 0.5)
    return front, ground
