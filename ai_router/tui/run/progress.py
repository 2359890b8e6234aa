"""How far a run is: the bar, the counts, the time left."""

from __future__ import annotations

import math
from collections.abc import Sequence

from textual.content import Content

from ai_router.tui.run.at_once import limits_of
from ai_router.tui.widgets.panel import STATE_SIGNS, Panel, fit, right, seconds
from batch.running.progress import RunState, Score, Snapshot, format_duration

DURATION_WIDTH = 7  # `59m 59s`
LEAST_BAR = 4
HEAVY, HALF, LIGHT = "━", "╸", "─"


def bar(width: int, completed: int, failed: int, total: int) -> Content:
    """`━━━━╸─────`: half a cell is the least step; failures are its last part. Full only when all is done."""
    fraction = min(1.0, (completed + failed) / total) if total else 0.0
    halves = math.floor(fraction * width * 2)
    if fraction and not halves:
        halves = 1
    cells, half = divmod(halves, 2)
    bad = min(cells, max(1, round(failed / total * width))) if failed and total else 0
    tip = HALF if half else ""
    tip_style = "$error" if failed and not completed else "$accent"
    return Content.assemble(
        (HEAVY * (cells - bad), "$accent"),
        (HEAVY * bad, "$error"),
        (tip, "$error" if bad else tip_style),
        (LIGHT * (width - cells - half), "$foreground 25%"),
    )


