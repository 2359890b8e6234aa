"""Writing results to a file: format, path, what to leave out, and then where it went."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Button, Input, Static

from ai_router.tui.dialogs import Dialog
from ai_router.tui.jobs.view import home
from ai_router.tui.widgets.button_row import ButtonRow
from ai_router.tui.widgets.choice import ChoiceLine
from ai_router.tui.widgets.text import count, harmless, plural
from batch.sources.paths import user_path

if TYPE_CHECKING:
    from batch.checkpoint.rows import Part
    from batch.job import BatchJob, BatchResult

PARTS = {"all results": "all", "answers": "done", "failures": "failed"}
REPORT_SECONDS = 0.2
MERGE = "table"  # beside the formats: no list of results, but the table that they belong to
ABOUT_MERGE = "the table that the prompts came from, answers as new columns; .parquet, .arrow, .csv, .tsv or .jsonl"


class ExportDialog(Dialog[Path]):
    """Answers with the file that was written, or None. Every format and option of `batch.export`."""

    CSS_PATH = "export.tcss"
    title_text = "Export"

    def __init__(self, path: Path, form: str = "json") -> None:
        super().__init__()
        self.path = path
        self._form = form  # to begin with
        self._job: BatchJob | None = None
        self._default = ""  # the path proposed last
        self._stop = threading.Event()
        self._written: Path | None = None
        self._writing = False

    def compose_dialog(self) -> ComposeResult:
        """The fields, the outcome, the buttons."""
        from batch.export import FORMATS

        with Horizontal(classes="export-line"):
            yield Static("format", classes="export-label")
            yield ChoiceLine((*FORMATS, MERGE), self._form, id="export-format")
        about = ABOUT_MERGE if self._form == MERGE else FORMATS[self._form].about
        yield Static(about, id="export-about", markup=False)
        with Horizontal(classes="export-line", id="export-part-line"):
            yield Static("what", classes="export-label")
            yield ChoiceLine(tuple(PARTS), "all results", id="export-part")
        with Horizontal(classes="export-line"):
            yield Static("file", classes="export-label")
            yield Input(id="export-path", compact=True)
        with Horizontal(classes="export-line", id="export-clip-line"):
            yield Static("clip", classes="export-label")
            yield Input(id="export-clip", compact=True, placeholder="whole texts", type="integer")
            yield Static("cut texts to so many characters", classes="export-help")
        with Horizontal(classes="export-line", id="export-inert-line"):
            yield Static("formulas", classes="export-label")
            yield ChoiceLine(("inert", "as they are"), "inert", id="export-inert")
            yield Static("inert: ' before cells like =1+1", classes="export-help")
        yield Static(id="export-said")
        with ButtonRow(id="dialog-buttons"):
            yield Button("Export", id="export-go", variant="primary", compact=True)
            yield Button("Copy path", id="export-copy", compact=True)
            yield Button("Close", id="export-close", compact=True)

    def on_mount(self) -> None:
        """Read the job."""
        self.query_one("#export-copy").display = False
        self._show_csv_options()
        self.query_one("#export-go").focus()
        self._background(self._read_job)

    def on_unmount(self) -> None:
        """A file that is half written goes with the dialog."""
        self._stop.set()

    # -- the job --------------------------------------------------------------------------------------------------

    def _background(self, work: object) -> None:
        self.run_worker(work, thread=True, exit_on_error=False)  # type: ignore[arg-type]

    def _say(self, text: str | Content) -> None:
        for said in self.query("#export-said").results(Static):
            said.update(text)

    def _read_job(self) -> None:
        from batch.checkpoint import CheckpointStore
        from batch.errors import BatchError

        try:
            path = self.path
            if path.suffix == ".json":  # an old checkpoint becomes a database first
                from ai_router import jobs

                job = jobs.open_job(self.services.workspace, str(path))
            else:
                with CheckpointStore(path) as store:
                    job = store.job()
        except (BatchError, OSError) as error:
            self.app.call_later(self._say, bad(str(error)))
            return
        self.app.call_later(self._have_job, job)

    def _have_job(self, job: BatchJob) -> None:
        if not self.alive:
            return
        assert job.checkpoint_file is not None
        self._job, self.path = job, job.checkpoint_file
        self._propose()
        left = job.total_prompts - job.processed
        text = f"{plural(job.processed, 'result')} of {plural(job.total_prompts, 'prompt')}"
        text += f"; {count(left)} still without one" if left else ""
        self._say(Content.styled(text, "$text-muted"))

    def _propose(self) -> None:
        """A path that hides no other file, unless one was typed."""
        from batch.export import default_output

        field = self.query_one("#export-path", Input)
        if self._job is None or field.value not in ("", self._default):
            return
        outputs = self.services.workspace.outputs
        path = merged_path(self._job, outputs) if self._merges else default_output(self._job, self._format, outputs)
        self._default = field.value = short(path)
        field.cursor_position = len(field.value)

    @property
    def _format(self) -> str:
        return self.query_one("#export-format", ChoiceLine).value

    @property
    def _merges(self) -> bool:
        return self._format == MERGE

    # -- fields ---------------------------------------------------------------------------------------------------

    @on(ChoiceLine.Changed, "#export-format")
    def _format_changed(self) -> None:
        from batch.export import FORMATS

        self.query_one("#export-about", Static).update(ABOUT_MERGE if self._merges else FORMATS[self._format].about)
        self._show_csv_options()
        self._propose()
        self._ready_again()

    def _show_csv_options(self) -> None:
        self.query_one("#export-part-line").display = not self._merges
        self.query_one("#export-clip-line").display = self._format == "csv"
        self.query_one("#export-inert-line").display = self._format in ("csv", MERGE)

    @on(Input.Changed)
    @on(ChoiceLine.Changed, "#export-part")
    def _field_changed(self) -> None:
        self._ready_again()

    def _ready_again(self) -> None:
        """Another file may be written; say where one would be replaced."""
        if self._writing:
            return
        button = self.query_one("#export-go", Button)
        button.display = True
        exists = bool(self.query_one("#export-path", Input).value.strip()) and self._target().is_file()
        button.label = "Replace" if exists else "Export"
        if exists:
            self._say(Content.styled("This file exists; it will be replaced.", "$text-warning"))

    def _target(self) -> Path:
        text = self.query_one("#export-path", Input).value.strip()
        path = user_path(text)
        return path if path.is_absolute() else Path.cwd() / path

    # -- writing --------------------------------------------------------------------------------------------------

    @on(Input.Submitted)
    @on(Button.Pressed, "#export-go")
    def action_export(self) -> None:
        """Write the file in a thread."""
        if self._job is None or self._writing:
            return
        if not self.query_one("#export-path", Input).value.strip():
            self._say(bad("Name a file to write"))
            return
        clip_text = self.query_one("#export-clip", Input).value.strip() if self._format == "csv" else ""
        if clip_text and (not clip_text.isdigit() or int(clip_text) < 1):
            self._say(bad("clip: a whole number above 0"))
            return
        self._writing = True
        self._say("Writing…")
        part = PARTS[self.query_one("#export-part", ChoiceLine).value]
        inert_csv = self.query_one("#export-inert", ChoiceLine).value == "inert"
        job, target, kind = self._job, self._target(), self._format
        clip = int(clip_text) if clip_text else None
        new = not target.exists()  # nobody was told that a file would be replaced
        self._background(lambda: self._write(job, target, kind, part, clip, inert_csv, new))

    def _write(
        self, job: BatchJob, target: Path, kind: str, part: str, clip: int | None, inert_csv: bool, new: bool
    ) -> None:
        from batch.checkpoint import CheckpointStore
        from batch.errors import BatchError
        from batch.export import export

        try:
            if kind == MERGE:
                rows = self._merge(job, target, inert_csv, new)
                said = f"the table with {plural(rows, 'answer')}, {size_of(target)}"
                self.app.call_later(self._wrote, target, said)
                return
            with CheckpointStore(self.path) as store:
                results = self._watched(store.iter_results(part=cast("Part", part)))
                fresh = store.job()
                rows = export(fresh, results, target, kind, clip=clip, inert_csv=inert_csv, new=new)
        except FileExistsError:
            self.app.call_later(
                self._wrote, None, f"{target.name} was made by somebody else meanwhile: choose another name"
            )
            return
        except (BatchError, OSError, ValueError) as error:
            self.app.call_later(self._wrote, None, str(error))
            return
        self.app.call_later(self._wrote, target, f"{plural(rows, 'result')}, {size_of(target)}")

    @staticmethod
    def _merge(job: BatchJob, target: Path, inert_csv: bool, new: bool) -> int:
        from batch.export.tables import merge_file

        if new and target.exists():
            raise FileExistsError
        return merge_file(job, target, inert_csv=inert_csv)

    def _watched(self, results: Iterable[BatchResult]) -> Iterator[BatchResult]:
        """Count what goes by, now and then on the screen; end with an error when the dialog is gone."""
        from batch.errors import ExportError

        said = time.monotonic()
        for number, result in enumerate(results):
            if self._stop.is_set():
                raise ExportError("The export was stopped; nothing was written")
            if time.monotonic() - said > REPORT_SECONDS:
                said = time.monotonic()
                self.app.call_later(self._say, f"Writing… {count(number)}")
            yield result

    def _wrote(self, target: Path | None, text: str) -> None:
        self._writing = False
        if not self.alive:
            return
        if target is None:
            self._say(bad(text))
            return
        self._written = target
        self._say(Content.assemble(("✓ ", "$text-success"), f"{text}\n", (harmless(str(target)), "bold")))
        self.query_one("#export-go").display = False
        self.query_one("#export-copy").display = True
        self.query_one("#export-close").focus()

    @on(Button.Pressed, "#export-copy")
    def action_copy_path(self) -> None:
        """Copy where it went."""
        from ai_router.tui import clipboard

        text, fallback = str(self._written), self.services.workspace.outputs / "copied.txt"

        def work() -> None:
            said = clipboard.copy(text, self.services.write_terminal, fallback)
            self.app.call_later(self.notify, said, markup=False)

        self._background(work)

    @on(Button.Pressed, "#export-close")
    def action_cancel(self) -> None:
        """Away."""
        self.dismiss(self._written)


def bad(text: str) -> Content:
    """What went wrong."""
    return Content.assemble(("✗ ", "$text-error"), (harmless(text), "$text-error"))


def short(path: Path) -> str:
    """As it would be typed from here."""
    try:
        return os.fspath(path.relative_to(Path.cwd()))
    except ValueError:
        return home(path)


def size_of(path: Path) -> str:
    """Of a file, in words."""
    size = float(path.stat().st_size)
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def merged_path(job: BatchJob, outputs: Path) -> Path:
    """Beside no other file: the name of the job's table, and what was done to it; Parquet where it has none."""
    from batch.errors import ExportError
    from batch.export.tables import table_format

    kept = job.config.get("table")
    table = Path(str(kept.get("path") or "")) if isinstance(kept, dict) else Path()
    stem, suffix = table.stem or f"batch_{job.job_id}", table.suffix
    try:
        table_format(table)
    except ExportError:
        suffix = ".parquet"
    number = 1
    while True:
        path = outputs / f"{stem}-answers{f'-{number}' if number > 1 else ''}{suffix}"
        if not path.exists():
            return path
        number += 1
