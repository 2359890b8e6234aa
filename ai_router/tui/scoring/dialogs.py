"""Questions about an evaluation: how to score, and with which run to compare."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Button, Input, Static

from ai_router.tui.dialogs import Dialog
from ai_router.tui.jobs.view import age, home
from ai_router.tui.scoring.comparison_data import Candidate, candidates
from ai_router.tui.scoring.data import PairSource
from ai_router.tui.widgets.button_row import ButtonRow
from ai_router.tui.widgets.form import OptionField, OptionForm
from ai_router.tui.widgets.path_input import PathInput, PathSuggester, resolve
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.text import count, harmless, one_line
from batch.errors import BatchError
from batch.options import OptionError

if TYPE_CHECKING:
    from batch.evaluation.options import EvaluationOptions
    from batch.evaluation.report import Report

ASKED = ("match", "task", "tokeniser", "normalise", "level")


class EvaluationOptionsDialog(Dialog["EvaluationOptions"]):
    """How predictions are scored; answers with the options, checked, or None."""

    CSS_PATH = "dialogs.tcss"
    title_text = "Score by"

    def __init__(self, options: EvaluationOptions) -> None:
        super().__init__()
        self._options = options
        self.form: OptionForm[EvaluationOptions] = OptionForm(type(options), options, only=ASKED)

    def compose_dialog(self) -> ComposeResult:
        """The options, what is said of them, the buttons."""
        yield self.form
        yield Static("", id="options-said", markup=False)
        with ButtonRow(id="dialog-buttons"):
            yield Button("Score", id="options-go", variant="primary", compact=True)
            yield Button("Cancel", id="options-cancel", compact=True)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """All there is to say of the option under the cursor."""
        field = next((a for a in event.widget.ancestors if isinstance(a, OptionField)), None)
        if field is not None:
            self._say(f"{field.option}: {field.full_help()}")

    def _say(self, text: str) -> None:
        self.query_one("#options-said", Static).update(text)

    @on(Input.Submitted)
    @on(Button.Pressed, "#options-go")
    def action_go(self) -> None:
        """Answer, if everything named is there."""
        from dataclasses import replace

        from batch.evaluation.normalise import Normalisation
        from batch.evaluation.tokens import find_tokeniser

        try:
            options = replace(self._options, **self.form.values())
            Normalisation.of(options.normalise)
            find_tokeniser(options.tokeniser)
        except (OptionError, BatchError, ValueError) as error:
            self._say(f"✗ {error}")
            return
        self.dismiss(options)

    @on(Button.Pressed, "#options-cancel")
    def _cancelled(self) -> None:
        self.dismiss(None)


class ChooseRunDialog(Dialog[Path]):
    """A run with known answers: a job of the workspace, or any results file. Answers with its path, or None.

    With `like`, another run than that one is asked for, over the same questions.
    """

    CSS_PATH = "dialogs.tcss"
    AUTO_FOCUS = "#choose-path"
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, like: PairSource | None = None) -> None:
        super().__init__()
        self.title_text = "Compare with" if like else "Score"
        self._like = like
        self._found: list[Candidate] = []

    def compose_dialog(self) -> ComposeResult:
        """Jobs, a path, the buttons."""
        columns = [
            Column("Status", 12),
            Column("Job", 8),
            Column("Examples", flex=2),
            Column("Model", flex=2),
            Column("Changed", 11, right=True),
        ]
        yield VirtualTable(columns, self._rows, empty="Looking for runs…", id="choose-runs")
        yield PathInput(
            placeholder="or a results file, JSONL: its path",
            id="choose-path",
            suggester=PathSuggester(lambda: [Path.cwd()], (".jsonl", ".ndjson", ".json", ".db")),
        )
        yield Static("", id="choose-said", markup=False)
        with ButtonRow(id="dialog-buttons"):
            yield Button("Cancel", id="choose-cancel", compact=True)

    def on_mount(self) -> None:
        """Look for runs in a thread."""
        folder, like = self.services.workspace.checkpoints, self._like

        def work() -> None:
            found = candidates(folder, like)
            self.app.call_later(self._take, found)

        self.run_worker(work, thread=True, exit_on_error=False)

    def _take(self, found: list[Candidate]) -> None:
        if not self.alive:
            return
        self._found = found
        table = self.query_one(VirtualTable)
        what = "another" if self._like else "a"
        table.empty = f"There is no job of {what} run with known answers.\n\nName a results file below."
        table.set_count(len(found))
        table.styles.height = len(found) + 1 if found else 4  # with its titles; without any, what to do
        table.refresh()
        if found:
            table.focus()

    def _rows(self, start: int, stop: int) -> list[Row]:
        from ai_router.tui.jobs.view import JobLine

        rows: list[Row] = []
        for candidate in self._found[start:stop]:
            line = JobLine(candidate.info)
            dim = "" if candidate.same_test or self._like is None else "muted"
            rows.append(
                (
                    line.status,
                    (candidate.info.job_id, "muted"),
                    (line.source, dim),
                    (one_line(candidate.about), dim),
                    (age(candidate.info.timestamp), "muted"),
                )
            )
        return rows

    @on(VirtualTable.Selected)
    def _selected(self, event: VirtualTable.Selected) -> None:
        self.dismiss(self._found[event.index].info.file)

    @on(Input.Submitted)
    def _named(self, event: Input.Submitted) -> None:
        if not event.value.strip():
            return
        path = resolve(event.value, [Path.cwd(), self.services.workspace.outputs])
        said = self.query_one("#choose-said", Static)
        if path.is_dir():
            said.update(f"✗ {harmless(home(path))} is a folder; name a file in it")
        elif not os.access(path, os.R_OK):
            said.update(f"✗ There is no file {harmless(home(path))} that can be read")
        else:
            self.dismiss(path)

    @on(Button.Pressed)
    def _cancelled(self) -> None:
        self.dismiss(None)


def about_text(report: Report) -> str:
    """How it was measured, what is missing, what was left out."""
    from batch.evaluation.forms import words

    lines = [words.summary(report), ""]
    lines += [f"{name}: {value}" for name, value in words.settings(report)]
    lines += ["", *report.notes] if report.notes else []
    if report.skipped:
        lines += ["", f"{count(report.skipped)} lines of the file are no rows; the first:"]
        lines += [f"line {problem.line}: {problem.message}" for problem in report.problems[:10]]
    return "\n".join(lines)
