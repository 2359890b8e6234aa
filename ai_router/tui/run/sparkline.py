"""How fast a run is: rates with their recent course, latency, tokens."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from ai_router.tui.widgets.panel import Panel, fit, rate, right, seconds
from batch.running.progress import Snapshot

BLOCKS = "▁▂▃▄▅▆▇█"
RATE_WIDTH = 7  # `123,456`
SECONDS_WIDTH = 7


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values as blocks, the newest at the right; the highest one shown fills its cell."""
    if width <= 0:
        return ""
    shown = list(values[-width:])
    top = max(shown, default=0.0)
    if top <= 0:
        return (BLOCKS[0] * len(shown)).rjust(width)
    steps = len(BLOCKS) - 1
    return "".join(BLOCKS[min(steps, max(0, round(v / top * steps)))] for v in shown).rjust(width)


def short(number: int) -> str:
    """`1,234`, from ten millions on `12.3 M`, from ten thousand millions on `12.3 G`."""
    for limit, unit in ((10_000_000_000, "G"), (10_000_000, "M")):
        if number >= limit:
            return f"{number * 10 / limit:.1f} {unit}"
    return f"{number:,}"


def chart(values: Sequence[float], width: int, height: int) -> list[str]:
    """The same over several lines, the top one first; a value above zero leaves at least a trace."""
    shown = list(values[-width:]) if width > 0 else []
    top = max(shown, default=0.0)
    steps = height * len(BLOCKS)
    levels = [min(steps, max(1, round(v / top * steps))) if v > 0 else 0 for v in shown] if top > 0 else []
    lines = []
    for row in reversed(range(height)):
        cells = [min(len(BLOCKS), max(0, level - row * len(BLOCKS))) for level in levels]
        lines.append("".join(BLOCKS[cell - 1] if cell else " " for cell in cells).rjust(width))
    return lines


class SpeedPanel(Panel):
    """Tokens and items a second, p50 and p95 of the seconds an item takes, tokens so far, items at once.

    Of a job that is over, the means of all its runs.
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__(id=id)
        self.snapshot: Snapshot | None = None
        self.latency: tuple[float | None, float | None] = (None, None)
        self.unit = ""
        self.set_title("Speed")

    def show(self, snapshot: Snapshot, latency: tuple[float, float] | None = None, unit: str = "") -> None:
        """Draw another moment; `latency` (p50, p95; seconds) stands in for the snapshot's, which is of one run.

        `unit` is what is counted, where it is no prompt; then there are no tokens.
        """
        self.snapshot, self.unit = snapshot, unit
        self.latency = latency or (snapshot.latency_p50, snapshot.latency_p95)
        self.set_title("Speed · mean" if snapshot.state.over else "Speed")
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Content]:
        """One line where the panel is low, else figures above a chart of the last seconds."""
        snapshot = self.snapshot
        if snapshot is None:
            return ()
        per_token, per_item = self._rates(snapshot)
        items = _figure(rate(per_item), f"{self.unit or 'item'}s/s")
        speeds = [items] if self.unit else [_figure(rate(per_token), "tok/s"), items]
        latency = Content.assemble(
            ("p50 ", "$text-muted"),
            right(seconds(self.latency[0]), SECONDS_WIDTH),
            ("  p95 ", "$text-muted"),
            right(seconds(self.latency[1]), SECONDS_WIDTH),
        )
        if height == 1:
            used = sum(speed.cell_length for speed in speeds) + latency.cell_length + 6
            if used > width:
                return [fit([*speeds, latency], width, "  ")]
            line = sparkline(snapshot.rates, max(0, width - used))
            return [Content("  ").join([speeds[0], Content.styled(line, "$accent"), *speeds[1:], latency])]
        at_once = _figure(f"{snapshot.concurrency:,}", "at once") if snapshot.concurrency else Content("")
        figures = [fit(speeds, width, "  "), latency]
        if self.unit:
            figures.append(at_once)
        else:
            figures.append(fit([_figure(short(snapshot.tokens_output), "tokens"), at_once], width, "  "))
        room = max(0, height - len(figures))
        course = [Content.styled(line, "$accent") for line in chart(snapshot.rates, width, room)]
        return [*(line.truncate(width, ellipsis=True) for line in figures), *course]

    @staticmethod
    def _rates(snapshot: Snapshot) -> tuple[float, float]:
        if not snapshot.state.over:
            return snapshot.tokens_per_second, snapshot.items_per_second
        elapsed = snapshot.elapsed
        return (snapshot.tokens_output / elapsed, snapshot.processed / elapsed) if elapsed > 0 else (0.0, 0.0)


def _figure(value: str, unit: str) -> Content:
    return Content.assemble((right(value, RATE_WIDTH), "bold"), (f" {unit:<7}", "$text-muted"))
