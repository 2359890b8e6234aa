"""All jobs together: what was answered by whom, when, for how much, how fast, and what failed."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from ai_router.stats import Part, Stats, cost_text, read_stats
from ai_router.tui.actions import bind
from ai_router.tui.scrolling import ScrollingScreen
from ai_router.tui.stats.plots import plot
from ai_router.tui.widgets.text import count, one_line, plural
from batch.export.picture import latency_bins

EMPTY = "No jobs yet.\n\nGo back and press 5: it takes prompts from a file or typed."
MOST_LINES = 12  # of a table or a plot


def figures(part: Part) -> str:
    """`1,234 done · 5 failed · 12,345 tokens · $1.20 · p50 0.8 s`."""
    sums = part.sums
    middle, high = sums.percentile(0.5), sums.percentile(0.95)
    parts = [f"{count(sums.answered)} done", f"{count(sums.failed)} failed" if sums.failed else ""]
    parts.append(f"{count(sums.tokens_input)} tokens in, {count(sums.tokens_output)} out")
    parts.append(cost_text(sums) if sums.cost or sums.cost_unknown else "")
    parts.append(f"p50 {middle:,.2f} s, p95 {high:,.2f} s" if middle is not None and high is not None else "")
    return " · ".join(filter(None, parts))


def report(stats: Stats, width: int) -> Content:
    """The whole screen's text in so many cells."""
    sums = stats.total.sums
    lines = [
        Content.styled(f"{plural(stats.total.jobs, 'job')} · {plural(stats.prompts, 'item')}", "bold $accent"),
        Content(figures(stats.total)),
        Content(""),
    ]
    lines += plot("Answers by model", _rows(stats.models), width)
    for name, part in list(stats.models.items())[:MOST_LINES]:
        lines.append(Content.assemble((f"{one_line(name, 40)}  ", "bold"), (figures(part), "$text-muted")))
    lines.append(Content(""))
    days = dict(list(stats.days.items())[-MOST_LINES:])
    lines += plot("Answers by day of a job's last change", _rows(days), width, "$text-success")
    paid = [(day, part.sums.cost / 1e9, cost_text(part.sums)) for day, part in days.items() if part.sums.cost]
    lines += plot("Cost by day", paid, width, "$text-warning")
    lines += plot("Answers by tag", _rows(stats.tags), width)
    lines += plot("Seconds an answer", [(name, float(n), count(n)) for name, n in latency_bins(sums.latency)], width)
    bad = [(kind, float(number), count(number)) for kind, number in stats.failures.items()]
    lines += plot("Failures by kind", bad, width, "$text-error")
    if stats.skipped:
        lines.append(Content.styled(f"{plural(len(stats.skipped), 'file')} could not be read", "$text-warning"))
    return Content("\n").join(lines)


def _rows(parts: dict[str, Part]) -> list[tuple[str, float, str]]:
    return [
        (name, float(part.sums.answered), count(part.sums.answered)) for name, part in list(parts.items())[:MOST_LINES]
    ]


class StatsScreen(ScrollingScreen[None]):
    """Read anew each time it is opened; jobs that have not changed are not read again."""

    BINDINGS: ClassVar[list[BindingType]] = bind("stats.refresh", "app.back", "app.up")

    def __init__(self) -> None:
        super().__init__()
        self.crumbs = ("Statistics",)
        self._stats: Stats | None = None

    def compose_body(self) -> ComposeResult:
        """The text."""
        with VerticalScroll(id="reading", classes="panel") as box:
            box.border_title = "All jobs"
            yield Static("", id="reading-text")

    def on_mount(self) -> None:
        """Count."""
        self.query_one("#reading").focus()
        self.action_refresh()

    def action_refresh(self) -> None:
        """Count again."""
        folder = self.services.workspace.checkpoints
        self.in_thread(lambda: read_stats(folder), self._take, busy="counting")

    def _take(self, stats: Stats) -> None:
        self._stats = stats
        self._lay_out()

    def on_resize(self) -> None:
        """Bars take what is left."""
        self.call_after_refresh(self._lay_out)

    def _lay_out(self) -> None:
        if self._stats is None or not self.alive:
            return
        width = self.query_one("#reading").scrollable_content_region.width
        text = report(self._stats, width) if self._stats.total.jobs else Content.styled(EMPTY, "$text-muted")
        self.query_one("#reading-text", Static).update(text)
