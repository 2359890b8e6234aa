"""The workbench: jobs, results and one answer side by side where there is room; panes that zoom, hide and resize."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from ai_router.memory import Memory, MemoryFileError
from ai_router.tui.base import NARROW, WIDE
from ai_router.tui.jobs.view import NOT_READ, JobsView, read_jobs
from ai_router.tui.results.taking import TakingResults
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.text_view import TextView

BENCH = "-bench"
BENCH_FROM = 120  # cells
SHARE_KEY, JOBS_KEY = "results.share", "results.jobs"
SHARE, STEP, LEAST, MOST = 50, 5, 20, 80  # percent of the room beside the jobs that the answer takes


class JobsPane(Vertical):
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


class BenchResults(TakingResults):
    """Results between the jobs and the answer, from `BENCH_FROM` cells on."""

    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, NARROW), (110, WIDE), (BENCH_FROM, BENCH)]  # noqa: RUF012
    PANES: ClassVar[tuple[str, ...]] = ("#bench", "#results", "#results-preview")

    def begin_bench(self) -> None:
        """Lay the panes out as they were last time."""
        memory = Memory(self.services.workspace.checkpoints)
        share = memory.recall(SHARE_KEY, SHARE)
        self._share = share if isinstance(share, int) and LEAST <= share <= MOST else SHARE
        self.set_class(memory.recall(JOBS_KEY, True) is False, "-no-jobs")
        self._lay_out_panes()

    _share = SHARE

    @property
    def on_bench(self) -> bool:
        """Whether the panes stand side by side."""
        return self.has_class(BENCH)

    def read_bench(self) -> None:
        """Read the jobs, where they are shown."""
        if self.on_bench and not self.has_class("-no-jobs") and not self.working("bench"):
            folder, runs, path = self.services.workspace.checkpoints, self.services.runs, self.path
            self.in_thread(
                lambda: read_jobs(folder, runs), lambda view: self.query_one(JobsPane).show(view, path), group="bench"
            )

    def _lay_out_panes(self) -> None:
        beside = self.on_bench
        self.query_one(TextView).styles.width = f"{self._share}fr" if beside else None
        self.query_one("#results").styles.width = f"{100 - self._share}fr" if beside else None

    @on(JobsPane.Chosen)
    def _another(self, event: JobsPane.Chosen) -> None:
        if event.path != self.path:
            self.services.open_results(event.path)
        self.query_one("#results").focus()

    # -- zoom, hide, resize ---------------------------------------------------------------------------------------

    def action_zoom(self) -> None:
        """The pane with the focus alone, or all of them again."""
        focused = self.focused
        zoomed = any(self.query_one(pane).has_class("-zoomed") for pane in self.PANES)
        for pane in self.PANES:
            widget = self.query_one(pane)
            mine = focused is not None and (widget is focused or widget in focused.ancestors)
            widget.set_class(mine and not zoomed, "-zoomed")
        self.set_class(not zoomed and focused is not None, "-one-pane")

    def action_panes(self) -> None:
        """Hide the jobs beside the results, or show them."""
        self.toggle_class("-no-jobs")
        self._keep(JOBS_KEY, not self.has_class("-no-jobs"))
        self.read_bench()

    def action_wider(self) -> None:
        """More room for the answer."""
        self._resize(STEP)

    def action_narrower(self) -> None:
        """Less room for the answer."""
        self._resize(-STEP)

    def _resize(self, step: int) -> None:
        self._share = max(LEAST, min(MOST, self._share + step))
        self._keep(SHARE_KEY, self._share)
        self._lay_out_panes()

    def _keep(self, key: str, value: object) -> None:
        try:
            Memory(self.services.workspace.checkpoints).keep(key, value)
        except MemoryFileError as error:
            self.services.show_error(error)
