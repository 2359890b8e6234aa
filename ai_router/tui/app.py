"""The terminal application: what lives as long as the program, whichever screen is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding, BindingType
from textual.signal import Signal

from ai_router.memory import Memory
from ai_router.settings import Settings, Workspace, overlooked
from ai_router.tui import themes
from ai_router.tui.actions import bind, unknown_actions
from ai_router.tui.ahead import get_ready
from ai_router.tui.guidance import KEYS_KEY, GuidedApp
from ai_router.tui.own_themes import FOLDER, OwnThemes, begin_theme
from ai_router.tui.palette import Finder
from ai_router.tui.places import PLACES, Place
from ai_router.tui.running import RunsInSight, next_after
from ai_router.tui.turns import Turns
from ai_router.tui.widgets.text import harmless

if TYPE_CHECKING:
    from textual.screen import Screen

    from ai_router.asking import EnginePool
    from ai_router.jobs import JobPlan
    from ai_router.models import Registry
    from ai_router.preloading import Preloading
    from batch.job import BatchJob
    from batch.options import SamplingOptions
    from batch.running.run import Run, RunHandle

ERROR_SECONDS = 12.0
RUNS_SECONDS = 0.5
THEMES_SECONDS = 1.0
BEHIND_SECONDS = 0.5  # after the first frame, until what nobody waits for yet is done


class RouterApp(GuidedApp):
    """ai-router in a terminal. `run` returns 0, or 130 when it was ended with jobs stopped half way."""

    TITLE = "ai-router"
    CSS_PATH: ClassVar = ["app.tcss", "menu.tcss"]  # that of the first screen too: else all is read again for it
    COMMANDS = {Finder}  # noqa: RUF012 - no ClassVar in the base class
    BINDINGS: ClassVar[list[BindingType]] = [
        *bind("app.help", "app.docs", "app.palette", "app.jump", "app.keys", "app.mouse", "app.runs", "app.quit"),
        Binding("ctrl+q", "quit", show=False, priority=True),
        Binding("ctrl+c", "help_quit", show=False, system=True),
    ]

    def __init__(self, workspace: Workspace, *, open_job: Path | None = None, tour: bool = False) -> None:
        super().__init__()
        self._tour = tour
        self.workspace = workspace
        self.runs: dict[str, Run] = {}  # by job id; they go on while screens change
        self.open_job = open_job
        self.ask_options: SamplingOptions | None = None  # of single prompts, for this session
        self.ask_chat: int | None = None  # that was on the screen last
        self.jobs_changed: Signal[None] = Signal(self, "jobs-changed")
        self.models_changed: Signal[None] = Signal(self, "models-changed")
        self.turns = Turns(self)
        self.in_sight = RunsInSight(self)
        self._models: Registry | None = None
        self._engines: EnginePool | None = None
        self._preloading: Preloading | None = None
        self._reported: set[str] = set()  # runs whose end was told
        self._mouse_on = True
        self._own_themes = OwnThemes()
        self._untold: list[str] = []  # of themes, before the first screen
        self.keys_shown = False
        self.register_theme(themes.DARK)
        self.register_theme(themes.LIGHT)
        self._look_at_themes()
        self.apply_theme(workspace.settings.theme)
        if workspace.settings.keymap:
            self.set_keymap(workspace.settings.keymap)

    # -- life -----------------------------------------------------------------------------------------------------

    def run(self, *args: Any, **kwargs: Any) -> int | None:
        """Run until the end; asks the terminal for its background first, where the theme is to follow it."""
        if self.workspace.settings.theme == themes.AUTO:
            self.theme = themes.choose_theme(themes.AUTO, ask_terminal=True)
        self._mouse_on = kwargs.get("mouse", True)
        return super().run(*args, **kwargs)

    def on_mount(self) -> None:
        """Show the menu at once; read everything else behind it."""
        from ai_router.tui.menu import MenuScreen

        self._menu = MenuScreen()
        self.keys_shown = bool(Memory(self.workspace.checkpoints).recall(KEYS_KEY))
        self.push_screen(self._menu)
        if self.open_job is not None:
            self.open_run(self.open_job)
        if self._tour:
            self.action_tour()
        for sentence in filter(None, (*self.workspace.withheld, overlooked(self.workspace))):
            self.notify(sentence, severity="warning", markup=False)
        if unknown := unknown_actions(self.workspace.settings.keymap):
            self.notify(f"keymap: no such action: {', '.join(unknown)}", severity="warning", markup=False)

    def on_ready(self) -> None:
        """The first frame is there."""
        self.screen.call_after_refresh(self._after_first_frame)  # when nothing is left to draw

    def _after_first_frame(self) -> None:
        """What would have held it up: collecting garbage, reading jobs, looking for runs, themes and servers."""
        self.begin_collecting()
        self.set_interval(RUNS_SECONDS, self._look_after_runs)
        self.set_interval(THEMES_SECONDS, self._look_at_themes)
        self._menu.begin()
        self.set_timer(BEHIND_SECONDS, self._behind)

    def _behind(self) -> None:
        """What nobody waits for yet."""
        get_ready(self)
        self._look_for_servers()

    def on_unmount(self) -> None:
        """Free the model that answers single prompts."""
        self.end_collecting()
        if self._engines is not None:
            self._engines.shutdown()
        if self._preloading is not None:
            self._preloading.claim().end()

    # -- services -------------------------------------------------------------------------------------------------

    @property
    def registry(self) -> Registry:
        """The models; read when first asked for."""
        if self._models is None:
            from ai_router.models import Registry

            self._models = Registry(self.workspace)
        return self._models

    def refresh_registry(self) -> None:
        """Look for models again, in a thread; `models_changed` is published when that is done."""

        def read() -> None:
            from ai_router.models import Registry

            found = Registry(self.workspace)
            self.call_later(self._take_registry, found)

        self.run_worker(read, thread=True, group="registry", exclusive=True)

    def _look_for_servers(self) -> None:
        """Ask this machine's usual ports for models, behind everything else; found ones are published."""

        def look() -> None:
            from ai_router.models.discovery.servers import find_servers

            if found := find_servers():
                self.registry.add(found)
                self.call_later(self.models_changed.publish, None)

        self.run_worker(look, thread=True, group="servers", exclusive=True)

    def _take_registry(self, registry: Registry) -> None:
        self._models = registry
        self._look_for_servers()
        self.models_changed.publish(None)

    @property
    def engines(self) -> EnginePool:
        """What answers single prompts."""
        if self._engines is None:
            from ai_router.asking import EnginePool

            self._engines = EnginePool()
        return self._engines

    @engines.setter
    def engines(self, pool: EnginePool) -> None:
        self._engines = pool

    @property
    def preloading(self) -> Preloading:
        """The model of a run that is about to begin."""
        if self._preloading is None:
            from ai_router.preloading import Preloading

            self._preloading = Preloading()
        return self._preloading

    # -- runs -----------------------------------------------------------------------------------------------------

    def start_run(self, job: BatchJob, plan: JobPlan | None = None, **how: Any) -> Run:
        """Run what is missing of a job in this process; from any thread. Raises when it cannot be locked or read.

        Raises ChangedModelError where other weights would go on with it, unless `allow_change`.
        """
        from ai_router import jobs

        if self._engines is not None:
            self._engines.close(wait=2.0)  # two copies of a model may not fit
        ahead = self.preloading.claim()
        try:
            run = jobs.start(self.registry, job, plan, ahead=ahead, **how)
        finally:
            ahead.end()
        self._reported.discard(job.job_id)
        self.runs[job.job_id] = run
        self.turns.begun(job)
        return run

    def handle_of(self, path: Path) -> RunHandle:
        """The run of a checkpoint: ours, or a watch on another process's."""
        from batch.running.live import Watch

        for run in self.runs.values():
            if run.job.checkpoint_file == path:
                # Ours may be over and another process have taken the job up since.
                return watch if run.wait(0) and (watch := Watch(path)).running else run
        return Watch(path)

    def live_runs(self) -> list[Run]:
        """Runs of this process that are not over."""
        return [run for run in self.runs.values() if not run.wait(0)]

    def _look_after_runs(self) -> None:
        ended = [run for name, run in self.runs.items() if name not in self._reported and run.wait(0)]
        for run in ended:
            self._reported.add(run.job.job_id)
            self._notify_end(run)
            self.turns.ended(run)
        if ended:
            self.jobs_changed.publish(None)
        self.turns.tick()
        if self.screen_stack:  # they go before the timers when the program ends
            self.in_sight.tick(self.screen)

    def action_next_run(self) -> None:
        """To what is running; from a run, to the next."""
        if path := next_after(self.in_sight.running, self.watched):
            self.open_run(path)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where nothing runs, the key is the screen's own."""
        if action == "next_run":
            return bool(self.in_sight.running) and hasattr(self.screen, "show_runs")
        return super().check_action(action, parameters)

    def _notify_end(self, run: Run) -> None:
        """Say that a run has ended, here and in the ways the settings name."""
        from batch.notify import Notifier, NotifyOptions, describe
        from batch.running.progress import RunState

        settings, job = self.workspace.settings, run.job
        state = run.snapshot().state
        if state is RunState.FAILED:
            self.show_error(run.error or job.reason or "the run failed")
        elif state is RunState.FINISHED and self.watched != job.checkpoint_file:  # else it is on the screen
            self.notify(
                describe(job),
                severity="warning" if job.failed else "information",
                timeout=ERROR_SECONDS,
                markup=False,
            )
        options = NotifyOptions(
            bell=settings.bell,
            desktop=settings.osc9,
            command=settings.notify_command,
            webhook=settings.webhook,
        )
        Notifier(
            options,
            write=self.write_terminal,
            report=lambda text: self.call_later(self.notify, text, severity="warning", markup=False),
        ).notify(job)

    def write_terminal(self, codes: str) -> None:
        """Send codes that draw nothing (bell, notification, clipboard) through the driver, between two frames."""
        if self._driver is not None:
            self._driver.write(codes)

    # -- places ---------------------------------------------------------------------------------------------------

    def go(self, place: str, *args: Any, **kwargs: Any) -> None:
        """Go to a place of the table, with the job where it is one of a job."""
        found = PLACES[place]
        if not found.screen:
            self.action_home()
        elif found.then:
            self.push_screen(found.make(*args, **kwargs), lambda job: self._go_on(found.then, job))
        else:
            self._show(self._kept(found) if found.kept else found.make(*args, **kwargs))

    def _kept(self, place: Place) -> Screen[Any]:
        """The screen of a place as it was left; another one where that is shown further down."""
        if not self.is_screen_installed(place.name):
            self.install_screen(place.make(), place.name)
        screen = self.get_screen(place.name)
        return place.make() if screen in self.screen_stack else screen

    def _go_on(self, place: str, job: Path | None) -> None:
        if job is not None:
            self.go(place, job)

    def action_go(self, place: str) -> None:
        """Go to a place of the table."""
        self.go(place)

    def open_results(self, path: Path) -> None:
        """Show a job's results, as its kind has them."""
        from ai_router.kinds import kind_at

        self.go(kind_at(path).results, path)

    def open_run(self, path: Path) -> None:
        """Show a job's run: ours, or another process's."""
        self.go("run", path)

    @property
    def watched(self) -> Path | None:
        """The job whose run is on the screen."""
        return getattr(self.screen, "watched", None) if self.screen_stack else None

    def _show(self, screen: Screen[Any]) -> None:
        """Put a screen on top; of a kind that is shown already, in the place of that one."""
        if type(self.screen) is type(screen):
            self.switch_screen(screen)
        else:
            self.push_screen(screen)

    def action_home(self) -> None:
        """Back to the main menu."""
        while len(self.screen_stack) > 2:
            self.pop_screen()

    # -- what goes wrong ------------------------------------------------------------------------------------------

    def show_error(self, error: BaseException | str, retry: Callable[[], object] | None = None) -> None:
        """Say what went wrong; with `retry` as a question whether to try again. Never raises."""
        from batch.errors import BatchError

        text = str(error)
        if isinstance(error, BaseException) and not isinstance(error, BatchError | OSError | ValueError):
            text = f"{type(error).__name__}: {error}"
        text = harmless(text or type(error).__name__, keep_newlines=True)
        if retry is None:
            self.notify(text, title="Could not do that", severity="error", timeout=ERROR_SECONDS, markup=False)
            return
        from ai_router.tui.dialogs import ConfirmDialog

        def answered(choice: str | None) -> None:
            if choice == "retry":
                retry()

        buttons = [("retry", "Try again", "primary"), ("back", "Back", "")]
        self.push_screen(ConfirmDialog("Could not do that", text, buttons), answered)

    # -- look and keys --------------------------------------------------------------------------------------------

    def apply_theme(self, name: str) -> None:
        """Switch to a theme of the settings; an unknown one is said and `auto` taken."""
        chosen = themes.choose_theme(name)
        if chosen not in self.available_themes:
            self.call_later(self.notify, f"No theme {name!r}; using auto", severity="warning", markup=False)
            chosen = themes.choose_theme(themes.AUTO)
        self.theme = chosen

    def _look_at_themes(self) -> None:
        """Take themes of one's own that came, went or changed."""
        wrong, changed = self._own_themes.look(self, self.workspace.root)
        self._untold += wrong
        while self._untold and self.is_running:
            self.notify(self._untold.pop(0), severity="warning", markup=False)
        if self.theme not in self.available_themes:
            self.apply_theme(self.theme)
        elif changed:
            self._watch_theme(self.theme)

    def begin_theme(self) -> None:
        """Write a file with the colours of now, and use it."""
        try:
            path = begin_theme(self.workspace.root / FOLDER, self.current_theme)
        except OSError as error:
            self.show_error(error)
            return
        self._look_at_themes()
        self.apply_theme(path.stem)
        self.notify(f"{path}: what is saved there is seen at once", markup=False, timeout=10)

    def take_settings(self, settings: Settings) -> None:
        """Work with changed settings from now on."""
        folders_changed = settings.models_dir != self.workspace.settings.models_dir
        self.workspace = replace(self.workspace, settings=settings, withheld=())
        self.apply_theme(settings.theme)
        self.set_keymap(settings.keymap)
        if folders_changed:
            self.refresh_registry()
        self.jobs_changed.publish(None)

    def action_toggle_mouse(self) -> None:
        """Give the mouse to the terminal, whose own selection then works, or take it back."""
        driver = self._driver
        switch = getattr(driver, "_disable_mouse_support" if self._mouse_on else "_enable_mouse_support", None)
        if driver is None or switch is None:
            return
        driver._mouse = True  # the driver's own switches do nothing where it began without a mouse
        switch()
        self._mouse_on = not self._mouse_on
        self.notify("The mouse works here again" if self._mouse_on else "The mouse selects text now; m takes it back")

    def copy_to_clipboard(self, text: str) -> None:
        """Copy what was selected on the screen or in a field, and say how."""
        from ai_router.tui.clipboard import copy_for

        copy_for(self, text)
