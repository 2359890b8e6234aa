"""A job that spans models: a line a lane, with what it does, at what rate, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from ai_router.tui.widgets.panel import Panel, fit, rate, right
from ai_router.tui.widgets.text import one_line, pad, plural
from batch.engines.lane import LaneSnapshot
from batch.prices import dollars

STATES = {
    "idle": ("◌", "$text-muted"),
    "running": ("▶", "$text-accent"),
    "resting": ("◷", "$text-warning"),
    "down": ("✗", "$text-error"),
    "spent": ("■", "$text-warning"),
}
TRIES = "tries failed"  # most are tried again: they are no failed items, which stand above
MOST_NAME, LEAST_NOTE = 28, 12  # cells


class LanesPanel(Panel):
    """Lanes that have something to do first; each with items done, in flight, waiting, a rate, cost, note."""

    MOST = 8

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__(id=id)
        self.lanes: Sequence[LaneSnapshot] = ()

    def show(self, lanes: Sequence[LaneSnapshot]) -> bool:
        """Draw another moment; whether there are lanes to be told apart."""
        self.lanes = sorted(lanes, key=lambda lane: (lane.state == "idle" and not lane.done, lane.name))
        if len(lanes) < 2:
            return False
        at_work = sum(lane.state == "running" for lane in lanes)
        self.set_title(f"Lanes · {at_work:,} of {len(lanes):,} running")
        self.styles.height = min(len(lanes), self.MOST if self.screen.has_class("-tall") else 3) + 2
        self.redraw()
        return True

    def lines(self, width: int, height: int) -> Sequence[Content]:
        """As many lanes as fit, and how many more there are."""
        shown = self.lanes if len(self.lanes) <= height else self.lanes[: max(1, height - 1)]
        names = min(MOST_NAME, max(8, width // 2), max((len(one_line(lane.name)) for lane in shown), default=0))
        table = [_figures(lane) for lane in shown]
        wide = [max(map(len, column)) for column in zip(*table, strict=True)] if table else []
        drawn = [_line(lane, row, names, wide, width) for lane, row in zip(shown, table, strict=True)]
        if more := len(self.lanes) - len(shown):
            drawn.append(Content.styled(f"and {plural(more, 'lane')} more", "$text-muted"))
        return drawn


def _figures(lane: LaneSnapshot) -> tuple[str, ...]:
    at_once = f"{lane.in_flight:,}" if lane.concurrency is None else f"{lane.in_flight:,}/{lane.concurrency:,}"
    cost = "$ ?" if lane.cost is None else dollars(lane.cost) if lane.cost else ""
    return f"{lane.done:,}", at_once, f"{lane.waiting:,}", rate(lane.items_per_second), cost, f"{lane.failed:,}"


def _line(lane: LaneSnapshot, figures: Sequence[str], names: int, wide: Sequence[int], width: int) -> Content:
    sign, style = STATES.get(lane.state, ("?", "$text-muted"))
    units = ("done", "in flight", "waiting", "/s", "", TRIES)
    pieces = [Content.assemble((f"{sign} ", style), (pad(one_line(lane.name), names), "bold"))]
    for text, room, unit in zip(figures, wide, units, strict=True):
        if room and not (unit == TRIES and not lane.failed):
            bad = "$text-error" if unit == TRIES else ""
            pieces.append(Content.assemble((right(text, room), bad), (f" {unit}".rstrip(), "$text-muted")))
    line = fit(pieces, width, "  ")
    note = "" if lane.note in ("", "ready") else lane.note
    if note and (left := width - line.cell_length - 2) >= LEAST_NOTE:
        line = Content.assemble(line, "  ", (one_line(note, left), "$text-warning" if lane.state != "running" else ""))
    return line
