"""The workbench: jobs, results and one answer side by side, as many of them as there is room for."""

from __future__ import annotations

from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.message import Message

from ai_router.tui.jobs.view import NOT_READ, JobsView, read_jobs
from ai_router.tui.panes.layout import Pane
from ai_router.tui.panes.screen import PaneScreen
from ai_router.tui.results.taking import TakingResults
from ai_router.tui.widgets.backdrop import BackVertical
from ai_router.tui.widgets.table import Column, Row, VirtualTable

RESULTS, ANSWER, JOBS = "results", "results-preview", "bench"
PANES = (
    Pane(JOBS, "jobs", 28, 2, side_only=True),
    Pane(RESULTS, "results", 56, 0, 24),
    Pane(ANSWER, "answer", 56, 1, 20, low=3),
)


class JobsPane(BackVertical):
    """The last jobs, in a narrow column; enter shows another one's results."""

    class Chosen(Message):
        """A job was chosen."""

        def __init__(self, path: Path) -> None:
            super().__init__()
            self.path = path

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.view: JobsView = NOT_READ

    def compose(self) -> ComposeResult:
        """The table."""
        columns = [Column("Jobs", flex=1), Column("", 5, right=True)]
        yield VirtualTable(columns, self._rows, empty="…", id="bench-jobs", classes="panel")

    def _rows(self, start: int, stop: int) -> list[Row]:
        lines = self.view.lines[start:stop]
        return [((f"{line.status[0][0]} {line.title}", line.status[1]), (line.percent, "muted")) for line in lines]

    def show(self, view: JobsView, path: Path) -> None:
        """Take what was read; the cursor stands on the job that is shown."""
        self.view = view
        table = self.query_one(VirtualTable)
        places = [place for place, line in enumerate(view.lines) if line.info.file == path]
        if places and not table.has_focus:
            table.set_reactive(VirtualTable.cursor, places[0])
        table.set_count(len(view.lines))

    @on(VirtualTable.Highlighted)
    def _moved(self, event: VirtualTable.Highlighted) -> None:
        event.stop()

    @on(VirtualTable.HeaderClicked)
    def _titled(self, event: VirtualTable.HeaderClicked) -> None:
        event.stop()

    @on(VirtualTable.Selected)
    def _selected(self, event: VirtualTable.Selected) -> None:
        event.stop()
        if event.index < len(self.view.lines):
            self.post_message(self.Chosen(self.view.lines[event.index].info.file))


class BenchResults(PaneScreen[None], TakingResults):
    """Results between the jobs and the answer."""

    @property
    def on_bench(self) -> bool:
        """Whether the jobs stand beside the results."""
        return self.panes.shows(JOBS)

    def panes_changed(self) -> None:
        """Read what has come into sight."""
        self.read_bench()
        self._show_text()

    def read_bench(self) -> None:
        """Read the jobs, where they are shown."""
        if self.on_bench and not self.working("bench"):
            folder, runs, path = self.services.workspace.checkpoints, self.services.runs, self.path
            self.in_thread(
                lambda: read_jobs(folder, runs), lambda view: self.query_one(JobsPane).show(view, path), group="bench"
            )

    @on(JobsPane.Chosen)
    def _another(self, event: JobsPane.Chosen) -> None:
        if event.path != self.path:
            self.services.open_results(event.path)
        self.panes.focus_pane(RESULTS)

    def action_jobs_pane(self) -> None:
        """Hide the jobs beside the results, or show them."""
        self.panes.toggle(JOBS)
