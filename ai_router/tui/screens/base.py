"""What all screens share: the line at the top, the keys at the bottom, the way back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.reactive import reactive
from textual.screen import Screen

from ai_router.tui.actions import bind
from ai_router.tui.widgets.chrome import Breadcrumb, KeyFooter

if TYPE_CHECKING:
    from ai_router.tui.app import RouterApp

T = TypeVar("T")

NARROW, WIDE = "-narrow", "-wide"
SHORT, TALL = "-short", "-tall"


class RoomScreen(Screen[T]):
    """A full screen. Subclasses set `crumbs` and `context_text` and implement `compose_body`.

    The classes `-narrow`/`-wide` (from 110 cells) and `-short`/`-tall` (from 32 lines) are there for the styles.
    """

    AUTO_FOCUS: ClassVar[str | None] = "*"
    HORIZONTAL_BREAKPOINTS = [(0, NARROW), (110, WIDE)]
    VERTICAL_BREAKPOINTS = [(0, SHORT), (32, TALL)]
    BINDINGS: ClassVar[list[BindingType]] = [*bind("app.back")]

    crumbs: reactive[tuple[str, ...]] = reactive((), init=False)
    context_text: reactive[str] = reactive("", init=False)

    @property
    def room(self) -> RouterApp:
        """The app, with its own type."""
        return cast("RouterApp", self.app)

    def compose(self) -> ComposeResult:
        """Top line, body, keys."""
        top = Breadcrumb()
        top.set_reactive(Breadcrumb.crumbs, self.crumbs)
        top.set_reactive(Breadcrumb.context, self.context_text)
        yield top
        with Vertical(id="body"):
            yield from self.compose_body()
        yield KeyFooter()

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

    def action_back(self) -> None:
        """To the screen below; the first screen stays."""
        if len(self.app.screen_stack) > 2:
            self.dismiss()

    def in_thread(
        self, work: Callable[[], Any], done: Callable[[Any], None], *, group: str = "read", exclusive: bool = True
    ) -> None:
        """Do slow reading in a thread and hand its result to `done` here; errors are shown, not raised."""

        def run() -> None:
            try:
                result = work()
            except Exception as error:  # every failure of a reader is a message on the screen
                self._deliver(partial(self.room.show_error, error))
            else:
                self._deliver(partial(done, result))

        self.run_worker(run, thread=True, group=group, exclusive=exclusive, exit_on_error=False)

    def _deliver(self, call: Callable[[], object]) -> None:
        """Run something on the app's loop, if this screen is still there by then."""

        def guarded() -> None:
            if self.is_attached:
                call()

        self.app.call_later(guarded)
