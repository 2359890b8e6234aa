"""The steps from prompts to a running job: where they end, all of them go."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ai_router.tui.screens.base import RoomScreen


class FlowScreen(RoomScreen[None]):
    """A step on the way to a run. `steps` is how the crumbs name the ways here."""

    steps: ClassVar[tuple[str, ...]] = ()

    def enter_run(self, path: Path) -> None:
        """Show the run, with the place before the first step behind it."""
        app = self.room
        with app.batch_update():
            while isinstance(app.screen, FlowScreen):
                app.pop_screen()
            app.open_run(path)
