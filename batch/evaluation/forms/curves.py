"""A quantity over time as an area under a line: plain SVG, drawn once, as it may be stretched to any width."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from batch.evaluation.forms.words import escaped

_WIDTH, _HEIGHT = 720, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 12, 12, 26
_STEPS = (1, 2, 5)


def curve(
    values: Sequence[float], title: str, ends: tuple[str, str], said: Callable[[float], str], axis: str = ""
) -> str:
    """Values at equal distances, from 0 up; `ends` are written below the first and the last, `said` makes the marks
    at the left. `axis` says what runs from left to right.
    """
    top = ceiling(max(values, default=0.0))
    inner, base = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _BOTTOM

    def x(place: int) -> float:
        return _LEFT + inner * (place / (len(values) - 1) if len(values) > 1 else 0.5)

    def y(value: float) -> float:
        return base - (base - _TOP) * min(1.0, max(0.0, value / top))

    parts = []
    for share in (0.0, 0.5, 1.0):
        at = y(top * share)
        parts.append(
            f'<line class="grid" stroke="#d5d7da" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{escaped(said(top * share))}</text>'
        )
    points = [(x(place), y(value)) for place, value in enumerate(values)]
    if len(points) == 1:
        points = [(_LEFT, points[0][1]), (_WIDTH - _RIGHT, points[0][1])]
    if points:
        line = "L".join(f"{across:.1f} {down:.1f}" for across, down in points)
        parts.append(
            f'<path class="bar" fill="#4a7ab5" fill-opacity="0.25" '
            f'd="M{points[0][0]:.1f} {base}L{line}L{points[-1][0]:.1f} {base}Z"/>'
            f'<path class="line" stroke="#4a7ab5" stroke-width="1.5" fill="none" d="M{line}"/>'
        )
    below = ((_LEFT, "start", ends[0]), (_LEFT + inner / 2, "middle", axis), (_WIDTH - _RIGHT, "end", ends[1]))
    parts += [
        f'<text class="tick" x="{at:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{escaped(text)}</text>'
        for at, anchor, text in below
        if text
    ]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" style="--wide: {_WIDTH} / {_HEIGHT}; --narrow: {_WIDTH} / {_HEIGHT}" '
        f'font-size="13" fill="currentColor" role="img" aria-label="{escaped(title)}"><title>{escaped(title)}</title>'
        f"{''.join(parts)}</svg>"
    )


def ceiling(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten from a value on; 1 for nothing."""
    if not value > 0:
        return 1.0
    power = 10.0 ** (len(f"{int(value)}") - 1 if value >= 1 else -int(-_exponent(value)))
    return next((step * power for step in (*_STEPS, 10) if step * power >= value), 10 * power)


def _exponent(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])
