"""The menu of batch processing: prompts from a file or typed, jobs to go on with."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.content import Content

from ai_router.tui.actions import bind
from ai_router.tui.base import BaseScreen
from ai_router.tui.jobs.view import JobLine, JobsView, read_jobs
from ai_router.tui.places import on_menu
from ai_router.tui.widgets.hanging import HangingText
from ai_router.tui.widgets.menu_list import MenuEntry, MenuList
from ai_router.tui.widgets.table import Column, VirtualTable

PLACES = on_menu("batch")
FORMATS = (
    (".txt", "one prompt a line; # begins a comment"),
    (".jsonl", '{"prompt": …}, {"messages": […]} or OpenAI batch lines'),
    (".json", 'a list of texts or of such objects, or {"prompts": […]}'),
    (".csv", "a column named prompt, or one you name, or a template over columns; .tsv, .parquet and .arrow too"),
)
SUFFIX = 8  # cells


class BatchMenuScreen(BaseScreen[None]):
    """Four ways into a job, the forms a file may have, and the jobs that wait to be resumed."""

    CSS_PATH = "menu.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bind(*(f"batch.{place.name}" for place in PLACES), "app.up")

    def __init__(self) -> None:
        super().__init__()
        self.set_reactive(BaseScreen.crumbs, ("Batch",))
        self._open: list[JobLine] = []

    def compose_body(self) -> ComposeResult:
        """Menu and formats, with the table of what can be resumed beside or below."""
        entries = [MenuEntry(place.key, place.title, place.help) for place in PLACES]
        entries.append(MenuEntry("0", "Back", "To the main menu", spaced=True))
        with Container(id="batch-columns"):
            with Vertical(id="batch-left"):
                menu = MenuList(entries, id="menu", classes="panel")
                menu.border_title = "Batch Processing Mode"
                yield menu
                formats = HangingText(_formats(), indent=SUFFIX, id="formats", classes="panel")
                formats.border_title = "What a file may hold"
                yield formats
            table = VirtualTable(
                [
                    Column("Status", 12),
                    Column("Prompts", flex=3),
                    Column("Model", flex=1, from_width=50),
                    Column("Done", 13, right=True),
                    Column("Changed", 11, right=True, from_width=56),
                ],
                lambda start, stop: [
                    (line.status, line.source, (line.info.model_id, "muted"), line.progress, (line.age, "muted"))
                    for line in self._open[start:stop]
                ],
                id="open-jobs",
                classes="panel",
                empty="Nothing waits: every job has run to its end.",
            )
            table.border_title = "To resume or to watch"
            yield table

    def on_mount(self) -> None:
        """Keys go to the menu."""
        self.query_one(MenuList).focus()
        self.services.jobs_changed.subscribe(self, lambda _: self._read())

    def on_screen_resume(self) -> None:
        """Things may have changed while another screen was shown."""
        self._read()

    def _read(self) -> None:
        folder, runs = self.services.workspace.checkpoints, self.services.runs
        self.in_thread(lambda: read_jobs(folder, runs), self._take)

    def _take(self, view: JobsView) -> None:
        self._open = [line for line in view.lines if line.running or line.left]
        self.query_one(VirtualTable).set_count(len(self._open))

    @on(VirtualTable.Selected)
    def _selected(self, event: VirtualTable.Selected) -> None:
        if type(event) is VirtualTable.Selected:
            self.services.open_run(self._open[event.index].info.file)

    @on(MenuList.Chosen)
    def _chosen(self, event: MenuList.Chosen) -> None:
        if event.key == "0":
            self.action_back()
            return
        self.services.go(next(place.name for place in PLACES if place.key == event.key))


def _formats() -> Content:
    return Content("\n").join(
        Content.assemble((f"{suffix:<{SUFFIX}}", "bold $accent"), (text, "$text-muted")) for suffix, text in FORMATS
    )