class ProgressPanel(Panel):
    """Bar, percentage, done/total and ETA; the counts; how long it has run and when it last saved."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__(id=id)
        self.snapshot: Snapshot | None = None

    def show(self, snapshot: Snapshot, status: str = "") -> None:
        """Draw another moment; `status` is said beside the state."""
        self.snapshot = snapshot
        sign, _ = STATE_SIGNS[snapshot.state]
        self.set_title(f"Progress · {sign} {snapshot.state}" + (f" · {status}" if status else ""))
        for state in RunState:
            self.set_class(state is snapshot.state, f"-{state}")
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Content]:
        """Two lines where there is room, else three; one more where there is a score."""
        snapshot = self.snapshot
        if snapshot is None:
            return ()
        counts, times = self._counts(snapshot), self._times(snapshot)
        lines = [self._bar(snapshot, width)]
        if snapshot.score is not None:
            lines.append(self._score(snapshot.score))
        if height == len(lines) + 1:
            if counts.cell_length + times.cell_length >= width:  # without what is 0 most of the time
                counts = self._counts(snapshot, width)
                times = fit(self._time_fields(snapshot), width - counts.cell_length - 2)
            gap = width - counts.cell_length - times.cell_length
            return [*lines, Content.assemble(counts, " " * gap, times) if gap > 1 else counts]
        passed, saved = self._time_fields(snapshot)
        left = [] if self._has_eta(snapshot, width) else [self._eta(snapshot)]
        return [*lines, self._counts(snapshot, width), fit([passed, *left, saved, self._retrying(snapshot)], width)]

    def _bar(self, snapshot: Snapshot, width: int) -> Content:
        percent, figures = self._figures(snapshot)
        if self._has_eta(snapshot, width):
            figures += Content("   ") + self._eta(snapshot)
        room = width - figures.cell_length
        if room < LEAST_BAR:
            return fit([Content.styled(percent, "bold"), Content(figures.plain.split()[-1])], width, "  ")
        return Content.assemble(bar(room, snapshot.completed, snapshot.failed, snapshot.total), figures)

    @staticmethod
    def _figures(snapshot: Snapshot) -> tuple[str, Content]:
        total = f"{snapshot.total:,}"
        # Rounded down: a hundred percent is said when all is done, not before.
        percent = f"{math.floor(snapshot.fraction * 1000) / 10:.1f}%"
        processed = f"  {right(f'{snapshot.processed:,}', len(total))}/{total}"
        return percent, Content.assemble((right(percent, 8), "bold"), processed)

    @staticmethod
    def _eta(snapshot: Snapshot) -> Content:
        eta = format_duration(None if snapshot.state.over else snapshot.eta)
        return Content.assemble(("ETA ", "$text-muted"), (eta.ljust(DURATION_WIDTH), "bold"))

    def _has_eta(self, snapshot: Snapshot, width: int) -> bool:
        """Whether there is room for it beside the bar."""
        _, figures = self._figures(snapshot)
        return LEAST_BAR + figures.cell_length + 3 + self._eta(snapshot).cell_length <= width

    @staticmethod
    def _score(score: Score) -> Content:
        """`exact match  87.3 %   95 % interval  81.2–91.9   of 120`."""
        value, low, high = (f"{part * 100:.1f}" for part in (score.value, score.low, score.high))
        return Content.assemble(
            (f"{score.name} ", "$text-muted"),
            (f"{right(value, 5)} %" if score.n else "      —", "bold $text-accent"),
            ("   95 % interval ", "$text-muted"),
            right(f"{low}–{high}" if score.n else "—", 10),
            ("   of ", "$text-muted"),
            f"{score.n:,}",
        )

    def _counts(self, snapshot: Snapshot, space: int | None = None) -> Content:
        """All counts; in a `space` of so many cells by signs where words do not fit, and what fits of these."""
        width = len(f"{snapshot.total:,}")
        # What a stopped run had in flight waits again.
        flying, again = (0, 0) if snapshot.state.over else (snapshot.in_flight, snapshot.retrying)
        waiting = max(0, snapshot.total - snapshot.processed - flying - again)
        most = None if snapshot.state.over else limits_of(snapshot).get("", (None, False))[0]
        at_work = f"{flying:,}" if most is None else f"{flying:,}/{most:,}"
        wide = max(3, len(f"{snapshot.concurrency:,}")) if most is None else max(3, 2 * len(f"{most:,}") + 1)
        fields = [
            self._field("done", snapshot.completed, width),
            self._field("failed", snapshot.failed, width, "bold $text-error" if snapshot.failed else ""),
            Content.assemble(("in flight ", "$text-muted"), (right(at_work, wide), "bold")),
            self._field("waiting", waiting, width),
        ]
        if space is None:
            return Content("   ").join([*fields, self._retrying(snapshot)])
        words = Content("   ").join(fields)
        if words.cell_length <= space:
            return words
        signs = (
            ("✓", f"{snapshot.completed:,}", "$text-success"),
            ("✗", f"{snapshot.failed:,}", "$text-error" if snapshot.failed else "$text-muted"),
            ("▶", at_work, "$text-accent"),
            ("◌", f"{waiting:,}", "$text-muted"),
        )
        return fit([Content.assemble((f"{sign} ", style), value) for sign, value, style in signs], space, "  ")

    def _retrying(self, snapshot: Snapshot) -> Content:
        return self._field("retrying", 0 if snapshot.state.over else snapshot.retrying, 3)

    @staticmethod
    def _field(label: str, value: int, width: int, style: str = "bold") -> Content:
        return Content.assemble((f"{label} ", "$text-muted"), (right(f"{value:,}", width), style or "bold"))

    def _times(self, snapshot: Snapshot) -> Content:
        return Content("   ").join(self._time_fields(snapshot))

    @staticmethod
    def _time_fields(snapshot: Snapshot) -> list[Content]:
        saved = "—" if snapshot.saved_ago is None else f"{seconds(snapshot.saved_ago)} ago"
        loads = snapshot.state is RunState.STARTING and snapshot.loading >= 1
        label, passed = ("loading ", snapshot.loading) if loads else ("elapsed ", snapshot.elapsed)
        return [
            Content.assemble((label, "$text-muted"), right(format_duration(passed), DURATION_WIDTH)),
            Content.assemble(("last saved ", "$text-muted"), saved.ljust(11)),
        ]
