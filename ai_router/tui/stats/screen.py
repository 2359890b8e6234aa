"""All jobs together: what was answered by whom, when, for how much, how fast, and what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from ai_router.stats import Part, Stats, cost_text, read_stats
from ai_router.tui.actions import bind
from ai_router.tui.scrolling import ScrollingScreen
from ai_router.tui.stats.plots import plot
from ai_router.tui.widgets.columns import GAP, LEAST_FLEX, Column, laid_out
from ai_router.tui.widgets.text import count, filled, one_line, pad, plural
from batch.checkpoint.summary import Sums
from batch.export.picture import latency_bins

EMPTY = "No jobs yet.\n\nGo back and press 5: it takes prompts from a file or typed."
FIGURES = ("Done", "p95", "p50", "Cost", "Failed", "Tokens out", "Tokens in")  # the last ones go where there is no room
ORDER = ("Done", "Failed", "Tokens in", "Tokens out", "Cost", "p50", "p95")  # in which those that stay stand
MOST_LINES = 12  # of a table or a plot


def figures(part: Part, width: int) -> str:
    """`1,234 done · 5 failed · 12,345 tokens · $1.20 · p50 0.8 s`."""
    sums = part.sums
    middle, high = sums.percentile(0.5), sums.percentile(0.95)
    parts = [f"{count(sums.answered)} done", f"{count(sums.failed)} failed" if sums.failed else ""]
    parts += [f"{count(sums.tokens_input)} tokens in", f"{count(sums.tokens_output)} out"]
    parts.append(cost_text(sums) if sums.cost or sums.cost_unknown else "")
    parts += [f"p50 {middle:,.2f} s", f"p95 {high:,.2f} s"] if middle is not None and high is not None else []
    return filled(parts, width)


def table(head: str, parts: Mapping[str, Part], width: int) -> list[Content]:
    """What each part adds up to, in as many columns as there is room for; nothing where there are no parts."""
    if not parts:
        return []
    names = list(parts)[:MOST_LINES]
    rows = [_cells(parts[name].sums) for name in names]
    columns = [  # as wide as their figures are: none is ever cut
        Column(title, max(len(title), *(cell_len(row[at]) for row in rows)), right=True)
        for at, title in enumerate(FIGURES)
    ]
    widest = max(LEAST_FLEX, *(cell_len(one_line(name, width)) for name in names))
    needed = widest + sum(column.width + GAP for column in columns)
    shown = laid_out([Column(head), *columns], min(width, needed))  # no further from a name than it takes
    shown.sort(key=lambda each: ORDER.index(each[1].title) + 1 if each[0] else 0)
    lines = [_line((head, *FIGURES), shown).stylize("$text-muted")]
    lines += [_line((one_line(name, width), *row), shown) for name, row in zip(names, rows, strict=True)]
    return [*lines, Content("")]


def _cells(sums: Sums) -> tuple[str, ...]:
    """As FIGURES has them."""
    high, middle = (
        "—" if value is None else f"{value:,.2f} s" for value in (sums.percentile(0.95), sums.percentile(0.5))
    )
    cost = cost_text(sums)
    numbers = (sums.failed, sums.tokens_output, sums.tokens_input)
    return (count(sums.answered), high, middle, cost, *map(count, numbers))


def _line(cells: Sequence[str], shown: Sequence[tuple[int, Column, int]]) -> Content:
    return Content((" " * GAP).join(pad(cells[at], wide, right=column.right) for at, column, wide in shown))


def report(stats: Stats, width: int) -> Content:
    """The whole screen's text in so many cells."""
    sums = stats.total.sums
    lines = [
        Content.styled(f"{plural(stats.total.jobs, 'job')} · {plural(stats.prompts, 'item')}", "bold $accent"),
        Content(figures(stats.total, width)),
        Content(""),
    ]
    lines += plot("Answers by model", _rows(stats.models), width)
    lines += table("Model", stats.models, width)
    days = dict(list(stats.days.items())[-MOST_LINES:])
    lines += plot("Answers by day of a job's last change", _rows(days), width, "$text-success")
    paid = [(day, part.sums.cost / 1e9, cost_text(part.sums)) for day, part in days.items() if part.sums.cost]
    lines += plot("Cost by day", paid, width, "$text-warning")
    lines += table("Day", days, width)
    lines += plot("Answers by tag", _rows(stats.tags), width)
    lines += table("Tag", stats.tags, width)
    lines += plot("Seconds an answer", [(name, float(n), count(n)) for name, n in latency_bins(sums.latency)], width)
    bad = [(kind, float(number), count(number)) for kind, number in stats.failures.items()]
    lines += plot("Failures by kind", bad, width, "$text-error")
    if stats.skipped:
        lines.append(Content.styled(f"{plural(len(stats.skipped), 'file')} could not be read", "$text-warning"))
    return Content("\n").join(lines)


def _rows(parts: dict[str, Part]) -> list[tuple[str, float, str]]:
    answered = [(name, part.sums.answered) for name, part in parts.items() if part.sums.answered]
    return [(name, float(number), count(number)) for name, number in answered[:MOST_LINES]]


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
        self.in_thread(lambda: read_stats(folder), self._take, busy="counting", keys_wait=True)

    def _take(self, stats: Stats) -> None:
        self._stats = stats
        self._lay_out()

    def on_resize(self) -> None:
        """Bars take what is left."""
        self.call_after_refresh(self._lay_out)

    def _lay_out(self) -> None:
        if self._stats is None or not self.alive:
            return
        width = self.query_one("#reading").scrollable_content_region.width - 2  # of the bar that may come
        text = report(self._stats, width) if self._stats.total.jobs else Content.styled(EMPTY, "$text-muted")
        self.query_one("#reading-text", Static).update(text)
