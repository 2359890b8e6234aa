"""Which model answers: what there is, what is ready, and whether the prompts fit."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content

from ai_router import jobs
from ai_router.models import ModelSpec
from ai_router.models.adding import add_model
from ai_router.routing import AUTO
from ai_router.tui.actions import bind
from ai_router.tui.jobs.view import home
from ai_router.tui.models.changes import adapters_dialog
from ai_router.tui.setup.flow import FlowScreen
from ai_router.tui.setup.source_view import PreviewPanel, ValidationView
from ai_router.tui.widgets.file_tree import size_text
from ai_router.tui.widgets.hanging import HangingText
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.text import inert, plural, within
from batch.errors import BatchError
from batch.sources import Entry, Source, Validation

LABEL = 12  # cells
FRAME_SECONDS = 0.15
PREVIEW = 30  # prompts
LOOK_SECONDS = 0.2  # the cursor rests on a model this long before the prompts are measured with it

NOT_COUNTED = "how many tokens each has is known when the model is loaded"
COUNTED_THERE = "how many tokens each has, its server counts"


class _Stale(Exception):
    """Another model was chosen while the prompts were being measured."""


class ChooseModelScreen(FlowScreen):
    """All models in a table; below it the check of the prompts against the context of the one under the cursor."""

    CSS_PATH = "choose_model.tcss"
    AUTO_FOCUS = "VirtualTable"
    BINDINGS: ClassVar[list[BindingType]] = bind("choose.next", "choose.auto", "choose.adapter")

    def __init__(
        self, source: Source, total: int = 0, wanted: str = "", sampling: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self._wanted = wanted  # a model's id, on which the cursor begins; or auto, which goes on to its plan
        self._sampling = sampling  # what the prompts were asked with before
        self.set_reactive(FlowScreen.crumbs, ("Batch", source.name, "Model"))
        self.set_reactive(FlowScreen.context_text, plural(total, "prompt"))
        self.source = source
        self.total = total
        self.models: list[ModelSpec] = []
        self.report: Validation | None = None
        self.checking: str | None = None  # id of the model that is measured
        self._number = 0
        self._read = 0
        self._first: list[Entry] = []

    def compose_body(self) -> ComposeResult:
        """Table and check."""
        table = VirtualTable(
            [
                Column("Status", 11),
                Column("Model", flex=2),
                Column("Engine", 7),
                Column("Size", 8, right=True),
                Column("Context", 9, right=True),
                Column("About", flex=3, from_width=70),
            ],
            self._rows,
            empty="Looking for models…",
            id="models",
            classes="panel",
        )
        table.border_title = "Choose a model"
        yield table
        with VerticalScroll(id="fit-box", classes="panel", can_focus=False):
            yield ValidationView(id="fit")
            yield HangingText(indent=LABEL, id="about")
        yield PreviewPanel(id="preview")

    def on_mount(self) -> None:
        """Read the registry in a thread: folders may be many."""
        self.set_interval(FRAME_SECONDS, self._frame)
        self.in_thread(lambda: self.services.registry.all(), self._take_models, group="models", keys_wait=True)
        self.services.models_changed.subscribe(self, lambda _: self._take_models(self.services.registry.all()))

    def _take_models(self, models: list[ModelSpec]) -> None:
        self.models = models
        table = self.query_one(VirtualTable)
        table.set_count(len(models))
        auto = self._wanted == AUTO
        if auto:  # once: who comes back from it chooses
            self._wanted = ""
        self._go_to(self._wanted or self.services.workspace.settings.model)
        table.border_subtitle = Content(f"{sum(spec.ready for spec in models)} of {len(models)} ready")
        table.styles.height = len(models) + 3
        self._measure()
        if auto:
            self.action_auto()

    def _rows(self, start: int, stop: int) -> list[Row]:
        root = self.services.workspace.root
        return [_row(spec, root) for spec in self.models[start:stop]]

    @property
    def chosen(self) -> ModelSpec | None:
        """The model under the cursor."""
        cursor = self.query_one(VirtualTable).cursor
        return self.models[cursor] if 0 <= cursor < len(self.models) else None

    # -- do they fit ----------------------------------------------------------------------------------------------

    @on(VirtualTable.Highlighted)
    def _highlighted(self) -> None:
        self._number += 1
        self.checking = None
        number = self._number
        self.refresh_bindings()
        self.set_timer(LOOK_SECONDS, lambda: self._measure() if number == self._number else None)

    def _measure(self) -> None:
        """Read the source again, with the model's own tokenizer, in a thread; the choice need not wait for it."""
        spec = self.chosen
        self._number += 1
        number, self._read, self.report = self._number, 0, None
        view = self.query_one(ValidationView)
        if spec is None:
            view.show_text("")
            return
        self.query_one("#fit-box").border_title = Content(spec.name)
        self.query_one("#about", HangingText).update(_about(spec))
        if not spec.ready:
            self.checking = None
            view.show_problem(f"{spec.name} is not ready: {spec.why}")
            self.in_thread(self._read_first, lambda _: None, group="first")
            return
        self.checking = spec.id

        def progress(read: int) -> None:
            if number != self._number:
                raise _Stale
            self._read = read

        def work() -> None:
            try:
                self._read_first()
                report = jobs.check(self.source, spec, jobs.JobPlan(spec.id), progress, self.services.registry)
            except _Stale:
                return
            except (BatchError, OSError) as error:
                problem = str(error)
                self.deliver(lambda: self._take_problem(number, problem))
            else:
                self.deliver(lambda: self._take_report(number, spec, report))

        self.run_worker(work, thread=True, group="measure", exit_on_error=False)

    def _read_first(self) -> None:
        """In a thread: the prompts that are shown."""
        if not self._first:
            self._first = list(islice(self.source.entries(), PREVIEW))
            self.deliver(lambda: self.query_one(PreviewPanel).show(self._first))

    def _take_report(self, number: int, spec: ModelSpec, report: Validation) -> None:
        if number != self._number:
            return
        self.checking, self.report = None, report
        view = self.query_one(ValidationView)
        if report.ok and report.tokens is None:
            counted = COUNTED_THERE if spec.is_remote else NOT_COUNTED
            view.show_text(f"✓ {plural(report.total, 'prompt')}; {counted}", "$text-success")
        elif report.ok and not report.too_long:
            within = (
                f" the context of {spec.context:,} tokens" if spec.context else f" {spec.name}; its context is unknown"
            )
            view.show_text(f"✓ {plural(report.total, 'prompt fits', 'prompts fit')}{within}", "$text-success")
        else:
            view.show_report(report)

    def _take_problem(self, number: int, problem: str) -> None:
        if number == self._number:
            self.checking = None
            self.query_one(ValidationView).show_problem(problem)

    def _frame(self) -> None:
        if self.checking:
            self.query_one(ValidationView).show_checking(self._read, f"measuring with {self.checking}'s tokenizer")

    # -- onward ---------------------------------------------------------------------------------------------------

    @on(VirtualTable.Selected)
    def _selected(self, event: VirtualTable.Selected) -> None:
        if type(event) is VirtualTable.Selected:
            self.action_proceed()

    def action_proceed(self) -> None:
        """To the options; a model that is not ready says why."""
        spec = self.chosen
        if spec is None:
            return
        if not spec.ready:
            self.services.show_error(f"{spec.name} is not ready: {spec.why}")
            return
        from ai_router.tui.setup.options import OptionsScreen

        self.app.push_screen(
            OptionsScreen(self.source, spec, self.total, self.report, sampling=self._sampling, first=self._first)
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Adapters go over models that run here."""
        spec = self.chosen if self.is_mounted else None
        return not (action == "adapter" and (spec is None or spec.is_remote or spec.adapter is not None))

    def action_adapter(self) -> None:
        """Choose an adapter for the model under the cursor; the cursor goes to the two of them."""
        spec = self.chosen
        if spec is None or spec.is_remote:
            return

        def chosen(answer: tuple[str, str] | None) -> None:
            if answer is None:
                return
            how, said = answer
            if how == "typed":
                file, place = self.services.workspace.models_file, str(spec.path)
                self.in_thread(lambda: add_model(file, place, adapter=said), added, busy="adding", group="add")
            else:
                self._go_to(said)

        def added(made: ModelSpec) -> None:
            self._wanted = made.id
            self.services.refresh_registry()

        self.app.push_screen(adapters_dialog(spec, self.models, "takes it"), chosen)

    def _go_to(self, name: str) -> None:
        for place, spec in enumerate(self.models):
            if spec.id == name:
                self.query_one(VirtualTable).move_cursor(place)

    def action_auto(self) -> None:
        """To the plan of a model for each prompt."""
        from ai_router.tui.setup.auto import AutoScreen

        self.app.push_screen(AutoScreen(self.source, self.total))

    def on_unmount(self) -> None:
        """End a check that is under way."""
        self._number += 1


def _row(spec: ModelSpec, root: Path) -> Row:
    style = "" if spec.ready else "muted"
    status = ("✓ ready", "success") if spec.ready else ("✗ not ready", "error")
    about = " · ".join(part for part in (spec.source, spec.notes) if part) if spec.ready else within(spec.why, root)
    context = f"{spec.context:,}" if spec.context else "—"
    return (
        status,
        (spec.name, style),
        (spec.engine, "muted"),
        (spec.parameters_text, style),
        (context, style),
        (about, "muted"),
    )


def _about(spec: ModelSpec) -> Content:
    facts = [
        ("parameters", spec.parameters_text),
        ("weights", size_text(spec.size_bytes) if spec.size_bytes else "—"),
        ("context", f"{spec.context:,} tokens" if spec.context else "—"),
        ("engine", spec.engine),
        ("from", spec.source),
        ("address" if spec.is_remote else "folder", home(spec.place)),
        ("adapter", home(spec.adapter) if spec.adapter is not None else ""),
        ("notes", spec.notes),
        ("defaults", ", ".join(f"{name} {value}" for name, value in spec.sampling.items())),
    ]
    return Content("\n").join(
        Content.assemble((f"{name:<{LABEL}}", "$text-muted"), inert(text)) for name, text in facts if text
    )
