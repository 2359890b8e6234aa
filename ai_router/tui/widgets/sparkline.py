"""How fast a run is: rates with their recent course, latency, tokens."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from ai_router.tui.widgets.panel import Panel, rate, right, seconds
from batch.progress import Snapshot

BLOCKS = "▁▂▃▄▅▆▇█"
RATE_WIDTH = 7  # `123,456`


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


class SpeedPanel(Panel):
    """Tokens and items a second, p50 and p95 of the seconds an item takes, tokens so far, items at once."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__(id=id)
        self.snapshot: Snapshot | None = None
        self.mean: float | None = None  # of the whole job, tokens a second, once it has ended
        self.set_title("Speed")

    def show(self, snapshot: Snapshot) -> None:
        """Draw another moment."""
        self.snapshot = snapshot
        self.refresh()

    def lines(self, width: int, height: int) -> Sequence[Content]:
        """One line where the panel is low, else one a figure."""
        snapshot = self.snapshot
        if snapshot is None:
            return ()
        tokens = _figure(rate(snapshot.tokens_per_second), "tok/s", bold=True)
        items = _figure(rate(snapshot.items_per_second), "items/s", bold=not snapshot.tokens_output)
        latency = Content.assemble(
            ("p50 ", "$text-muted"),
            right(seconds(snapshot.latency_p50), 7),
            ("  p95 ", "$text-muted"),
            right(seconds(snapshot.latency_p95), 7),
        )
        main = tokens if snapshot.tokens_output or not snapshot.processed else items
        if height == 1:
            rest = Content("  ").join([items, latency] if main is tokens else [latency])
            room = min(60, width - main.cell_length - rest.cell_length - 4)
            gap = " " * max(2, width - main.cell_length - rest.cell_length - max(0, room) - 2)
            return [Content.assemble(main, "  ", self._course(snapshot, room), gap, rest)]
        room = width - main.cell_length - 2
        counts = Content.assemble(
            ("tokens ", "$text-muted"),
            f"{snapshot.tokens_input:,}",
            (" in  ", "$text-muted"),
            f"{snapshot.tokens_output:,}",
            (" out", "$text-muted"),
        )
        at_once = Content.assemble((right(f"{snapshot.concurrency:,}", RATE_WIDTH), "bold"), (" at once", "$text-muted"))
        other = items if main is tokens else tokens
        lines = [Content.assemble(main, "  ", self._course(snapshot, room)), other, at_once, latency, counts]
        return [line.truncate(width, ellipsis=True) for line in lines]

    @staticmethod
    def _course(snapshot: Snapshot, width: int) -> Content:
        return Content.styled(sparkline(snapshot.rates, width), "$accent") if width > 3 else Content("")


def _figure(value: str, unit: str, *, bold: bool) -> Content:
    return Content.assemble((right(value, RATE_WIDTH), "bold" if bold else ""), (f" {unit}", "$text-muted"))
