"""Scores and differences as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_router.tui.widgets.table import Cell, Column, Row
from ai_router.tui.widgets.text import count, one_line

if TYPE_CHECKING:
    from batch.evaluation.report import Comparison, Report

LOWER = " ↓"
NEVER = 1 << 20  # cells
TITLE = 24  # cells that every title fits into
LEAST_BAR = 9  # cells
BAR = 21  # cells of the bar of a difference; odd: it has a middle
DIFFERENCE_COLUMNS = (
    Column("", flex=1),
    Column("before", 6, right=True),
    Column("now", 6, right=True),
    Column("change", 6, right=True),
    Column("95 %", 14, right=True),
    Column("p", 7, right=True),
    Column("", 8, from_width=82),
    Column("", BAR, from_width=106),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A row, and the error type it is about."""

    cells: Row
    error_type: str | None = None


def bar_cells(width: int, *, numbers: bool = True) -> int:
    """The cells that are left for bars in a table of a width; 0 where titles would be cut for them."""
    left = width - TITLE - 5 - 10 - 6 - 8 * numbers
    return min(41, left) if left >= LEAST_BAR else 0


def score_columns(bar: int, *, numbers: bool = True) -> list[Column]:
    """Title, n, value, interval, bar."""
    middle = bar // 2 - 1
    scale = f"0{'·' * (middle - 1)}50{'·' * (bar - middle - 5)}100" if bar else ""
    return [
        Column("", flex=1),
        Column("n", 6, right=True, from_width=0 if numbers else NEVER),
        Column("%", 5, right=True),
        Column("95 %", 10, right=True),
        Column(scale, bar, from_width=0 if bar else NEVER),
    ]


def score_lines(report: Report, bar: int) -> Iterator[Line]:
    """The metrics, the one that counts first."""
    for number, score in enumerate(report.scores):
        style = "strong" if not number else ""
        title = _short(score.title) + (LOWER if score.lower_is_better else "")
        yield _line(title, report.scored if not number else None, score.value, score.low, score.high, bar, style)


def breakdown_lines(report: Report, bar: int) -> Iterator[Line]:
    """The share of right ones by error type and by length, and why predictions failed."""
    from batch.evaluation.forms import words

    if report.types:
        yield _title("by error type")
        for kind in report.types:
            yield _line(one_line(kind.name), kind.n, kind.share, kind.low, kind.high, bar, "", kind.name)
    if len(report.lengths) > 1:
        yield _title("by input characters")
        for bin_ in report.lengths:
            yield _line(words.length_label(bin_), bin_.n, bin_.right / bin_.n, bin_.low, bin_.high, bar)
    if report.errors:
        yield _title("why predictions failed")
        for message, number in report.errors:
            yield Line((one_line(message), (count(number), "muted"), ("", ""), ("", ""), ("", "")))


def difference_lines(comparison: Comparison) -> Iterator[Line]:
    """The metrics in both runs; what is surely better or worse says so in a word."""
    from batch.evaluation.forms import words

    reach = max((abs(x) for d in comparison.differences for x in (d.change, d.low or 0.0, d.high or 0.0)), default=0.0)
    for number, d in enumerate(comparison.differences):
        verdict = words.verdict_on(d)
        style = {"better": "success", "worse": "error"}.get(verdict, "muted")
        sign = {"better": "✓ better", "worse": "✗ worse"}.get(verdict, "unclear" if verdict else "")
        interval = "—" if d.low is None else f"{words.signed(d.low)} – {words.signed(d.high)}"
        yield Line(
            (
                (_short(d.title) + (LOWER if d.lower_is_better else ""), "" if number else "strong"),
                words.percent(d.theirs),
                words.percent(d.ours),
                (words.signed(d.change), "" if number else "strong"),
                (interval, "muted"),
                (words.probability(d.p), "muted"),
                (sign, style),
                (_scaled(d.change, d.low, d.high, reach), style),
            )
        )


def forest(value: float, low: float | None, high: float | None, width: int) -> str:
    """A value of 0 to 1 as a dot on a line, its interval around it: `···├─●─┤·····`."""
    cells = ["·"] * width

    def cell(x: float) -> int:
        return max(0, min(width - 1, round(x * (width - 1))))

    at = cell(value)
    if low is not None and high is not None:
        first, last = cell(low), cell(high)
        cells[first : last + 1] = "─" * (last + 1 - first)
        cells[first], cells[last] = "├", "┤"
    cells[at] = "●"
    return "".join(cells)


def _scaled(change: float, low: float | None, high: float | None, reach: float) -> str:
    """A change as a dot on a line with none in its middle."""
    if not reach:
        return ""

    def place(x: float | None) -> float | None:
        return None if x is None else 0.5 + x / reach / 2

    cells = list(forest(place(change) or 0.0, place(low), place(high), BAR))
    middle = BAR // 2
    if cells[middle] != "●":
        cells[middle] = "┼" if cells[middle] == "─" else "│"
    return "".join(cells)


def _line(
    title: str,
    n: int | None,
    value: float,
    low: float | None,
    high: float | None,
    width: int,
    style: str = "",
    kind: str | None = None,
) -> Line:
    from batch.evaluation.forms import words

    number: Cell = ("" if n is None else count(n), "muted")
    interval = words.range_of(low, high).replace(" ", "")
    bar: Cell = (forest(value, low, high, width) if width else "", "accent" if style else "")
    return Line(((title, style), number, (words.percent(value), style), (interval, "muted"), bar), kind)


def _short(title: str) -> str:
    """The longest titles, fit for a column."""
    return title.replace("Character edits,", "Char. edits,").replace("Normalised edit", "Norm. edit")


def _title(text: str) -> Line:
    return Line(((text, "muted"), "", "", "", ""))
