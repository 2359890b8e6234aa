"""Plots of text: bars from left to right, and a quantity over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.cells import cell_len
from textual.content import Content

from ai_router.tui.run.sparkline import chart
from ai_router.tui.widgets.text import one_line, pad

LEAST_BAR = 6
HIGH = 5  # lines of a curve
EIGHTHS = " ▏▎▍▌▋▊▉"


def hbar(value: float, largest: float, width: int) -> str:
    """A bar of up to `width` cells, to an eighth of one; the least value that is none is seen."""
    if largest <= 0 or value <= 0 or width <= 0:
        return ""
    eighths = max(1, round(value / largest * width * 8))
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def plot(
    title: str, rows: Sequence[tuple[str, float, str]], width: int, style: str = "$accent", most: float = 0.0
) -> list[Content]:
    """Bars under a title: name, value, and the value as text; what does not fit a narrow screen is the bar.

    The longest bar is the largest value, or `most` where one is given.
    """
    if not rows:
        return []
    names = min(max(cell_len(name) for name, _, _ in rows), max(4, width // 2))
    figures = max(len(text) for _, _, text in rows)
    room = width - names - figures - 3
    largest = most or max(value for _, value, _ in rows)
    lines = [Content.styled(title, "bold")]
    for name, value, text in rows:
        bar = hbar(value, largest, room) if room >= LEAST_BAR else ""
        lines.append(
            Content.assemble(
                (pad(one_line(name, names), names), ""),
                (f" {pad(text, figures, right=True)} ", "bold"),
                (bar, style),
            )
        )
    return [*lines, Content("")]


def curve(
    title: str,
    values: Sequence[float],
    width: int,
    ends: tuple[str, str],
    said: Callable[[float], str],
    style: str = "$accent",
) -> list[Content]:
    """A quantity over time, from 0 up to its largest, which is written beside it; nothing where there is no room."""
    top = max(values, default=0.0)
    marks = ["", said(top), *[""] * (HIGH - 2), "0"]
    room = width - max(map(len, marks)) - 2
    if top <= 0 or room < LEAST_BAR:
        return []
    lines = [Content.styled(title, "bold")]
    wide = max(map(len, marks))
    for mark, line in zip(marks[1:], chart(spread(values, room), room, HIGH), strict=True):
        lines.append(Content.assemble((pad(mark, wide, right=True), "$text-muted"), " ", (line, style)))
    gap = room - len(ends[0]) - len(ends[1])
    below = f"{ends[0]}{' ' * gap}{ends[1]}" if gap > 0 else ends[1][:room].rjust(room)
    lines.append(Content.assemble((" " * (wide + 1), ""), (below, "$text-muted")))
    return [*lines, Content("")]


def spread(values: Sequence[float], width: int) -> list[float]:
    """As many figures as there are cells: each the mean of its share of the values, or one of them several times."""
    count = len(values)
    found = []
    for cell in range(width):
        begin = cell * count // width
        end = max(begin + 1, (cell + 1) * count // width)
        found.append(sum(values[begin:end]) / (end - begin))
    return found
