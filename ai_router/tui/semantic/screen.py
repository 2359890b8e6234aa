"""Semantic IDs: which models, from where, what each will do; then a job a model."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Button, Input, Static

from ai_router.memory import Memory, MemoryFileError
from ai_router.tui.actions import bind
from ai_router.tui.jobs.view import home
from ai_router.tui.semantic import remembering
from ai_router.tui.setup.flow import FlowScreen
from ai_router.tui.widgets.choice import ChoiceLine
from ai_router.tui.widgets.form import OptionField, OptionForm
from ai_router.tui.widgets.path_input import PathInput, PathSuggester, resolve
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.text import count, one_line, plural
from batch.errors import BatchError
from batch.options import OptionError, options_dict
from batch.semantic_ids.choose import available_models
from batch.semantic_ids.hub import FolderHub, Hub, UnreachableError, open_hub
from batch.semantic_ids.parser import ModelConfigParser
from batch.semantic_ids.task import CodebookOptions, Task, prepare

if TYPE_CHECKING:
    from batch.job import BatchJob

GROUPS = ("all", "NYC", "TKY")
TYPING_SECONDS = 0.4  # after the last key before a folder is looked at
EMPTY = (
    "No models here.\n\n"
    "A folder holds them as models/NAME/rqvae_best.pt,\nand their datasets as datasets/NYC and datasets/TKY."
)
LOOKING = "Looking…"


@dataclass(slots=True)
class Entry:
    """A model of the list. `task` is there once its files are found and checked, `problem` where they are not."""

    model: str
    name: str
    dataset: str  # "" where the name does not say
    task: Task | None = None
    problem: str = ""
    chosen: bool = True

    @property
    def ready(self) -> bool:
        """Whether it may be chosen."""
        return not self.problem


def look(place: Path | None) -> tuple[Hub, list[Entry]]:
    """The models of a folder, each checked; those of the hub as they are, as a check would fetch them."""
    hub = open_hub(place)
    entries = []
    for model in available_models(hub):
        entry = Entry(model, model.rsplit("/", 1)[-1], "")
        try:
            entry.dataset = ModelConfigParser.parse(model).dataset_name
            if isinstance(hub, FolderHub):
                entry.task = prepare(model, hub)
        except BatchError as error:
            entry.problem, entry.chosen = str(error), False
        entries.append(entry)
    return hub, entries


class SemanticIdsScreen(FlowScreen):
    """A folder or the hub above, its models in a table, what is made of them below."""

    CSS_PATH = "screen.tcss"
    AUTO_FOCUS = "PathInput"
    BINDINGS: ClassVar[list[BindingType]] = bind("semantic.start", "semantic.mark", "semantic.why")

    def __init__(self, place: Path | None = None) -> None:
        super().__init__()
        self.set_reactive(FlowScreen.crumbs, ("Semantic IDs",))
        self.entries: list[Entry] = []
        self.busy = ""
        self._left = threading.Event()  # for the thread that fetches
        self._place = place
        self._hub: Hub | None = None
        self._typing: Timer | None = None
        self.form: OptionForm[CodebookOptions] = OptionForm(CodebookOptions, id="codebooks")

    @property
    def bases(self) -> tuple[Path, ...]:
        """Where relative paths are looked for."""
        return (Path.cwd(), self.services.workspace.root)

    def compose_body(self) -> ComposeResult:
        """Place, group, models, options, start; place and options as they were last time."""
        place = remembering.recall(self._memory, self.form)
        self._typed_place = str(self._place or place)
        with Horizontal(id="place-line", classes="panel") as line:
            line.border_title = "Models and datasets from"
            yield PathInput(
                self._typed_place,
                select_on_focus=False,
                placeholder="a folder; empty: the Hugging Face Hub",
                suggester=PathSuggester(lambda: self.bases),
                id="place",
            )
        with Horizontal(id="group-line"):
            yield Static("models", id="group-label")
            yield ChoiceLine(GROUPS, "all", id="group")
        table = VirtualTable(
            [
                Column("", 1),
                Column("Status", 12),
                Column("Model", flex=3),
                Column("Dataset", 15, from_width=110),
                Column("Items", 9, right=True),
                Column("What it does", flex=3, from_width=100),
            ],
            self._rows,
            empty=LOOKING,
            id="semantic-models",
            classes="panel",
        )
        table.border_title = "Models"
        yield table
        yield Static("", id="does", markup=False)
        with VerticalScroll(id="codebooks-box", classes="panel", can_focus=False) as box:
            box.border_title = "Codebooks"
            yield self.form
        with Horizontal(id="buttons"):
            yield Static("", id="busy", markup=False)
            yield Button("Start", id="start", variant="primary", disabled=True)

    def on_mount(self) -> None:
        """Look at what there is."""
        self._look()

    def on_unmount(self) -> None:
        """Keep what was chosen."""
        try:
            remembering.keep(self._memory, self._typed_place, self.form)
        except MemoryFileError as error:
            self.services.show_error(error)

    @property
    def _memory(self) -> Memory:
        return Memory(self.services.workspace.checkpoints)

    _typed_place = ""

    # -- what there is --------------------------------------------------------------------------------------------

    @on(Input.Changed, "#place")
    def _typed(self, event: Input.Changed) -> None:
        self._typed_place = event.value.strip()
        self._forget()
        if self._typing is not None:
            self._typing.stop()
        self._typing = self.set_timer(TYPING_SECONDS, self._look)

    @on(Input.Submitted, "#place")
    def _entered(self) -> None:
        self._look()
        self.query_one(VirtualTable).focus()

    def _forget(self) -> None:
        """Another place is meant: what was found at the one before can no longer be started."""
        self._hub, self.entries, self.context_text = None, [], ""
        self.query_one(VirtualTable).empty = LOOKING
        self._show()

    def _look(self) -> None:
        if self._typing is not None:
            self._typing.stop()
            self._typing = None
        text = self.query_one("#place", PathInput).value.strip()
        place = resolve(text, self.bases) if text else None
        self.in_thread(lambda: look(place), self._found, busy="checking models", group="look", failed=self._not_found)

    def _found(self, found: tuple[Hub, list[Entry]]) -> None:
        self._hub, self.entries = found
        self.context_text = home(Path(self._hub.name)) if isinstance(self._hub, FolderHub) else self._hub.name
        self.query_one(VirtualTable).empty = EMPTY
        self._choose_group()

    def _not_found(self, error: Exception) -> None:
        self._hub, self.entries = None, []
        table = self.query_one(VirtualTable)
        table.empty = f"{error}"
        self.context_text = ""
        self._show()

    # -- which of them --------------------------------------------------------------------------------------------

    @on(ChoiceLine.Changed, "#group")
    def _choose_group(self) -> None:
        group = self.query_one("#group", ChoiceLine).value
        for entry in self.entries:
            entry.chosen = entry.ready and (group == "all" or entry.dataset.startswith(group))
        self._show()

    def _show(self) -> None:
        table = self.query_one(VirtualTable)
        table.set_count(len(self.entries))
        chosen = self.chosen
        table.border_subtitle = Content(f"{len(chosen)} of {len(self.entries)} chosen" if self.entries else "")
        if not self.busy:
            items = sum(entry.task.rows for entry in chosen if entry.task)
            text = plural(len(chosen), "model") + (f", {plural(items, 'item')}" if items else "")
            text += "; f2 starts" if chosen else ""
            self.query_one("#busy", Static).update(self.busy or text)
        self._say_what()
        self.query_one("#start", Button).disabled = not chosen or bool(self.busy) or bool(self.form.errors)
        self.refresh_bindings()

    def _say_what(self) -> None:
        """What the model under the cursor does, whole, as the table may cut it."""
        entry = self.at_hand
        said = self.query_one("#does", Static)
        said.set_class(entry is not None and not entry.ready, "error")
        said.update(one_line(what_it_does(entry, self._parquet) if entry else ""))

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """All there is to say of the option under the cursor, which the form may cut too."""
        field = next((node for node in event.widget.ancestors if isinstance(node, OptionField)), None)
        if field is None:
            self._say_what()
        else:
            said = self.query_one("#does", Static)
            said.remove_class("error")
            said.update(one_line(f"{field.option.replace('_', ' ')}: {field.spec.metadata.get('help', '')}"))

    @property
    def _parquet(self) -> bool:
        return bool(self.form.fields["parquet"].value)

    @property
    def chosen(self) -> list[Entry]:
        """The models that will be run."""
        return [entry for entry in self.entries if entry.chosen]

    @property
    def at_hand(self) -> Entry | None:
        """The model under the cursor."""
        cursor = self.query_one(VirtualTable).cursor
        return self.entries[cursor] if 0 <= cursor < len(self.entries) else None

    def _rows(self, start: int, stop: int) -> list[Row]:
        return [_row(entry, self._parquet) for entry in self.entries[start:stop]]

    @on(OptionField.Changed)
    def _option_changed(self) -> None:
        self.query_one(VirtualTable).refresh_rows()
        self._show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what there is something for."""
        if not self.is_mounted:
            return True
        if action == "start":
            return bool(self.chosen) and not self.busy
        if action in ("mark", "why"):
            entry = self.at_hand
            on_table = isinstance(self.focused, VirtualTable) and entry is not None and not self.busy
            return on_table and (entry.ready if action == "mark" else not entry.ready) if entry else False
        return True

    @on(VirtualTable.Highlighted)
    def _moved(self) -> None:
        self._say_what()
        self.refresh_bindings()

    @on(VirtualTable.Selected)
    def _selected(self) -> None:
        entry = self.at_hand
        if entry is not None and not entry.ready:
            self.action_why()
        else:
            self.action_mark()

    def action_mark(self) -> None:
        """Choose the model under the cursor, or leave it out."""
        entry = self.at_hand
        if entry is not None and entry.ready and not self.busy:
            entry.chosen = not entry.chosen
            self._show()

    def action_why(self) -> None:
        """Say what is wrong with the model under the cursor."""
        if (entry := self.at_hand) is not None and entry.problem:
            self.services.show_error(entry.problem)

    # -- onward ---------------------------------------------------------------------------------------------------

    @on(Button.Pressed, "#start")
    def action_start(self) -> None:
        """Fetch what is not here yet and write the jobs, in a thread; then run them, one after the other."""
        hub = self._hub
        if self.busy or hub is None or not self.chosen:
            return
        try:
            options = self.form.build()
        except OptionError as error:
            self.services.show_error(error)
            self.form.focus_error()
            return
        from ai_router import semantic_jobs
        from ai_router.kinds.semantic_ids import KIND

        if problem := KIND.why_not_ready({"options": options_dict(options)}):
            self.services.show_error(f"Encoding semantic IDs {problem}")
            return
        chosen, workspace = self.chosen, self.services.workspace

        def work() -> tuple[list[BatchJob], list[str]]:
            made: list[BatchJob] = []
            problems: list[str] = []
            for number, entry in enumerate(chosen, 1):
                if self._left.is_set():
                    break
                text = f"fetching {number}/{len(chosen)} {entry.name}"
                self._deliver(partial(self._set_busy, text))
                try:
                    task = entry.task or prepare(entry.model, hub, options)
                    if self._left.is_set():
                        break
                    made.append(semantic_jobs.create_job(workspace, replace(task, options=options)))
                except (BatchError, OSError) as error:
                    problems.append(f"{entry.name}: {error}")
                    if isinstance(error, UnreachableError):
                        break
            return made, problems

        self._set_busy("making jobs")
        self.in_thread(work, self._made, group="start", failed=self._failed)

    def _made(self, made: tuple[list[BatchJob], list[str]]) -> None:
        jobs, problems = made
        for problem in problems:
            self.services.show_error(problem)
        self._set_busy("")
        if not jobs:
            return
        services = self.services
        self._set_busy("starting")
        self.in_thread(lambda: services.turns.start(jobs), lambda _: self._started(jobs[0]), group="start",
                       failed=self._failed)  # fmt: skip

    def _started(self, job: BatchJob) -> None:
        assert job.checkpoint_file is not None
        self._set_busy("")
        self.enter_run(self.services.turns.latest(job.checkpoint_file))

    def _failed(self, error: Exception) -> None:
        self._set_busy("")
        self.services.show_error(error)

    def _set_busy(self, what: str) -> None:
        self.busy = what
        self.query_one("#codebooks-box").disabled = bool(what)
        if what:
            self.query_one("#busy", Static).update(f"{what}…")
        self._show()

    def action_back(self) -> None:
        """Out of here; what is being fetched is left, and no further job is made."""
        self._left.set()
        super().action_back()


def what_it_does(entry: Entry, parquet: bool) -> str:
    """What a run of this model will do, or why it cannot run."""
    if entry.problem:
        return entry.problem
    files = f"codebooks-{entry.name}.csv" + (" and .parquet" if parquet else "")
    if entry.task is None:
        return f"fetches {entry.dataset} and the model, writes {files}"
    return f"{plural(entry.task.rows, 'row')} in {plural(entry.task.blocks, 'block')}, writes {files}"


def _row(entry: Entry, parquet: bool) -> Row:
    mark = ("●", "accent") if entry.chosen else ("○", "muted") if entry.ready else ("", "")
    status = (
        ("✗ not ready", "error") if entry.problem else ("✓ ready", "success") if entry.task else ("↓ on the hub", "")
    )
    return (
        mark,
        status,
        (entry.name, "muted" if entry.problem else ""),
        (entry.dataset or "—", "muted"),
        count(entry.task.rows) if entry.task else "—",
        (what_it_does(entry, parquet), "error" if entry.problem else "muted"),
    )
