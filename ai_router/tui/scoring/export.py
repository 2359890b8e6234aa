"""Writing the report of an evaluation: as JSON, Markdown or one HTML file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Button, Input, Static

from ai_router.tui.dialogs import Dialog
from ai_router.tui.results.export import bad, short, size_of
from ai_router.tui.widgets.button_row import ButtonRow
from ai_router.tui.widgets.choice import ChoiceLine
from ai_router.tui.widgets.text import harmless

if TYPE_CHECKING:
    from batch.evaluation.report import Comparison, Report

FORMATS = {
    "html": (".html", "one page with plots and the rows that are wrong"),
    "markdown": (".md", "tables and some rows of each kind"),
    "json": (".json", "every figure, for programs"),
}


class ReportDialog(Dialog[Path]):
    """Answers with the file that was written, or None. `kept` are files that are never written over."""

    CSS_PATH = "export.tcss"
    title_text = "Report"

    def __init__(self, report: Report, comparison: Comparison | None, name: str, kept: Sequence[Path]) -> None:
        super().__init__()
        self._report, self._comparison, self._name, self._kept = report, comparison, name, kept
        self._default = ""
        self._written: Path | None = None
        self._writing = False

    def compose_dialog(self) -> ComposeResult:
        """Format, file, the outcome, the buttons."""
        with Horizontal(classes="export-line"):
            yield Static("format", classes="export-label")
            yield ChoiceLine(tuple(FORMATS), "html", id="export-format")
        yield Static(FORMATS["html"][1], id="export-about", markup=False)
        with Horizontal(classes="export-line"):
            yield Static("file", classes="export-label")
            yield Input(id="export-path", compact=True)
        yield Static(id="export-said")
        with ButtonRow(id="dialog-buttons"):
            yield Button("Write", id="export-go", variant="primary", compact=True)
            yield Button("Close", id="export-close", compact=True)

    def on_mount(self) -> None:
        """Propose a file."""
        self._propose()
        self.query_one("#export-go").focus()

    @property
    def _format(self) -> str:
        return self.query_one("#export-format", ChoiceLine).value

    def _propose(self) -> None:
        """A path that hides no other file, unless one was typed."""
        field = self.query_one("#export-path", Input)
        if field.value not in ("", self._default):
            return
        suffix = FORMATS[self._format][0]
        folder, stem = self.services.workspace.outputs, f"{self._name}_{'comparison' if self._comparison else 'scores'}"
        path, number = folder / f"{stem}{suffix}", 1
        while path.exists():
            number += 1
            path = folder / f"{stem}-{number}{suffix}"
        self._default = field.value = short(path)
        field.cursor_position = len(field.value)

    @on(ChoiceLine.Changed, "#export-format")
    def _format_changed(self) -> None:
        self.query_one("#export-about", Static).update(FORMATS[self._format][1])
        self._propose()

    @on(Input.Changed)
    def _field_changed(self) -> None:
        if self._writing:
            return
        exists = bool(self.query_one("#export-path", Input).value.strip()) and self._target().is_file()
        button = self.query_one("#export-go", Button)
        button.display = True
        button.label = "Replace" if exists else "Write"
        self._say(Content.styled("This file exists; it will be replaced.", "$text-warning") if exists else "")

    def _target(self) -> Path:
        path = Path(os.path.expanduser(self.query_one("#export-path", Input).value.strip()))
        return path if path.is_absolute() else Path.cwd() / path

    def _say(self, text: str | Content) -> None:
        for said in self.query("#export-said").results(Static):
            said.update(text)

    @on(Input.Submitted)
    @on(Button.Pressed, "#export-go")
    def action_export(self) -> None:
        """Write the file in a thread."""
        if self._writing:
            return
        if not self.query_one("#export-path", Input).value.strip():
            self._say(bad("Name a file to write"))
            return
        self._writing = True
        self._say("Writing…")
        target, form = self._target(), self._format
        self.run_worker(lambda: self._write(target, form), thread=True, exit_on_error=False)

    def _write(self, target: Path, form: str) -> None:
        from batch.errors import BatchError
        from batch.evaluation.forms import document, html, markdown
        from batch.export import atomic_file
        from batch.export.atomic import check_target, explained

        try:
            if form == "html":
                data = html(self._report, self._comparison).encode("utf-8", "replace")
            elif form == "markdown":
                data = markdown(self._report, self._comparison).encode("utf-8", "replace")
            else:
                text = json.dumps(document(self._report, self._comparison), indent=2, ensure_ascii=False)
                data = (text + "\n").encode("utf-8", "replace")
            with explained(target):
                check_target(target, self._kept)
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(target, forbidden=self._kept) as file:
                file.write(data)
        except (BatchError, OSError, ValueError, TypeError) as error:
            self.app.call_later(self._wrote, None, str(error))
            return
        self.app.call_later(self._wrote, target, size_of(target))

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
        self.query_one("#export-close").focus()

    @on(Button.Pressed, "#export-close")
    def action_cancel(self) -> None:
        """Away."""
        self.dismiss(self._written)
