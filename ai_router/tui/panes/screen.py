"""A screen with panes: the keys that arrange them."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual.binding import BindingType

from ai_router.tui.actions import bind
from ai_router.tui.base import BaseScreen
from ai_router.tui.panes.panes import Panes

T = TypeVar("T")


class PaneScreen(BaseScreen[T]):
    """Its body holds one `Panes`; `panes_changed` is called when other panes are shown, or of another size."""

    BINDINGS: ClassVar[list[BindingType]] = bind("panes.zoom", "panes.mode", "panes.wider", "panes.narrower")

    @property
    def panes(self) -> Panes:
        """The panes of the screen."""
        return self.query_one(Panes)

    def panes_changed(self) -> None:
        """Show what stands in panes that were hidden before."""

    def action_zoom(self) -> None:
        """The pane with the focus alone, or all of them again."""
        self.panes.zoom()

    def action_panes(self) -> None:
        """Arrange the panes."""
        from ai_router.tui.panes.mode import PanesMode

        self.app.push_screen(PanesMode(self.panes))

    def action_wider(self) -> None:
        """More room for the pane with the focus."""
        self.panes.grow(1)

    def action_narrower(self) -> None:
        """Less room for the pane with the focus."""
        self.panes.grow(-1)
