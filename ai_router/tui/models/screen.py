"""The models there are: which are ready, and what the others lack."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from ai_router.models.entries import SOURCE
from ai_router.tui.actions import bind
from ai_router.tui.clipboard import copy_from
from ai_router.tui.jobs.view import home
from ai_router.tui.models.changes import ModelChanges
from ai_router.tui.models.rates import rate_lines, read_rates
from ai_router.tui.panes.layout import Pane
from ai_router.tui.panes.panes import Panes
from ai_router.tui.panes.screen import PaneScreen
from ai_router.tui.widgets.hanging import HangingText
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.text import count, harmless, one_line, plural, within
from batch.engines.local import memory

if TYPE_CHECKING:
    from ai_router.models import ModelSpec
    from ai_router.routing.evidence import Rates

MODELS, DETAILS = "models", "models-box"
PANES = (Pane(MODELS, "models", 90, 0, 24, tall=40), Pane(DETAILS, "details", 50, 1, 20, tall=60))
LABEL = 12  # cells
WIDTH = 8  # answers at once that the memory is reckoned for
_COMMAND = re.compile(r"pip install .+$")


class ModelsScreen(PaneScreen[None], ModelChanges):
    """A table, and what is known of the model under the cursor."""

    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bind(
        "models.ask",
        "models.test",
        "models.add",
        "models.pull",
        "models.default",
        "models.adapter",
        "models.remove",
        "models.edit",
        "models.copy",
        "models.refresh",
        "app.back",
        "app.up",
    )

    def __init__(self) -> None:
        super().__init__()
        self.crumbs = ("Models",)
        self._models: list[ModelSpec] = []
        self._rates: Rates | None = None  # what scored jobs have shown

    def compose_body(self) -> ComposeResult:
        """Table and details."""
        with Panes("models", PANES):
            table = VirtualTable(
                [
                    Column("", 1),
                    Column("Name", flex=3),
                    Column("Status", 11),
                    Column("Engine", 7),
                    Column("Size", 8, right=True),
                    Column("Context", 8, right=True),
                    Column("Parameters", 10, right=True, from_width=72),
                    Column("Weights", 7, from_width=82),
                    Column("Memory", 9, right=True, from_width=92),
                    Column("Lacks", flex=2, from_width=120),
                ],
                self._rows,
                empty="Looking for models…",
                id=MODELS,
                classes="panel",
            )
            table.border_title = "Models"
            yield table
            with VerticalScroll(id=DETAILS, classes="panel", can_focus=False) as box:
                box.border_title = "Details"
                yield HangingText(indent=LABEL, id="models-details")
        yield Static(id="models-work")

    def on_mount(self) -> None:
        """Read the registry in a thread."""
        self.query_one(VirtualTable).focus()
        self.services.models_changed.subscribe(self, lambda _: self._take())
        self.in_thread(
            lambda: self.services.registry, lambda _: self._take(), busy="looking for models", keys_wait=True
        )

    def _take(self) -> None:
        registry = self.services.registry
        at_hand = self.model_at_hand()
        self._models = registry.all()
        table = self.query_one(VirtualTable)
        table.set_count(len(self._models))
        for wanted in (self.wanted, at_hand.id if at_hand else ""):  # the cursor stays on its model
            at = next((at for at, spec in enumerate(self._models) if wanted and wanted in (spec.id, spec.place)), None)
            if at is not None:
                table.move_cursor(at)
                break
        self.wanted = ""
        ready = sum(spec.ready for spec in self._models)
        table.border_subtitle = Content(f"{ready} of {plural(len(self._models), 'model')} ready")
        self.context_text = home(registry.workspace.models_dir)
        self._show_details()
        self.in_thread(lambda: read_rates(registry), self._take_rates, group="rates")

    def _take_rates(self, rates: Rates) -> None:
        self._rates = rates
        self._show_details()

    def _rows(self, start: int, stop: int) -> list[Row]:
        workspace = self.services.workspace
        return [_row(spec, workspace.root, spec.goes_by(workspace.settings.model)) for spec in self._models[start:stop]]

    def model_at_hand(self) -> ModelSpec | None:
        """The model under the cursor."""
        cursor = self.query_one(VirtualTable).cursor
        return self._models[cursor] if 0 <= cursor < len(self._models) else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what the model under the cursor allows."""
        spec = self.model_at_hand() if self.is_mounted else None
        if action == "ask":
            return spec is not None and spec.ready
        if action == "default":
            return spec is not None and spec.id != self.services.workspace.settings.model
        if action in ("test", "adapter"):
            return spec is not None and spec.ready and not (action == "adapter" and spec.is_remote)
        if action == "remove":
            return spec is not None and spec.source == SOURCE
        if action == "copy":
            return spec is not None and bool(_COMMAND.search(spec.why))
        return True

    @on(VirtualTable.Highlighted)
    def _moved(self) -> None:
        self._show_details()

    def _show_details(self) -> None:
        spec = self.model_at_hand()
        skipped = self.services.registry.skipped
        content = _details(spec, spec.goes_by(self.services.workspace.settings.model)) if spec else Content("")
        if spec is not None and self._rates is not None and (lines := list(rate_lines(self._rates, spec.id))):
            shown = [Content.assemble((f"{name:<{LABEL}}", "$text-muted"), text) for name, text in lines]
            content = Content.assemble(
                content, "\n\n", ("shown by scored jobs", "bold"), "\n", Content("\n").join(shown)
            )
        if skipped:
            said = "\n".join(harmless(text) for text in skipped)
            content = Content.assemble(content, "\n\n", (f"✗ {said}", "$text-error"))
        self.query_one("#models-details", HangingText).update(content)
        self.refresh_bindings()

    @on(VirtualTable.Selected)
    def _selected(self) -> None:
        spec = self.model_at_hand()
        if spec is not None and spec.ready:
            self.action_ask()
        elif spec is not None:
            self.services.show_error(f"{spec.id} is not ready: {spec.why}")

    def action_ask(self) -> None:
        """Ask this model."""
        if (spec := self.model_at_hand()) is not None:
            self.services.go("ask", spec.id)

    def action_default(self) -> None:
        """Use this model when none is named, from now on and the next time."""
        from dataclasses import replace

        spec = self.model_at_hand()
        if spec is None:
            return
        app = self.services
        settings = replace(app.workspace.settings, model=spec.id)

        def save() -> None:
            from ai_router.settings import Workspace, save_settings

            save_settings(Workspace(app.workspace.root, settings))

        def saved(_: object) -> None:
            app.take_settings(settings)
            self.query_one(VirtualTable).refresh_rows()
            self._show_details()
            self.notify(f"{spec.id} is the model when none is named; kept in {app.workspace.config_file}", markup=False)

        self.in_thread(save, saved, group="save")

    def action_copy(self) -> None:
        """Copy the command that makes the model ready."""
        spec = self.model_at_hand()
        if spec is not None and (found := _COMMAND.search(spec.why)):
            copy_from(self, found.group)

    def action_refresh(self) -> None:
        """Look again."""
        self.services.refresh_registry()
        self.notify("Looking for models…", timeout=1)


