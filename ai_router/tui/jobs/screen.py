"""All jobs of the workspace: find one, read it, go on with it, delete it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Input

from ai_router.kinds import kind_of
from ai_router.kinds.base import SCORE
from ai_router.tui.actions import bind
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.jobs.answers import JobAnswers
from ai_router.tui.jobs.details import LABEL, job_details
from ai_router.tui.jobs.keeping import KeepingJobs
from ai_router.tui.jobs.view import NOT_READ, JobLine, JobsView, home, read_jobs
from ai_router.tui.panes.layout import Pane
from ai_router.tui.panes.panes import Panes
from ai_router.tui.panes.screen import PaneScreen
from ai_router.tui.widgets.find_input import FilterInput
from ai_router.tui.widgets.hanging import HangingText
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.text import count, plural

OF_JOB = ("resume", "watch", "open_results", "retry", "delete", "export", "score", "again", "label", "mark")
REFRESH_SECONDS = 0.5
READ_AGAIN = 6  # refreshes
EMPTY = {
    "list": "No jobs yet.\n\nGo back and press 5: it takes prompts from a file\nor typed. Every answer is kept here.",
    "resume": "Nothing to resume: every job has all its results.\n\nThe list of jobs runs failed prompts again.",
}
NO_MATCH = "No job has that text.\n\nEscape shows all jobs again."
COLUMNS: tuple[tuple[Column, Callable[[JobLine], Any]], ...] = (
    (Column("Status", 12), lambda line: line.status[0][2:]),
    (Column("Job", 8, from_width=70), lambda line: line.info.job_id),
    (Column("Prompts", flex=3), lambda line: line.title.lower()),
    (Column("Model", flex=2, from_width=84), lambda line: line.info.model_id.lower()),
    (Column("Done", 13, right=True), lambda line: line.info.total),
    (Column("", 5, right=True), lambda line: (line.completed + line.failed) / max(1, line.info.total)),
    (Column("Failed", 9, right=True, from_width=100), lambda line: line.failed),
    (Column("Changed", 11, right=True), lambda line: line.info.timestamp),
)
CHANGED = len(COLUMNS) - 1
JOBS, DETAILS = "jobs", "jobs-details"
PANES = (Pane(JOBS, "jobs", 94, 0, 24, tall=55), Pane(DETAILS, "details", 46, 1, 20, tall=45))


class JobsScreen(PaneScreen[None], KeepingJobs):
    """The list. In the mode `resume` only jobs that have something left to run, and enter goes on with one."""

    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *bind("jobs.resume", "jobs.watch", "jobs.open", "jobs.retry", "jobs.delete", "jobs.filter", "jobs.export"),
        *bind("jobs.sort", "jobs.reverse", "jobs.score", "jobs.score_file", "jobs.details", "jobs.refresh"),
        *bind(
            *("jobs.again", "jobs.compare", "jobs.mark", "jobs.label", "jobs.undo", "jobs.skipped", "jobs.picture"),
            *("app.back", "app.up"),
        ),
    ]

    def __init__(self, mode: Literal["list", "resume"] = "list") -> None:
        super().__init__()
        self.mode = mode
        self.crumbs = ("Jobs and results",) if mode == "list" else ("Batch", "Resume")
        self.sort_column, self.ascending = CHANGED, False
        self._view: JobsView = NOT_READ
        self._shown: list[JobLine] = []
        self._ticks = 0

    def compose_body(self) -> ComposeResult:
        """Filter, list, details."""
        filter_input = FilterInput(placeholder="part of an id, file, name, #tag, model or status", id="jobs-filter")
        filter_input.display = False
        yield filter_input
        with Panes("jobs", PANES):
            table = VirtualTable(
                [column for column, _ in COLUMNS], self._rows, empty="Looking for jobs…", id=JOBS, classes="panel"
            )
            table.border_title = "Jobs" if self.mode == "list" else "Jobs with something left to run"
            table.sorted_by = (self.sort_column, self.ascending)
            yield table
            with VerticalScroll(id=DETAILS, classes="panel", can_focus=False) as box:
                box.border_title = "Details"
                yield HangingText(indent=LABEL, id="jobs-about")
                yield JobAnswers(id="jobs-answers")

    def on_mount(self) -> None:
        """Begin to look."""
        self.context_text = home(self.services.workspace.checkpoints)
        self.query_one(VirtualTable).focus()
        self.begin_reading(self._read)
        self.set_interval(REFRESH_SECONDS, self._tick)
        self.services.jobs_changed.subscribe(self, lambda _: self._read() if self.is_current else None)

    def on_screen_resume(self) -> None:
        """Things may have changed while another screen was shown."""
        if self._view.known:
            self.call_after_refresh(self._read)

    def panes_changed(self) -> None:
        """Details may be in sight from now on."""
        self._show_details()

    # -- reading --------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        folder, runs = self.services.workspace.checkpoints, self.services.runs
        first = not self._view.known
        self.in_thread(
            lambda: read_jobs(folder, runs), self._take, busy="looking for jobs" if first else "", keys_wait=first
        )

    def _tick(self) -> None:
        if not self.is_current or not self._view.known:
            return
        self._ticks += 1
        if self._ticks % READ_AGAIN == 0 and not self.working("read"):
            self._read()
        elif any(line.running for line in self._view.lines):
            self._take(self._view.with_runs(self.services.runs))

    def _take(self, view: JobsView) -> None:
        self._view = view
        self._arrange()

    def _arrange(self) -> None:
        """Filter and sort what was read; the cursor stays on its job."""
        table = self.query_one(VirtualTable)
        at_hand = self.job_at_hand()
        text = self.query_one("#jobs-filter", Input).value.strip().lower()
        lines = [line for line in self._view.lines if self._belongs(line) and (not text or text in _searched(line))]
        lines.sort(key=COLUMNS[self.sort_column][1], reverse=not self.ascending)
        self._shown = lines
        table.sorted_by = (self.sort_column, self.ascending)
        table.empty = NO_MATCH if text else EMPTY[self.mode]
        places = [index for index, line in enumerate(lines) if line.info.file == at_hand]
        if places:
            table.set_reactive(VirtualTable.cursor, places[0])
        table.set_count(len(lines))
        parts = [
            f"{count(len(lines))} of {plural(len(self._view.lines), 'job')}" if text else plural(len(lines), "job")
        ]
        if self._view.skipped:
            parts.append(f"{plural(len(self._view.skipped), 'file')} unreadable: u")
        table.border_subtitle = Content(" · ".join(parts))
        self._show_details()
        self.refresh_bindings()

    def _belongs(self, line: JobLine) -> bool:
        return self.mode == "list" or line.running or line.left > 0

    def _rows(self, start: int, stop: int) -> list[Row]:
        return [_row(line, marked=line.info.file in self.marked) for line in self._shown[start:stop]]

    def all_lines(self) -> tuple[JobLine, ...]:
        """All jobs that were read."""
        return self._view.lines

    # -- the job under the cursor ---------------------------------------------------------------------------------

    def line_at_hand(self) -> JobLine | None:
        """The job under the cursor."""
        cursor = self.query_one(VirtualTable).cursor
        return self._shown[cursor] if 0 <= cursor < len(self._shown) else None

    def job_at_hand(self) -> Path | None:
        """Its checkpoint."""
        line = self.line_at_hand()
        return line.info.file if line else None

    def job_is_running(self) -> bool:
        """Whether it runs."""
        line = self.line_at_hand()
        return line is not None and line.running

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what the job under the cursor allows is offered."""
        line = self.line_at_hand() if self.is_mounted else None
        if action in OF_JOB:
            if line is None:
                return False
            if action == "score":
                return SCORE in kind_of(line.info.kind).actions
            return line.may(action)
        return action != "skipped" or bool(self._view.skipped)

    @on(VirtualTable.Highlighted)
    def _moved(self) -> None:
        self._show_details()
        self.refresh_bindings()

    @on(VirtualTable.Selected)
    def _selected(self) -> None:
        if self.mode == "resume" or self.job_is_running():
            self.action_resume()
        else:
            self.action_open_results()

    def _show_details(self) -> None:
        if self.panes.shows(DETAILS):
            line = self.line_at_hand()
            shown = job_details(line) if line else Content.styled("No job is chosen.", "$text-muted")
            self.query_one("#jobs-about", HangingText).update(shown)
            self.query_one(JobAnswers).show(line)

    def action_details(self) -> None:
        """Show or hide the details; where there is room for the list alone, they stand in its place."""
        if len(self.panes.shown) > 1 or DETAILS in self.panes.hidden:
            self.panes.toggle(DETAILS)
        else:
            self.panes.zoom(DETAILS)

    def action_score_file(self) -> None:
        """Choose a results file to score."""
        self.services.go("score")

    # -- filter and sort ------------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        """Type a part of what is looked for."""
        field = self.query_one("#jobs-filter", Input)
        field.display = True
        field.focus()

    @on(Input.Changed, "#jobs-filter")
    def _filtered(self) -> None:
        if self._view.known:
            self._arrange()

    @on(Input.Submitted, "#jobs-filter")
    def _to_list(self) -> None:
        self.query_one(VirtualTable).focus()

    def action_back(self) -> None:
        """Out of the filter first."""
        field = self.query_one("#jobs-filter", Input)
        if field.display:
            field.value = ""
            field.display = False
            self.query_one(VirtualTable).focus()
        else:
            super().action_back()

    def action_sort(self) -> None:
        """By the next column."""
        self._sort_by((self.sort_column + 1) % len(COLUMNS))

    def action_reverse(self) -> None:
        """Turn the order round."""
        self.ascending = not self.ascending
        self._arrange()

    @on(VirtualTable.HeaderClicked)
    def _header_clicked(self, event: VirtualTable.HeaderClicked) -> None:
        if event.index == self.sort_column:
            self.action_reverse()
        else:
            self._sort_by(event.index)

    def _sort_by(self, column: int) -> None:
        self.sort_column, self.ascending = column, column != CHANGED
        self._arrange()
        title = COLUMNS[column][0].title or "Share done"
        self.notify(f"Sorted by {title.lower()}; S turns it round", timeout=2)

    def action_refresh(self) -> None:
        """Read the folder again."""
        self._read()

    # -- unreadable files ------------------------------------------------------------------------------------------

    def action_skipped(self) -> None:
        """The files that could not be read, and why."""
        text = "\n\n".join(f"{home(path)}\n{_without_path(reason, path)}" for path, reason in self._view.skipped)
        self.app.push_screen(ConfirmDialog("Files that could not be read", text, [("close", "Close", "primary")]))


def _without_path(reason: str, path: Path) -> str:
    return reason.replace(f" {path}", "")


def _searched(line: JobLine) -> str:
    about = line.info.about
    words = (line.info.job_id, line.info.source, line.info.model_id, line.status[0], about.name, about.note)
    return " ".join((*words, *(f"#{tag}" for tag in about.tags))).lower()


def _row(line: JobLine, *, marked: bool = False) -> Row:
    status, style = line.status
    return (
        (f"●{status[1:]}", "accent") if marked else (status, style),
        (line.info.job_id, "muted"),
        line.title,
        (line.info.model_id, "muted"),
        line.progress,
        line.percent,
        (count(line.failed), "error" if line.failed else "muted"),
        (line.age, "muted"),
    )
