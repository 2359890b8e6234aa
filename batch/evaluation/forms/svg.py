"""The report's plots: plain SVG, each with a title that says what it shows.

Each is drawn twice into one picture, for wide and for narrow pages; the page's style shows the one that fits, and gives
the picture that one's shape. Colours are the page's too, by class; the attributes are for readers that do not apply the
style: they see the wide drawing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from batch.evaluation.forms.words import escaped

_TOP = 8
_AXIS = 24
_CELL = 6.8  # the width of a character of the font, two of which a wide one takes


class Bar(NamedTuple):
    """A bar from 0 to its value with the interval's whisker; all 0 to 1."""

    label: str
    value: float
    low: float | None
    high: float | None
    note: str = ""  # written at the right end


class Dot(NamedTuple):
    """A difference with its interval, -1 to 1."""

    label: str
    value: float
    low: float | None
    high: float | None
    note: str = ""
    kind: str = ""  # class of the dot: "better" or "worse"


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where things stand: the plot between `left` and `right`, labels beside or above it, a row each."""

    name: str
    width: int
    left: int
    right: int
    row: int
    bar: int  # from the top of a row to its bar
    thick: int

    @property
    def beside(self) -> bool:
        return self.left > 100

    def x(self, share: float) -> float:
        return self.left + (self.right - self.left) * share

    def middle(self, y: float) -> float:
        return y + self.bar + self.thick / 2

    def label(self, text: str, note: str, y: float) -> str:
        if self.beside:
            room, place = (self.left - 16) / _CELL, f'x="{self.left - 10}" y="{y + 17}" text-anchor="end"'
        else:
            room, place = (self.width - 12) / _CELL - _cells(note), f'x="0" y="{y + 14}"'
        return (
            f'<text class="label" {place}>{escaped(_clipped(text, max(8, int(room))))}'
            f"<title>{escaped(text)}</title></text>"
        )

    def note(self, text: str, y: float) -> str:
        place = f'x="{self.right + 12}" y="{y + 17}"'
        if not self.beside:
            place = f'x="{self.width}" y="{y + 14}" text-anchor="end"'
        return f'<text class="note" {place}>{escaped(text)}</text>'

    def whisker(self, low: float, high: float, y: float) -> str:
        middle = self.middle(y)
        return (
            '<path class="whisker" stroke="currentColor" fill="none" '
            f'd="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8"/>'
        )

    def grid(self, ticks: Sequence[tuple[float, str]], height: float) -> list[str]:
        parts = []
        for share, label in ticks:
            at = f"{self.x(share):.1f}"
            parts.append(f'<line class="grid" stroke="#d5d7da" x1="{at}" x2="{at}" y1="{_TOP}" y2="{height}"/>')
            parts.append(f'<text class="tick" x="{at}" y="{height + 16}" text-anchor="middle">{label}</text>')
        return parts


_WIDE = _Frame("wide", width=720, left=200, right=538, row=26, bar=5, thick=16)
_NARROW = _Frame("narrow", width=320, left=20, right=300, row=42, bar=20, thick=13)
_PERCENT = [(tick / 100, f"{tick} %") for tick in (0, 25, 50, 75, 100)]


class _Drawing(NamedTuple):
    parts: list[str]
    height: float


def bars(rows: Sequence[Bar], title: str) -> str:
    """Bars from left to right over a scale of 0 to 100."""
    return _figure(lambda frame: _bars(frame, rows), title)


def dots(rows: Sequence[Dot], title: str) -> str:
    """Differences on both sides of none; the scale fits the widest interval."""
    reach = max((abs(v) for row in rows for v in (row.value, row.low or 0.0, row.high or 0.0)), default=0.0)
    reach = next((step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if reach <= step), 1.0)
    return _figure(lambda frame: _dots(frame, rows, reach), title)


def columns(rows: Sequence[Bar], title: str, axis: str) -> str:
    """Columns side by side over a scale of 0 to 100, with `axis` under them; on a narrow page they lie."""
    return _figure(lambda frame: _columns(rows, axis) if frame.beside else _bars(frame, rows, axis), title)


def _bars(frame: _Frame, rows: Sequence[Bar], axis: str = "") -> _Drawing:
    height = _TOP + frame.row * len(rows)
    parts = frame.grid(_PERCENT, height)
    for at, bar in enumerate(rows):
        y = _TOP + at * frame.row
        parts.append(frame.label(bar.label, bar.note, y))
        parts.append(
            f'<rect class="bar" fill="#4a7ab5" x="{frame.left}" y="{y + frame.bar}" rx="2" '
            f'width="{frame.x(_within(bar.value)) - frame.left:.1f}" height="{frame.thick}"/>'
        )
        if bar.low is not None and bar.high is not None:
            parts.append(frame.whisker(frame.x(_within(bar.low)), frame.x(_within(bar.high)), y))
        parts.append(frame.note(bar.note, y))
    if axis:
        parts.append(f'<text class="tick" x="0" y="{height + 34}">by {escaped(axis)}</text>')
    return _Drawing(parts, height + _AXIS + (18 if axis else 0))


def _dots(frame: _Frame, rows: Sequence[Dot], reach: float) -> _Drawing:
    def x(value: float) -> float:
        return frame.x((value + reach) / (2 * reach))

    height = _TOP + frame.row * len(rows)
    ticks = [((part + 1) / 2, f"{100 * reach * part:+g}" if part else "0") for part in (-1, -0.5, 0, 0.5, 1)]
    parts = frame.grid(ticks, height)
    # Where labels are above, the line must not run through them.
    strokes = [(_TOP, height - _TOP)] if frame.beside else [(_TOP + at * frame.row + 18, 18) for at in range(len(rows))]
    path = "".join(f"M{x(0):.1f} {y}v{length}" for y, length in strokes)
    parts.append(f'<path class="zero" stroke="#62676f" d="{path}"/>')
    for at, row in enumerate(rows):
        y = _TOP + at * frame.row
        parts.append(frame.label(row.label, row.note, y))
        if row.low is not None and row.high is not None:
            parts.append(frame.whisker(x(row.low), x(row.high), y))
        parts.append(
            f'<circle class="dot {row.kind}" fill="#4a7ab5" cx="{x(row.value):.1f}" cy="{frame.middle(y)}" r="4.5"/>'
        )
        parts.append(frame.note(row.note, y))
    return _Drawing(parts, height + _AXIS)


def _columns(rows: Sequence[Bar], axis: str) -> _Drawing:
    left, height, top, width = 44, 200, 12, _WIDE.width
    inner = width - left - 12
    slot = inner / max(1, len(rows))

    def y(value: float) -> float:
        return top + (height - top) * (1 - _within(value))

    parts = []
    for tick in (0, 25, 50, 75, 100):
        at = y(tick / 100)
        parts.append(f'<line class="grid" stroke="#d5d7da" x1="{left}" x2="{width - 12}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{tick} %</text>')
    for index, bar in enumerate(rows):
        middle = left + slot * (index + 0.5)
        wide = min(64.0, slot * 0.62)
        parts.append(
            f'<rect class="bar" fill="#4a7ab5" x="{middle - wide / 2:.1f}" y="{y(bar.value):.1f}" width="{wide:.1f}" '
            f'height="{height - y(bar.value):.1f}" rx="2"><title>{escaped(bar.note)}</title></rect>'
        )
        if bar.low is not None and bar.high is not None:
            parts.append(
                '<path class="whisker" stroke="currentColor" fill="none" '
                f'd="M{middle:.1f} {y(bar.low):.1f}V{y(bar.high):.1f}'
                f'M{middle - 5:.1f} {y(bar.low):.1f}h10M{middle - 5:.1f} {y(bar.high):.1f}h10"/>'
            )
        parts.append(
            f'<text class="tick" x="{middle:.1f}" y="{height + 17}" text-anchor="middle">{escaped(bar.label)}</text>'
        )
    parts.append(
        f'<text class="tick" x="{left + inner / 2:.1f}" y="{height + 36}" text-anchor="middle">{escaped(axis)}</text>'
    )
    return _Drawing(parts, height + 44)


def _cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _clipped(text: str, room: int) -> str:
    """As much of a label as there is room for; wide characters take two places."""
    if _cells(text) <= room:
        return text
    used = 0
    for at, character in enumerate(text):
        used += _cells(character)
        if used >= room:
            return f"{text[:at]}…"
    return text


def _within(value: float) -> float:
    return min(1.0, max(0.0, value))


def _figure(draw: Callable[[_Frame], _Drawing], title: str) -> str:
    wide, narrow = draw(_WIDE), draw(_NARROW)
    # The narrow drawing may reach below the view box: the style makes the picture as high as it is.
    scale = _WIDE.width / _NARROW.width
    return (
        f'<svg viewBox="0 0 {_WIDE.width} {wide.height:.0f}" preserveAspectRatio="xMinYMin" '
        f'style="--wide: {_WIDE.width} / {wide.height:.0f}; --narrow: {_NARROW.width} / {narrow.height:.0f}" '
        f'font-size="13" fill="currentColor" role="img" aria-label="{escaped(title)}"><title>{escaped(title)}</title>'
        f'<g class="wide">{"".join(wide.parts)}</g>'
        f'<g class="narrow" display="none" transform="scale({scale:g})">{"".join(narrow.parts)}</g></svg>'
    )
