"""The steps from prompts to a running job: where they end, all of them go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from ai_router.presets import Preset
from ai_router.tui.base import BaseScreen


class FlowScreen(BaseScreen[None]):
    """A step on the way to a run."""

    used = False  # whether the way has come to its end: a run has begun with what was chosen here

    typed: Mapping[str, Preset] = MappingProxyType({})  # options as they were left on this way, by the model

    @property
    def first_step(self) -> FlowScreen:
        """Where this way began: what is kept there lasts as long as the way."""
        return next((step for step in self.app.screen_stack if isinstance(step, FlowScreen)), self)

    def deliver(self, call: Callable[[], None]) -> None:
        """Run something on the app's loop, from a thread, if this screen is still there by then."""

        def guarded() -> None:
            if self.alive:
                call()

        self.app.call_later(guarded)

    def enter_run(self, path: Path) -> None:
        """Show the run, with the place before the first step behind it."""
        with self.app.batch_update():
            self.leave()
            self.services.open_run(path)

    def leave(self) -> None:
        """Back to the place before the first step."""
        while isinstance(step := self.app.screen, FlowScreen):
            step.used = True
            self.app.pop_screen()
