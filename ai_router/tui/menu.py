"""The main menu: where to go, what is running, what can be resumed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from ai_router.tui.about import Facts, about_choice, read_facts
from ai_router.tui.actions import ACTIONS, bind, shown
from ai_router.tui.base import SHORT, TALL
from ai_router.tui.jobs.actions import JobActions
from ai_router.tui.jobs.details import LABEL, job_details
from ai_router.tui.jobs.view import NOT_READ, JobLine, JobsView, home, read_jobs
from ai_router.tui.places import HOME, on_menu
from ai_router.tui.widgets.backdrop import BackContainer, BackVertical
from ai_router.tui.widgets.hanging import HangingText
from ai_router.tui.widgets.menu_list import MenuEntry, MenuList
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.text import plural

TAGLINE = "prompts in, answers out, nothing lost"
REFRESH_SECONDS = 0.5
READ_AGAIN = 6  # refreshes
EMPTY = "No jobs yet.\n\nPress 5 to answer many prompts from a file,\nor 1 to ask one thing now."
ENTRIES = (*(place.name for place in on_menu(HOME)), "exit")
OF_JOBS = frozenset({"resume", "watch", "open_results", "again", "jobs_list"})  # actions that need the list


class MenuScreen(JobActions[None]):
    """The entries by number, arrows or mouse; beside them the last jobs, the chosen one of which a key resumes."""

    CSS_PATH = "menu.tcss"
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-tiny"), (18, SHORT), (32, TALL)]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        *bind(*(f"menu.{place}" for place in ENTRIES)),
        *bind("menu.jobs_list", "menu.entries", "jobs.resume", "jobs.watch", "jobs.open", "jobs.again"),
        *shown("app.palette", "app.quit"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._view: JobsView = NOT_READ
        self._ticks = 0
        self._comes_back = True  # to the menu, or is here for the first time

    def compose_body(self) -> ComposeResult:
        """Menu and jobs."""
        entries = [
            MenuEntry(action.keys, action.label, action.help, spaced=place == "exit")
            for place in ENTRIES
            for action in [ACTIONS[f"menu.{place}"]]
        ]
        with BackContainer(id="menu-columns"):
            with BackVertical(id="menu-left"):
                yield Static(Content.assemble(("ai-router", "bold $accent"), f"  {TAGLINE}"), id="menu-title")
                menu = MenuList(entries, id="menu", classes="panel")
                menu.border_title = "Menu"
                yield menu
            table = VirtualTable(
                [
                    Column("Status", 12),
                    Column("Prompts", flex=3),
                    Column("Model", flex=2, from_width=74),
                    Column("Done", 13, right=True),
                    Column("", 5, right=True),
                    Column("Changed", 11, right=True, from_width=62),
                ],
                self._rows,
                empty="Looking for jobs…",
                id="menu-jobs",
                classes="panel",
            )
            table.border_title = "Last jobs"
            with BackVertical(id="menu-right"):
                yield table
                with VerticalScroll(id="menu-about", classes="panel", can_focus=False):
                    yield HangingText(indent=LABEL, id="menu-facts")

    def on_mount(self) -> None:
        """Begin with the menu; `begin` goes on."""
        self.context_text = home(self.services.workspace.root)
        self.query_one(MenuList).focus()

    def begin(self) -> None:
        """Read the jobs, and look again and again: after the first frame, which imports for it would hold up."""
        self._read()
        self.set_interval(REFRESH_SECONDS, self._tick)
        self.services.jobs_changed.subscribe(self, lambda _: self._read())

    def waits_for(self, key: str) -> bool:
        """What is done with a job waits until the jobs are read; the way to a place does not."""
        if self._view.known or not self._jobs_shown:
            return super().waits_for(key)
        if self.query_one(VirtualTable).has_focus:
            return True
        bound = (binding for _, bindings in self._binding_chain for binding in bindings.key_to_bindings.get(key, ()))
        return any(binding.action in OF_JOBS for binding in bound) or super().waits_for(key)

    def on_screen_resume(self) -> None:
        """Things may have changed while another screen was shown."""
        self.context_text = home(self.services.workspace.root)
        self._comes_back = True
        self._show_about()
        if self._view.known:
            self.call_after_refresh(self._read)  # a thread that reads would take its time from the frame

    def _read(self) -> None:
        folder, runs = self.services.workspace.checkpoints, self.services.runs
        self.in_thread(lambda: read_jobs(folder, runs), self._take)

    def _tick(self) -> None:
        """Figures of running jobs; now and then the folder, as other programs write there too."""
        if not self.is_current or not self._view.known:
            return
        self._ticks += 1
        if self._ticks % READ_AGAIN == 0 and not self.working("read"):
            self._read()
        elif any(line.running for line in self._view.lines):
            self._take(self._view.with_runs(self.services.runs))

    def _take(self, view: JobsView) -> None:
        same = view.lines == self._view.lines and view.known == self._view.known
        table = self.query_one(VirtualTable)
        if self._comes_back and not table.has_focus:  # one key goes on with it
            open_ones = (place for place, line in enumerate(view.lines) if line.running or line.left)
            table.set_reactive(VirtualTable.cursor, next(open_ones, 0))
        self._comes_back = False
        self._view = view
        table.empty = EMPTY
        if not same or table.count != len(view.lines):
            table.set_count(len(view.lines))
        running = sum(line.running for line in view.lines)
        open_jobs = sum(line.left > 0 and not line.running for line in view.lines)
        parts = [f"{running} running"] * bool(running) + [f"{open_jobs} to resume"] * bool(open_jobs)
        if view.skipped:
            parts.append(f"{plural(len(view.skipped), 'file')} unreadable")
        table.border_title = "Last jobs"
        self._show_about()
        table.border_subtitle = Content(" · ".join(parts))
        self.refresh_bindings()

    def _rows(self, start: int, stop: int) -> list[Row]:
        return [_row(line) for line in self._view.lines[start:stop]]

    # -- what is under the cursor ---------------------------------------------------------------------------------

    def on_descendant_focus(self) -> None:
        """The choice, or the job."""
        self.call_after_refresh(self._show_about)
        self.refresh_bindings()

    def on_resize(self) -> None:
        """There may be no room for the jobs any more, or again."""
        self.call_after_refresh(self.refresh_bindings)

    @on(MenuList.Moved)
    def _other_choice(self) -> None:
        self._show_about()

    def _show_about(self) -> None:
        """What the choice under the cursor means; in the list of jobs, what is known of the job."""
        box = self.query_one("#menu-about", VerticalScroll)
        if not box.display or not self.is_current:
            return
        line = self._line_at_hand() if self.query_one(VirtualTable).has_focus else None
        if line is not None:
            self._facts(line.title, job_details(line))
            return
        place, services, view = ENTRIES[self.query_one(MenuList).cursor], self.services, self._view
        title = ACTIONS[f"menu.{place}"].label

        def show(facts: Facts) -> None:
            if ENTRIES[self.query_one(MenuList).cursor] == place and not self.query_one(VirtualTable).has_focus:
                self._facts(title, about_choice(place, facts))

        if self.query_one("#menu-about").border_title != title:
            self._facts(title, about_choice(place, ("", ())))  # at once; the rest when it is read
        read = partial(read_facts, place, services, view)
        self.call_after_refresh(self.in_thread, read, show, group="about", failed=lambda _: None)

    def _facts(self, title: str, text: Content) -> None:
        self.query_one("#menu-about").border_title = Content(title)
        self.query_one("#menu-facts", HangingText).update(text)

    # -- going ----------------------------------------------------------------------------------------------------

    @on(MenuList.Chosen)
    async def _chosen(self, event: MenuList.Chosen) -> None:
        place = next(place for place in ENTRIES if ACTIONS[f"menu.{place}"].keys == event.key)
        await self.app.run_action(ACTIONS[f"menu.{place}"].name, self)

    @on(VirtualTable.Selected)
    def _open(self, event: VirtualTable.Selected) -> None:
        line = self._view.lines[event.index]
        if line.running:
            self.services.open_run(line.info.file)
        else:
            self.services.open_results(line.info.file)

    def job_at_hand(self) -> Path | None:
        """The one under the cursor of the list."""
        line = self._line_at_hand()
        return None if line is None else line.info.file

    def job_is_running(self) -> bool:
        """Whether some process runs it now."""
        line = self._line_at_hand()
        return line is not None and line.running

    @property
    def _jobs_shown(self) -> bool:
        """Whether there is room for the last jobs: what is done with one of them is done in sight of it."""
        return self.is_mounted and self.query_one("#menu-right").display

    def _line_at_hand(self) -> JobLine | None:
        cursor = self.query_one(VirtualTable).cursor if self._jobs_shown else -1
        return self._view.lines[cursor] if 0 <= cursor < len(self._view.lines) else None

    @on(VirtualTable.Highlighted)
    def _moved(self) -> None:
        self._show_about()
        self.refresh_bindings()

    def action_jobs_list(self) -> None:
        """To the last jobs."""
        self.query_one(VirtualTable).focus()

    def action_entries(self) -> None:
        """Back to the menu."""
        self.query_one(MenuList).focus()

    def action_back(self) -> None:
        """There is nothing before this."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is nothing before this; a job is resumed where something of it is left, or watched."""
        if action in ("jobs_list", "entries"):
            return self._jobs_shown and self.query_one(VirtualTable).has_focus == (action == "entries")
        if action in ("resume", "watch", "open_results", "again"):
            line = self._line_at_hand()
            return line is not None and line.may(action)
        return action != "back"


def _row(line: JobLine) -> Row:
    status = line.status
    return (
        status,
        line.title,
        (line.info.model_id, "muted"),
        line.progress,
        line.percent,
        (line.age, "muted"),
    )
