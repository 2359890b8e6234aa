"""The report's plots: plain SVG, each with a title that says what it shows.

Colours are the page's, by class; the attributes are for readers that do not apply the page's style to them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from batch.evaluation.forms.words import escaped

_WIDTH = 720
_LABEL = 210  # left of the plot
_LABEL_CELLS = 28
_VALUE = 150  # right of it
_ROW = 26
_TOP = 8
_AXIS = 24


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


def bars(rows: Sequence[Bar], title: str) -> str:
    """Bars from left to right over a scale of 0 to 100."""
    inner = _WIDTH - _LABEL - _VALUE
    height = _TOP + _ROW * len(rows)
    parts = _grid([(tick / 100, f"{tick}") for tick in (0, 25, 50, 75, 100)], height, lambda v: _LABEL + inner * v)
    for at, bar in enumerate(rows):
        y = _TOP + at * _ROW
        parts.append(_label(bar.label, y))
        parts.append(
            f'<rect class="bar" fill="#4a7ab5" x="{_LABEL}" y="{y + 5}" rx="2" '
            f'width="{inner * _within(bar.value):.1f}" height="{_ROW - 10}"/>'
        )
        if bar.low is not None and bar.high is not None:
            parts.append(_whisker(_LABEL + inner * _within(bar.low), _LABEL + inner * _within(bar.high), y))
        parts.append(_note(bar.note, y))
    return _figure(parts, height + _AXIS, title)


def dots(rows: Sequence[Dot], title: str) -> str:
    """Differences on both sides of none; the scale fits the widest interval."""
    inner = _WIDTH - _LABEL - _VALUE
    reach = max((abs(v) for row in rows for v in (row.value, row.low or 0.0, row.high or 0.0)), default=0.0)
    reach = next((step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if reach <= step), 1.0)

    def x(value: float) -> float:
        return _LABEL + inner * (value + reach) / (2 * reach)

    height = _TOP + _ROW * len(rows)
    ticks = [(reach * part, f"{100 * reach * part:+g}" if part else "0") for part in (-1, -0.5, 0, 0.5, 1)]
    parts = _grid(ticks, height, x)
    parts.append(f'<line class="zero" stroke="#62676f" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{_TOP}" y2="{height}"/>')
    for at, row in enumerate(rows):
        y = _TOP + at * _ROW
        parts.append(_label(row.label, y))
        if row.low is not None and row.high is not None:
            parts.append(_whisker(x(row.low), x(row.high), y))
        parts.append(
            f'<circle class="dot {row.kind}" fill="#4a7ab5" cx="{x(row.value):.1f}" cy="{y + _ROW / 2}" r="4.5"/>'
        )
        parts.append(_note(row.note, y))
    return _figure(parts, height + _AXIS, title)


def columns(rows: Sequence[Bar], title: str, axis: str) -> str:
    """Columns side by side over a scale of 0 to 100, with `axis` under them."""
    left, height, top = 44, 200, 12
    inner = _WIDTH - left - 12
    slot = inner / max(1, len(rows))

    def y(value: float) -> float:
        return top + (height - top) * (1 - _within(value))

    parts = []
    for tick in (0, 25, 50, 75, 100):
        at = y(tick / 100)
        parts.append(
            f'<line class="grid" stroke="#d5d7da" x1="{left}" x2="{_WIDTH - 12}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(f'<text class="tick" x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{tick}</text>')
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
    return _figure(parts, height + 44, title)


def _grid(ticks: Sequence[tuple[float, str]], height: float, x: object) -> list[str]:
    assert callable(x)
    parts = []
    for value, label in ticks:
        at = x(value)
        parts.append(f'<line class="grid" stroke="#d5d7da" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{height}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{height + 16}" text-anchor="middle">{label}</text>')
    return parts


def _label(text: str, y: float) -> str:
    shown = _clipped(text)
    return (
        f'<text class="label" x="{_LABEL - 10}" y="{y + _ROW / 2 + 4}" text-anchor="end">{escaped(shown)}'
        f"<title>{escaped(text)}</title></text>"
    )


def _clipped(text: str) -> str:
    """As much of a label as there is room for; wide characters take two places."""
    used = 0
    for at, character in enumerate(text):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > _LABEL_CELLS:
            return f"{text[:at]}…"
    return text


def _note(text: str, y: float) -> str:
    return f'<text class="note" x="{_WIDTH - _VALUE + 12}" y="{y + _ROW / 2 + 4}">{escaped(text)}</text>'


def _whisker(low: float, high: float, y: float) -> str:
    middle = y + _ROW / 2
    return (
        '<path class="whisker" stroke="currentColor" fill="none" '
        f'd="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8"/>'
    )


def _within(value: float) -> float:
    return min(1.0, max(0.0, value))


def _figure(parts: Sequence[str], height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" font-size="13" fill="currentColor" role="img" '
        f'aria-label="{escaped(title)}">'
        f"<title>{escaped(title)}</title>{''.join(parts)}</svg>"
    )
