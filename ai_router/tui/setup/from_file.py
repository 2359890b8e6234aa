"""Prompts from a file: find it, see what is in it, and what is wrong with it, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.timer import Timer
from textual.widgets import Button, Input, Static

from ai_router.recent import note_file
from ai_router.templates import first_prompts, open_with
from ai_router.tui.actions import bind
from ai_router.tui.base import SLIM_STEPS
from ai_router.tui.jobs.view import home
from ai_router.tui.setup.flow import FlowScreen
from ai_router.tui.setup.source_view import Pieces, PreviewPanel, ValidationView
from ai_router.tui.setup.table_columns import ask_for_column
from ai_router.tui.widgets.button_row import ButtonRow
from ai_router.tui.widgets.choice import ChoiceLine
from ai_router.tui.widgets.file_tree import FileTree, size_text
from ai_router.tui.widgets.path_input import PathInput, PathSuggester, resolve
from batch.datasets.source import DatasetSource, looks_like_dataset, open_dataset
from batch.errors import BatchError
from batch.sources import FILE_ENDINGS, Entry, Source, Validation, validate

TYPING_SECONDS = 0.3  # after the last key before a typed path is looked at
FRAME_SECONDS = 0.15
PREVIEW = 100
WITH_COLUMN = ("csv", "tsv", "json", "jsonl", "parquet", "arrow")
SCORED, UNSCORED = "score with them", "ignore"
EMPTY = "Choose a file in the tree, or type its path."


class _Stale(Exception):
    """Another file was chosen while this one was being checked."""


class FromFileScreen(FlowScreen):
    """A tree and a typed path; the first prompts; the report. Goes on only with a source that can run."""

    CSS_PATH = "from_file.tcss"
    HORIZONTAL_BREAKPOINTS = SLIM_STEPS
    AUTO_FOCUS = "#path"
    BINDINGS: ClassVar[list[BindingType]] = bind("file.next", "file.invalid", "file.columns")

    def __init__(self, path: str = "") -> None:
        super().__init__()
        self.set_reactive(FlowScreen.crumbs, ("Batch", "From file"))
        self.path_text = path
        self.source: Source | None = None
        self.report: Validation | None = None
        self.checking = False
        self.skip_invalid = False
        self._number = 0  # of the latest check; an older one sees that and ends
        self._read = 0
        self._submitted = False  # go on to the buttons when the check is done
        self._looked_at: tuple[str, str, bool, bool] | None = None
        self._timer: Timer | None = None

    @property
    def bases(self) -> Sequence[Path]:
        """Where relative paths are looked for."""
        return (Path.cwd(), self.services.workspace.root, examples_folder(self.services.workspace.root).parent)

    def compose_body(self) -> ComposeResult:
        """Path on top, tree beside report and preview, buttons below."""
        with Horizontal(id="path-line", classes="panel") as line:
            line.border_title = "Prompts file"
            yield PathInput(
                self.path_text,
                select_on_focus=False,
                placeholder="path of a .txt, .jsonl, .csv or .parquet file; tab completes, ↓: the tree",
                suggester=PathSuggester(lambda: self.bases, FILE_ENDINGS),
                id="path",
            )
        with Horizontal(id="middle"):
            tree = FileTree(self._roots(), id="tree")
            tree.add_class("panel")
            tree.border_title = "Files"
            yield tree
            with Vertical(id="right"):
                with VerticalScroll(id="report-box", classes="panel", can_focus=False) as box:
                    box.border_title = "Check"
                    yield ValidationView(id="report")
                with Horizontal(id="column-line"):
                    yield Static("column or template", classes="muted")
                    yield Input(placeholder="prompt, or Is {{ title }} good?, or a .j2 file", id="column")
                with Horizontal(id="answers-line"):
                    yield Static("known answers", classes="muted")
                    yield ChoiceLine((SCORED, UNSCORED), id="answers")
                yield PreviewPanel(id="preview")
        with ButtonRow(id="buttons"):
            yield Button("Continue", id="continue", variant="primary", disabled=True)
            yield Button("Leave out invalid ones", id="invalid")

    def _roots(self) -> list[tuple[str, Path]]:
        root, here = self.services.workspace.root, Path.cwd()
        examples = examples_folder(root)
        roots = [(home(here), here)]
        if root != here and root.is_dir():
            roots.append((f"workspace  {home(root)}", root))
        if examples.is_dir() and examples.parent not in (here, root):
            roots.append(("examples", examples))
        if Path.home() not in (here, root):
            roots.append(("~", Path.home()))
        return roots

    def on_mount(self) -> None:
        """Look at a path that was given."""
        self.set_interval(FRAME_SECONDS, self._frame)
        self.query_one("#report", ValidationView).show_text(EMPTY)
        self._show_buttons()
        if self.path_text:
            self.look()

    # -- which file -----------------------------------------------------------------------------------------------

    @on(FileTree.Highlighted)
    def _file_highlighted(self, event: FileTree.Highlighted) -> None:
        self._take_path(event.path, submitted=type(event) is FileTree.Chosen)

    @on(FileTree.Chosen)
    def _file_chosen(self, event: FileTree.Chosen) -> None:
        self._take_path(event.path, submitted=True)

    @on(FileTree.Typed)
    def _path_typed(self, event: FileTree.Typed) -> None:
        field = self.query_one("#path", PathInput)
        if not field.has_focus:
            self.set_focus(field)
            field.clear()
        field.insert_text_at_cursor(event.character)

    def _take_path(self, path: Path, *, submitted: bool) -> None:
        text = str(path)
        for base in self.bases:
            if path.is_relative_to(base):
                text = str(path.relative_to(base))
                break
        field = self.query_one(PathInput)
        with field.prevent(Input.Changed):
            field.value = text
        self.path_text = text
        self.skip_invalid = False
        self._submitted = submitted
        self._look_soon(0.0 if submitted else 0.12)

    @on(Input.Changed, "#path")
    def _typed(self, event: Input.Changed) -> None:
        self.path_text = event.value
        self.skip_invalid = False
        self._submitted = False
        self._look_soon(TYPING_SECONDS)

    @on(Input.Changed, "#column")
    def _column_typed(self) -> None:
        self._look_soon(TYPING_SECONDS)

    @on(ChoiceLine.Changed, "#answers")
    def _scoring_chosen(self) -> None:
        self.look()

    @on(Input.Submitted)
    def _entered(self) -> None:
        folder = resolve(self.path_text, self.bases) if self.path_text.strip() else None
        if folder is not None and folder.is_dir():
            self.query_one(FileTree).show_folder(folder)
            return
        self._submitted = True
        self.look()

    def _look_soon(self, delay: float) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._number += 1  # what is being checked is not wanted any more
        self._timer = self.set_timer(delay, self.look) if delay else None
        if not delay:
            self.look()

    # -- what is in it --------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Open, preview and check the path in a thread; a newer call makes an older one end."""
        if self._timer is not None:
            self._timer.stop()
        column = self.query_one("#column", Input).value.strip()
        scored = self.query_one("#answers", ChoiceLine).value == SCORED
        wanted = (self.path_text, column, self.skip_invalid, scored)
        if wanted == self._looked_at and self.report is not None:
            self._checked()
            return
        self._looked_at = wanted
        self._number += 1
        number, self._read = self._number, 0
        self.source, self.report, self.checking = None, None, bool(self.path_text.strip())
        report_view = self.query_one("#report", ValidationView)
        if not self.checking:
            report_view.show_text(EMPTY)
            self.query_one(PreviewPanel).show(())
            self._show_buttons()
            return
        path, text, skip = resolve(self.path_text, self.bases), self.path_text, self.skip_invalid
        self._show_buttons()

        def progress(read: int) -> None:
            if number != self._number:
                raise _Stale
            self._read = read

        def work() -> None:
            try:
                known = not column and looks_like_dataset(path)
                self.deliver(lambda: self._take_known(number, known))
                if known and scored:
                    source: Source = open_dataset(path)
                else:
                    source = open_with(path, column, self.bases, skip_invalid=skip)
                source.name = text
                self._first_entries(source, number)
                report = validate(source, progress=progress)
            except _Stale:
                return
            except (BatchError, OSError) as error:
                problem = str(error).replace(str(path), text)
                self.deliver(lambda: self._take_problem(number, problem))
            else:
                self.deliver(lambda: self._take_report(number, source, report))

        self.run_worker(work, thread=True, group="check", exit_on_error=False)

    def _first_entries(self, source: Source, number: int) -> None:
        entries: list[Entry] = []
        marked: Sequence[Pieces] = ()
        try:
            entries = list(islice(source.entries(), PREVIEW))
            marked = first_prompts(source, PREVIEW)
        except BatchError:
            return  # the check will say it better
        finally:
            self.deliver(lambda: self._take_preview(number, source, entries, marked))

    def _take_known(self, number: int, known: bool) -> None:
        """Offer to score the answers where the file holds those that are right."""
        if number == self._number:
            self.query_one("#answers-line").set_class(known, "-shown")

    def _take_preview(self, number: int, source: Source, entries: Sequence[Entry], marked: Sequence[Pieces]) -> None:
        if number == self._number:
            preview = self.query_one(PreviewPanel)
            preview.show(entries, marked=marked)
            title = "First prompts" if len(entries) >= PREVIEW else "Prompts"
            preview.set_title(title, f"{source.format} · {size_text(source.bytes)}")
            with_column = source.format in WITH_COLUMN and not isinstance(source, DatasetSource)
            self.query_one("#column-line").set_class(with_column, "-shown")
            self.refresh_bindings()

    def _take_problem(self, number: int, problem: str) -> None:
        if number != self._number:
            return
        self.checking = False
        view = self.query_one("#report", ValidationView)
        folder = resolve(self.path_text, self.bases).is_dir()
        if folder and not self._submitted:
            view.show_text("A folder: choose a file in it, or press enter to see it in the tree.")
        elif self._submitted or "not found" not in problem:
            view.show_problem(problem)
        else:
            view.show_text(problem)
        if self._submitted:
            self._ask_column([problem])
        self.query_one(PreviewPanel).show(())
        self._show_buttons()

    def _take_report(self, number: int, source: Source, report: Validation) -> None:
        if number != self._number:
            return
        self.checking = False
        self.source, self.report = source, report
        self._checked()

    def _checked(self) -> None:
        assert self.report is not None
        odd = self.source is not None and self.source.format == "txt" and self._odd_ending
        note = (
            f"! {self._odd_ending} is no kind of file that is known here: each line is taken for a prompt"
            if odd
            else ""
        )
        self.query_one("#report", ValidationView).show_report(self.report, note)
        self._show_buttons()
        if self._submitted:
            self._submitted = False
            target = "#continue" if self.report.ok else "#invalid"
            button = self.query_one(target, Button)
            if button.display and not button.disabled:
                button.focus()
            else:
                self._ask_column([found.text for found in self.report.problems])

    def _ask_column(self, problems: Sequence[str]) -> None:
        """Go to the column's field where naming another one is the only way on."""
        if any("there is no column" in text for text in problems):
            self.query_one("#column-line").add_class("-shown")
            self.query_one("#column", Input).focus()

    @property
    def _odd_ending(self) -> str:
        """The ending of the path where it says nothing of what is in the file, else nothing."""
        name = self.path_text.strip().lower()
        return "" if name.endswith(FILE_ENDINGS) else Path(name).suffix

    def _frame(self) -> None:
        if self.checking:
            self.query_one("#report", ValidationView).show_checking(self._read)

    def _show_buttons(self) -> None:
        self.query_one("#continue", Button).disabled = not (self.report and self.report.ok and self.source)
        button = self.query_one("#invalid", Button)
        button.display = self.skip_invalid or self.can_skip
        button.label = "Keep invalid ones" if self.skip_invalid else "Leave out invalid ones"
        self.refresh_bindings()

    @property
    def can_skip(self) -> bool:
        """Whether leaving out invalid entries would make the source fit to run."""
        report = self.report
        if report is None or report.ok or not report.total - (0 if report.skip_invalid else report.empty):
            return False
        return all(p.code in ("malformed", "empty") for p in report.problems if p.severity == "error")

    # -- onward ---------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what can be done with this file is offered."""
        if action == "toggle_invalid":
            return self.skip_invalid or self.can_skip
        if action == "proceed":
            return bool(self.report and self.report.ok)
        if action == "columns":
            return self.is_mounted and self.query_one("#column-line").has_class("-shown")
        return True

    @on(Button.Pressed, "#invalid")
    def action_toggle_invalid(self) -> None:
        """Run without the entries that cannot be prompts, or take that back."""
        self.skip_invalid = not self.skip_invalid
        self._submitted = True
        self.look()

    def action_columns(self) -> None:
        """Choose the column of the prompts, or several for a template."""
        field = self.query_one("#column", Input)

        def take(said: str) -> None:
            field.value = said
            field.focus()

        ask_for_column(self, resolve(self.path_text, self.bases), field.value, take)

    @on(Button.Pressed, "#continue")
    def action_proceed(self) -> None:
        """To the choice of a model."""
        if self.source is None or self.report is None or not self.report.ok:
            return
        from ai_router.tui.setup.choose_model import ChooseModelScreen

        if self.source.path is not None:
            note_file(self.services.workspace, self.source.path)
        self.app.push_screen(ChooseModelScreen(self.source, self.report.total))

    def on_unmount(self) -> None:
        """End a check that is under way."""
        self._number += 1


def examples_folder(root: Path) -> Path:
    """The examples of the workspace, or those of a checkout that this program runs from."""
    import ai_router

    own = root / "examples"
    return own if own.is_dir() else Path(ai_router.__file__).parents[1] / "examples"
