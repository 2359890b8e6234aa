"""A model for each prompt: what that brings and costs, beside each model alone, before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from ai_router.tui.actions import bind
from ai_router.tui.setup.flow import FlowScreen
from ai_router.tui.setup.routed import Routed
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.text import harmless, one_line, pad, plural
from batch.sources import Source

if TYPE_CHECKING:
    from ai_router.routing.plan import Figures, FilePlan
    from ai_router.routing.router import Router

MOST_REASONS = 12
MOST_LANE = 40  # cells of a name


class AutoScreen(FlowScreen):
    """The curve as a table, cheapest first, and below it where the prompts would go and why."""

    CSS_PATH = "choose_model.tcss"
    AUTO_FOCUS = "VirtualTable"
    BINDINGS: ClassVar[list[BindingType]] = bind("auto.next")

    def __init__(self, source: Source, total: int) -> None:
        super().__init__()
        self.set_reactive(FlowScreen.crumbs, ("Batch", source.name, "Auto"))
        self.set_reactive(FlowScreen.context_text, plural(total, "prompt"))
        self.source = source
        self.total = total
        self.plan: FilePlan | None = None
        self._router: Router | None = None

    def compose_body(self) -> ComposeResult:
        """Table and reasons."""
        table = VirtualTable(
            [
                Column("Plan", flex=2),
                Column("0 … 1", 20, from_width=86),
                Column("Right, 95 %", 18, right=True),
                Column("Cost, 95 %", 22, right=True),
                Column("Time", 9, right=True, from_width=90),
            ],
            self._rows,
            empty="Planning…",
            id="models",
            classes="panel",
        )
        table.border_title = "What it brings and costs"
        yield table
        with VerticalScroll(id="fit-box", classes="panel", can_focus=False) as box:
            box.border_title = "Where the prompts go"
            yield Static("", id="about")

    def on_mount(self) -> None:
        """Plan in a thread: the whole file is read."""
        registry, source = self.services.registry, self.source

        def work() -> tuple[Router, FilePlan, list[str]]:
            from ai_router.routing.planning import plan_file
            from ai_router.routing.workspace import router_of

            router, notes = router_of(registry)
            return router, plan_file(router, source.requests(), curve=True), notes

        self.in_thread(work, self._take, failed=self._failed, busy="planning", group="plan")

    def _take(self, found: tuple[Router, FilePlan, list[str]]) -> None:
        self._router, self.plan, notes = found
        table = self.query_one(VirtualTable)
        table.set_count(len(self.plan.curve))
        table.styles.height = len(self.plan.curve) + 3
        names = [figures.name for figures in self.plan.curve]
        if "auto" in names:
            table.move_cursor(names.index("auto"))
        reasons = self.plan.why()[:MOST_REASONS]
        wide = min(MOST_LANE, max((cell_len(one_line(lane)) for lane, _, _ in reasons), default=0))
        lines = [
            Content.assemble(
                (f"{count:>9,}  ", "$text-muted"), (pad(one_line(lane, MOST_LANE), wide), "bold"), f"  {harmless(why)}"
            )
            for lane, why, count in reasons
        ]
        lines += [Content(""), *(Content.styled(harmless(note), "$text-muted") for note in [*self.plan.notes, *notes])]
        self.query_one("#about", Static).update(Content("\n").join(lines))

    def _failed(self, error: Exception) -> None:
        self.query_one("#about", Static).update(Content.styled(f"✗ {harmless(str(error))}", "$text-error"))
        self.services.show_error(error)

    def _rows(self, start: int, stop: int) -> list[Row]:
        return [_row(figures) for figures in self.plan.curve[start:stop]] if self.plan is not None else []

    @on(VirtualTable.Selected)
    def _selected(self, event: VirtualTable.Selected) -> None:
        if type(event) is VirtualTable.Selected:
            self.action_proceed()

    def action_proceed(self) -> None:
        """To the options, with the plan under the cursor."""
        if self.plan is None or self._router is None:
            return
        from ai_router.routing.plan import Wish
        from ai_router.tui.setup.options import OptionsScreen

        chosen = self.plan.curve[max(0, self.query_one(VirtualTable).cursor)]
        if chosen.model:
            self.app.push_screen(OptionsScreen(self.source, self._router.registry.get(chosen.model), self.total))
            return
        routed = Routed(chosen.name, self._router, Wish(dial=chosen.dial))
        self.app.push_screen(OptionsScreen(self.source, routed.spec, self.total, routed=routed))


def _row(figures: Figures) -> Row:
    from ai_router.routing.words import bar, cost_text

    score = "unknown"
    if figures.score is not None:
        score = f"{figures.score[0]:.0%} ({figures.score[1]:.0%}–{figures.score[2]:.0%})"
    seconds = "unknown" if figures.seconds is None else f"{figures.seconds:,.0f} s"
    return (figures.name, (bar(figures), "accent"), score, cost_text(figures), (seconds, "muted"))
