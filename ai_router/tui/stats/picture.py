"""One job in plots: how fast it went and what it cost over time, how long answers took, what is right, what failed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from ai_router.tui.actions import bind
from ai_router.tui.results.data import models_of
from ai_router.tui.scrolling import ScrollingScreen
from ai_router.tui.stats.plots import curve, plot
from ai_router.tui.widgets.text import count, filled, one_line, plural
from batch.prices import dollars
from batch.running.progress import format_duration

if TYPE_CHECKING:
    from batch.export.picture import Picture

LIVE_SECONDS = 2.0
NOTHING = "Nothing has been answered yet."
NO_PACE = "When its answers came was not kept by the version that ran this job."


class PictureScreen(ScrollingScreen[None]):
    """Drawn anew every two seconds while the job runs."""

    BINDINGS: ClassVar[list[BindingType]] = bind("picture.report", "stats.refresh", "app.back")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.crumbs = ("Jobs and results", path.stem.removeprefix("batch_"), "Picture")
        self._look: Picture | None = None

    def compose_body(self) -> ComposeResult:
        """The text."""
        with VerticalScroll(id="reading", classes="panel") as box:
            box.border_title = "Picture"
            yield Static("", id="reading-text")

    def on_mount(self) -> None:
        """Read the job."""
        self.query_one("#reading").focus()
        self.action_refresh()
        self.set_interval(LIVE_SECONDS, self._look_again)

    def _look_again(self) -> None:
        from batch.checkpoint import lock_owner

        if self.is_current and not self.working("picture") and lock_owner(self.path) is not None:
            self._read(busy="")

    def action_refresh(self) -> None:
        """Read it again."""
        self._read(busy="reading")

    def _read(self, busy: str) -> None:
        from batch.export.picture import picture_of

        path = self.path
        self.in_thread(lambda: picture_of(path), self._take, busy=busy, group="picture")

    def action_report(self) -> None:
        """All of it as a page."""
        self.services.go("export", self.path, form="html")

    def _take(self, look: Picture) -> None:
        self._look = look
        name = str(look.job.config.get("source", "")).replace("\\", "/").rpartition("/")[2]
        self.crumbs = ("Jobs and results", f"{name} · {look.job.job_id}" if name else look.job.job_id, "Picture")
        self._lay_out()

    def on_resize(self) -> None:
        """Plots take what is left."""
        self.call_after_refresh(self._lay_out)

    def _lay_out(self) -> None:
        if self._look is None or not self.alive:
            return
        width = self.query_one("#reading").scrollable_content_region.width - 1  # of the bar that may come
        self.query_one("#reading-text", Static).update(Content("\n").join(drawn(self._look, width)))


def drawn(look: Picture, width: int) -> Iterator[Content]:
    """The whole screen's text in so many cells."""
    from batch.export.picture import latency_bins

    job, total = look.job, look.total
    yield Content.styled(f"{plural(job.total_prompts, 'item')} · {one_line(models_of(job), 40)}", "bold $accent")
    yield Content.styled(filled(_figures(look), width), "$text-muted")
    yield Content("")
    if not job.processed:
        yield Content.styled(NOTHING, "$text-muted")
        return
    yield from _course(look, width)
    rows = [(c.name, c.right / c.n, f"{100 * c.right / c.n:.1f} % of {count(c.n)}") for c in look.categories]
    yield from plot("Right by category", rows, width, "$text-success", most=1.0)
    bins = [(name, float(number), count(number)) for name, number in latency_bins(total.latency)]
    yield from plot("Seconds an answer took", bins, width)
    who = [(name, sums.answered) for name, sums in look.summary.models.items() if sums.answered]
    if len(who) > 1:
        rows = [(name, float(number), count(number)) for name, number in who]
        yield from plot("Who answered", rows, width)
    bad = [(f"{kind}: {said}" if said else kind, float(number), count(number)) for kind, said, number in look.errors]
    yield from plot("What failed", bad, width, "$text-error")


def _figures(look: Picture) -> Iterator[str]:
    job, total = look.job, look.total
    yield f"{count(job.completed)} done"
    if job.failed:
        yield f"{count(job.failed)} failed"
    if left := job.total_prompts - job.processed:
        yield f"{count(left)} left"
    if job.tokens_output:
        yield f"{count(job.tokens_output)} tokens"
    if job.cost:
        yield ("≥ " if job.cost_unknown else "") + dollars(job.cost)
    if job.elapsed:
        yield format_duration(job.elapsed)
    middle, high = total.percentile(0.5), total.percentile(0.95)
    if middle is not None and high is not None:
        yield f"p50 {middle:,.2f} s"
        yield f"p95 {high:,.2f} s"


def _course(look: Picture, width: int) -> Iterator[Content]:
    pace = look.pace
    if pace is None:
        yield Content.styled(NO_PACE, "$text-muted")
        yield Content("")
        return
    if len(pace.points) < 2:
        return
    ends = ("0", format_duration(pace.width * len(pace.points)))
    yield from curve("Items a second", pace.rates, width, ends, _short)
    yield from curve("Tokens a second", pace.token_rates, width, ends, _short)
    spent = [nanos / 1e9 for nanos in pace.spent]
    yield from curve("Cost so far", spent, width, ends, lambda value: dollars(round(value * 1e9)), "$text-warning")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