def size_text(size: int | None) -> str:
    """`12.1 MB`."""
    if not size:
        return "—"
    if size < 1e6:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _row(spec: ModelSpec, root: Path, chosen: bool) -> Row:
    needed = _needed(spec)
    return (
        ("●" if chosen else "", "accent"),
        spec.id,
        ("✓ ready", "success") if spec.ready else ("✗ not ready", "error"),
        (spec.engine, "muted"),
        size_text(spec.size_bytes),
        count(spec.context) if spec.context else "—",
        spec.parameters_text,
        spec.quantisation or "—",
        (_unknown(spec) or size_text(needed), "" if not needed or needed < memory.available() else "warning"),
        ("" if spec.ready else within(spec.why, root), "error"),
    )


def _needed(spec: ModelSpec) -> int | None:
    """Bytes that it takes to run; None where its weights cannot be read."""
    return spec.memory(WIDTH) if spec.parameters else None


def _unknown(spec: ModelSpec) -> str:
    """The word for it where its weights can be read, and what it keeps of an answer is not reckoned; else ""."""
    return "unknown" if spec.parameters and _needed(spec) is None else ""


def _memory(spec: ModelSpec) -> str:
    """What it takes to run, some answers at once, and whether that is free now."""
    if not (needed := _needed(spec)):
        return _unknown(spec) or "—"
    free = memory.available()
    fits = "fits" if needed < free else f"✗ does not fit: {size_text(free)} are free"
    return f"{size_text(needed)} with {WIDTH} at once, {fits}"


def _details(spec: ModelSpec, chosen: bool) -> Content:
    rows = [
        ("name", one_line(spec.name) + ("   ● used when none is named" if chosen else ""), ""),
        ("id", one_line(spec.id), ""),
        *((("also", one_line(", ".join(spec.also)), ""),) if spec.also else ()),
        ("engine", spec.engine, ""),
        ("parameters", spec.parameters_text, ""),
        ("size", size_text(spec.size_bytes), ""),
        ("context", f"{count(spec.context)} tokens" if spec.context else "—", ""),
        *((("quantised", spec.quantisation, ""),) if spec.quantisation else ()),
        *((("licence", one_line(spec.license), ""),) if spec.license else ()),
        ("memory", _memory(spec), ""),
        ("from", spec.source, ""),
        (
            "ready",
            "✓ yes" if spec.ready else f"✗ {harmless(spec.why)}",
            "$text-success" if spec.ready else "$text-error",
        ),
    ]
    if spec.adapter is not None:
        rows.append(("adapter", home(spec.adapter), ""))
    if spec.notes:
        rows.append(("notes", one_line(spec.notes), ""))
    if spec.sampling:
        rows.append(("sampling", ", ".join(f"{key} {value}" for key, value in spec.sampling.items()), ""))
    rows.append(("folder", home(spec.place), "$text-muted"))
    return Content("\n").join(
        Content.assemble((f"{name:<{LABEL}}", "$text-muted"), (text, style)) for name, text, style in rows
    )
