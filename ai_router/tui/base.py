"""What all screens share: the line at the top, the keys at the bottom, the way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.reactive import reactive
from textual.screen import Screen

from ai_router.tui.actions import ACTIONS, bind
from ai_router.tui.services import Served
from ai_router.tui.widgets.backdrop import Backdrop, BackVertical
from ai_router.tui.widgets.chrome import Breadcrumb, KeyFooter
from ai_router.tui.widgets.keys_panel import KeysPanel
from ai_router.tui.widgets.runs_strip import Running, RunsStrip

T = TypeVar("T")

NARROW, WIDE = "-narrow", "-wide"
SHORT, TALL = "-short", "-tall"
SLIM_STEPS: list[tuple[int, str]] = [(0, "-slim"), (60, NARROW), (110, WIDE)]  # of screens with two things in a line
BUSY_AFTER = 0.1
FIRST = ("", 0)  # what is read when the first frame is drawn


class BaseScreen(Served, Backdrop, Screen[T]):
    """A full screen. Subclasses set `crumbs` and `context_text` and implement `compose_body`.

    The classes `-narrow`/`-wide` (from 110 cells) and `-short`/`-tall` (from 32 lines) are there for the styles.
    """

    AUTO_FOCUS: ClassVar[str | None] = "*"
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, NARROW), (110, WIDE)]  # noqa: RUF012
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, SHORT), (32, TALL)]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [*bind("app.back")]

    crumbs: reactive[tuple[str, ...]] = reactive((), init=False)
    context_text: reactive[str] = reactive("", init=False)

    watched: Path | None = None  # the job whose run this screen shows

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[str, int] = {}
        self._busy: dict[str, str] = {}  # by group of work
        self._under_way: Counter[str] = Counter()
        self._awaited: set[tuple[str, int]] = set()  # calls, by group and number, that keys wait for

    def compose(self) -> ComposeResult:
        """Top line, body, keys."""
        # Before the first frame, which would be of another layout else.
        width, height = self.app.size
        for size, steps in ((width, self.HORIZONTAL_BREAKPOINTS), (height, self.VERTICAL_BREAKPOINTS)):
            chosen = [name for least, name in sorted(steps or ()) if size >= least][-1:]
            self.add_class(*chosen)
        yield Breadcrumb()
        with BackVertical(id="body"):
            yield from self.compose_body()
        strip = RunsStrip()
        strip.set_reactive(RunsStrip.jobs, self._others(self.services.in_sight.running))
        strip.set_reactive(RunsStrip.waiting, self.services.turns.waiting)
        strip.display = bool(strip.jobs)
        yield strip
        yield KeyFooter()
        if self.services.keys_shown:
            yield KeysPanel()

    def on_screen_resume(self) -> None:
        """The panel of keys may have come or gone meanwhile."""
        self.show_keys()

    @on(events.Resize)
    def _keep_focus_in_sight(self) -> None:
        """What one is in stays in sight, where there is less room than before."""
        if self.focused is not None:
            self.call_after_refresh(self.call_after_refresh, self._show_focus)  # laid out by its classes, then anew

    def _show_focus(self) -> None:
        if self.alive and self.focused is not None:
            self.focused.scroll_visible(animate=False)

    def show_keys(self) -> None:
        """Show the panel of keys, or take it away, as it is wanted."""
        panels = self.query(KeysPanel)
        if self.services.keys_shown and not panels:
            self.mount(KeysPanel())
        elif not self.services.keys_shown and panels:
            panels.remove()

    def show_runs(self, running: Sequence[Running], waiting: int) -> None:
        """Bring the line of running jobs to this moment; the one that fills the screen is left out."""
        for strip in self.query(RunsStrip):
            strip.jobs, strip.waiting = self._others(running), waiting

    def _others(self, running: Sequence[Running]) -> tuple[Running, ...]:
        return tuple(job for job in running if job.path != self.watched)

    def compose_body(self) -> ComposeResult:
        """What stands between the two lines."""
        yield from ()

    def watch_crumbs(self, crumbs: tuple[str, ...]) -> None:
        """Keep the top line."""
        for top in self.query(Breadcrumb):
            top.crumbs = crumbs

    def watch_context_text(self, text: str) -> None:
        """Keep the top line."""
        for top in self.query(Breadcrumb):
            top.context = text

    def keys_of(self, *ids: str) -> list[tuple[str, str]]:
        """The key, as it is now, and the label of some actions; those that cannot be done now are left out."""
        found: dict[str, tuple[str, str]] = {}
        for active in self.active_bindings.values():
            name = active.binding.id or ""
            if name in ids and name not in found:
                found[name] = self.app.get_key_display(active.binding), ACTIONS[name].label
        return [found[name] for name in ids if name in found]

    def action_back(self) -> None:
        """To the screen below; the first screen stays."""
        if len(self.app.screen_stack) > 2:
            self.dismiss()

    def in_thread(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], object],
        *,
        busy: str = "",
        group: str = "read",
        failed: Callable[[Exception], object] | None = None,
        keys_wait: bool = False,
    ) -> None:
        """Do slow work in a thread and hand its result to `done` here; the last call of a `group` wins.

        `busy` is shown in the top line while it takes longer than a moment. An error goes to `failed`, else it is
        shown as a message. With `keys_wait` what is typed meanwhile is for what `done` shows.
        """
        self._calls[group] = number = self._calls.get(group, 0) + 1

        def deliver(call: Callable[[Any], object], result: Any) -> None:
            self._under_way[group] -= 1
            self._awaited.discard((group, number))
            # The screen may be gone by now, or a later call of the group under way.
            if self.alive and self._calls[group] == number:
                self._busy.pop(group, None)
                self._show_busy()
                call(result)

        def run() -> None:
            try:
                result = work()
            except Exception as error:  # whatever fails behind the screen is a message on it
                self.app.call_later(deliver, failed or self.services.show_error, error)
            else:
                self.app.call_later(deliver, done, result)

        self._under_way[group] += 1
        if keys_wait:
            self._awaited.add((group, number))
        if busy:
            self._busy[group] = busy
            self.set_timer(BUSY_AFTER, self._show_busy)
        self.run_worker(run, thread=True, group=group, exit_on_error=False)

    def begin_reading(self, read: Callable[[], object]) -> None:
        """Read what the screen is there for, once it is drawn: a thread would take its time from the frame."""
        self._awaited.add(FIRST)

        def begin() -> None:
            self._awaited.discard(FIRST)
            read()

        self.call_after_refresh(begin)

    def waits_for(self, key: str) -> bool:
        """Whether a key has to wait: what it is for is not read yet."""
        return bool(self._awaited)

    def working(self, group: str) -> bool:
        """Whether a thread of this group is under way: what looks again and again waits for its last look."""
        return self._under_way[group] > 0

    def _deliver(self, call: Callable[[], object]) -> None:
        """From a thread: run something on the app's loop, if this screen is still there by then."""

        def guarded() -> None:
            if self.alive:
                call()

        self.app.call_later(guarded)

    def _show_busy(self) -> None:
        for top in self.query(Breadcrumb):
            top.busy = next(iter(self._busy.values()), "")
