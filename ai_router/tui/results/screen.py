"""What came out of a job: every item in a virtual table, filtered, searched, read, copied, exported."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content

from ai_router.kinds import kind_of
from ai_router.kinds.base import SCORE
from ai_router.memory import Memory
from ai_router.tui.actions import bind
from ai_router.tui.panes.panes import Panes
from ai_router.tui.results.bench import ANSWER, JOBS, PANES, RESULTS, BenchResults, JobsPane
from ai_router.tui.results.data import (
    Counts,
    RowData,
    Search,
    index_texts,
    job_rows,
    models_of,
    read_counts,
    read_ids,
    read_job,
    read_result,
    table_row,
)
from ai_router.tui.results.dialogs import show_errors
from ai_router.tui.results.layout import kept_layout
from ai_router.tui.results.pages import PageReader
from ai_router.tui.results.parts import PARTS
from ai_router.tui.results.query import HELP as QUERY_HELP
from ai_router.tui.results.reading import ReadingScreen, result_blocks, result_facts
from ai_router.tui.widgets.find_input import Complaint, FindInput
from ai_router.tui.widgets.table import Row, VirtualTable
from ai_router.tui.widgets.tabs import CountTabs
from ai_router.tui.widgets.text import count, plural
from ai_router.tui.widgets.text_view import TextView

if TYPE_CHECKING:
    from batch.checkpoint.rows import Part
    from batch.job import BatchJob, BatchResult

LIVE_SECONDS = 1.0
BENCH_EVERY = 4  # looks at the job: one at all of them
EMPTY = {
    "all": "This job holds no prompts.",
    "done": "No answers yet.\n\nPress r to run what is missing.",
    "failed": "Nothing has failed.",
    "pending": "Nothing is waiting: every item has a result.",
}


class ResultsScreen(BenchResults):
    """Opens at once, whatever the length of the job; goes on with it while it runs."""

    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *bind("results.part", "results.search", "results.copy", "results.score", "results.export"),
        *bind("results.run", "results.retry"),
        *bind("results.all", "results.done", "results.failed", "results.pending", "results.copy_json"),
        *bind("results.errors", "results.goto", "results.sort", "results.reverse", "results.columns"),
        *bind("results.picture", "results.next_hit", "results.hit_back", "results.rendered"),
        *bind("results.mark", "results.mark_all", "results.copy_as", "results.again", "results.jobs", "app.back"),
    ]

    def __init__(self, path: Path, part: Part = "all") -> None:
        super().__init__()
        self.path = path
        self.part: Part = part
        self.crumbs = ("Jobs and results", path.stem.removeprefix("batch_"))
        self._job: BatchJob | None = None
        self._counts = Counts(0, 0, 0, False)
        self._ids: Sequence[int] | None = None  # None: every item, by its number
        self._search: Search | None = None
        self._pages: PageReader[RowData] | None = None
        self._looks = 0
        self._stale = False  # what is shown may have changed since it was read

    def compose_body(self) -> ComposeResult:
        """Kinds, search, table, the text of the row under the cursor."""
        yield CountTabs(id="parts")
        yield FindInput(QUERY_HELP, id="results-search")
        yield Complaint(id="results-wrong")
        with Panes("results", PANES, id="results-columns"):
            yield JobsPane(id=JOBS)
            table = VirtualTable([], self._rows, empty="Opening…", id=RESULTS, classes="panel")
            table.border_title = "Results"
            yield table
            preview = TextView(id=ANSWER, classes="panel")
            preview.border_title = "Text"
            preview.markdown_note = "Markdown · M as it came"
            yield preview

    def on_mount(self) -> None:
        """Open the job in a thread."""
        self.table.focus()
        self.begin_reading(self._open)

    def on_unmount(self) -> None:
        """End reading."""
        if self._pages is not None:
            self._pages.close()
        if self._search is not None:
            self._search.stop()

    @property
    def _job_path(self) -> Path:
        return self.path

    # -- the job --------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        path, workspace = self.path, self.services.workspace

        def read() -> tuple[BatchJob, Counts]:
            if path.suffix == ".json":  # an old checkpoint becomes a database first
                from ai_router import jobs

                job = jobs.open_job(workspace, str(path))
                assert job.checkpoint_file is not None
                return job, read_counts(job.checkpoint_file)
            return read_job(path), read_counts(path)

        def failed(error: Exception) -> None:
            self.table.empty = "This job cannot be read."
            self.table.refresh()
            self.services.show_error(error, retry=self._open)

        self.in_thread(read, lambda found: self._opened(*found), busy="opening", group="open", failed=failed,
                       keys_wait=True)  # fmt: skip

    def _opened(self, job: BatchJob, counts: Counts) -> None:
        assert job.checkpoint_file is not None
        self._job, self.path, self._counts = job, job.checkpoint_file, counts
        name = str(job.config.get("source", "")).replace("\\", "/").rpartition("/")[2]
        self.crumbs = ("Jobs and results", f"{name} · {job.job_id}" if name else job.job_id)
        services = self.services  # a thread may outlive this screen, and so its way to the app
        self._pages = PageReader(
            partial(job_rows, self.path),
            lambda: services.call_later(self._page_loaded),
            lambda error: services.call_later(services.show_error, error),
        )
        self.layout_of_columns = kept_layout(Memory(services.workspace.checkpoints))
        self._lay_out_columns()
        self._show_counts()
        self._show_part(keep=False)
        self.set_interval(LIVE_SECONDS, self._look_again)
        if not counts.running:
            path, total = self.path, counts.total
            self.in_thread(
                lambda: index_texts(path, total, lambda: not self.alive), lambda _: None, group="index",
                failed=lambda _: None,  # what is wrong with the file is said by whoever reads it
            )  # fmt: skip

    def _look_again(self) -> None:
        if self.is_current and self._job is not None and not self.working("counts"):
            path = self.path
            self.in_thread(lambda: read_counts(path), self._counted, group="counts")
            self._looks += 1
            if self._looks % BENCH_EVERY == 1:
                self.read_bench()

    def _counted(self, counts: Counts) -> None:
        if counts != self._counts:
            self._counts = counts
            self._stale = True
            self._show_counts()
        if not self._stale or self._search is not None or self.working("ids"):
            return
        self._stale = False
        if self._pages is not None:
            self._pages.forget()
        if self.part == "all":
            self.table.refresh_rows()
        else:
            self._show_part(keep=True)

    def _show_counts(self) -> None:
        counts = self._counts
        self._show_tabs()
        state = "▶ running · " if counts.running else ""
        model = models_of(self._job) if self._job else ""
        self.context_text = f"{state}{model}"
        self.refresh_bindings()

    # -- parts ----------------------------------------------------------------------------------------------------

    def action_next_part(self) -> None:
        """The next part that has items."""
        names = [tab.name for tab in PARTS]
        start = names.index(self.part) + 1
        for part in names[start:] + names[:start]:
            if self._counts.of(part) or part == "all":
                self.action_part(part)
                return

    def action_part(self, part: str) -> None:
        """Show items of one part."""
        self.part, self._part_before = cast("Part", part), None
        self._show_tabs()
        if self._search is not None and self._search.query.part is not None:
            self._end_search()  # the line says another part than was chosen just now
        else:
            self._again()

    def _show_tabs(self) -> None:
        self.query_one(CountTabs).show(PARTS, {tab.name: self._counts.of(tab.name) for tab in PARTS}, self.part)

    @on(CountTabs.Chosen)
    def _tab(self, event: CountTabs.Chosen) -> None:
        self.action_part(event.name)

    def _show_part(self, *, keep: bool) -> None:
        """Fill the table with the items of the part; their ids are read in a thread."""
        table = self.table
        if self.part == "all":
            self._take_ids(None, self._counts.total, keep=keep)
            return
        if not keep:
            table.empty = "Reading…"
            table.set_count(0, keep=False)
        path, part = self.path, self.part

        def take(ids: Sequence[int]) -> None:
            if part == self.part and self._search is None:  # else another view was chosen meanwhile
                self._take_ids(ids, len(ids), keep=keep)

        self.in_thread(lambda: read_ids(path, part), take, busy="reading", group="ids", keys_wait=not keep)

    def _take_ids(self, ids: Sequence[int] | None, length: int, *, keep: bool) -> None:
        self._ids = ids
        if self._pages is not None:
            self._pages.forget()
        table = self.table
        table.empty = EMPTY[self.part]
        table.set_count(length, keep=keep)
        self.show_title()
        table.border_subtitle = Content(plural(length, "item"))
        self._show_text()
        self.refresh_bindings()

    # -- rows -----------------------------------------------------------------------------------------------------

    def _id_at(self, index: int) -> int:
        return index if self._ids is None else self._ids[index]

    def _rows(self, start: int, stop: int) -> list[Row] | None:
        if self._pages is None:
            return None
        ids = range(start, stop) if self._ids is None else self._ids[start:stop]
        page = self._pages.page(start, ids)
        return None if page is None else [table_row(data, marked=data.id in self.marked) for data in page]

    def _page_loaded(self) -> None:
        if self.alive:
            self.table.refresh()

    def job_at_hand(self) -> Path | None:
        """This job."""
        return self.path if self._job is not None else None

    def job_is_running(self) -> bool:
        """Whether it runs."""
        return self._counts.running

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what there is something for."""
        if action == "retry":
            return self._counts.failed > 0 and not self._counts.running
        if action == "resume":
            return self._counts.running or self._counts.of("pending") > 0
        if action == "errors":
            return self._counts.failed > 0
        if action == "score":
            return self._job is not None and SCORE in kind_of(self._job.kind).actions
        return True

    @on(VirtualTable.Highlighted, "#results")
    def _moved(self) -> None:
        self._show_text()

    def _show_text(self) -> None:
        """The whole text of the row under the cursor, where there is room for it."""
        table = self.table
        preview = self.query_one(TextView)
        if not preview.display or not table.count or self._job is None:
            preview.show()
            preview.show_title(["Text"])
            return
        item, path = self._id_at(table.cursor), self.path
        self.in_thread(lambda: read_result(path, item), self._show_result, group="text")

    def _show_result(self, result: BatchResult) -> None:
        preview = self.query_one(TextView)
        low = preview.has_class("-low")
        preview.show(
            *result_blocks(result, self.words, markdown=self.services.markdown, brief=low, folded="enter reads it")
        )
        preview.show_title([f"# {count(result.prompt_index + 1)}", *result_facts(result)])
        if self.words:
            self.call_after_refresh(self.show_first_hit)

    @on(VirtualTable.Selected, "#results")
    def _selected(self, event: VirtualTable.Selected) -> None:
        ids = range(self._counts.total) if self._ids is None else self._ids
        self.app.push_screen(ReadingScreen(self.path, ids, event.index, self.crumbs, self.words), self._come_back)

    def _come_back(self, index: int | None) -> None:
        if index is not None:
            self.table.move_cursor(index)
        self._show_text()  # as Markdown or not, as was chosen there

    def action_rendered(self) -> None:
        """Show answers as Markdown, or as they came, here and wherever they are read."""
        self.services.turn_markdown()
        self._show_text()

    def action_errors(self) -> None:
        """Failures by part."""
        show_errors(self, self.path, lambda: self.action_part("failed"))
