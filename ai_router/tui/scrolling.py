"""Screens of one long text: the keys that scroll it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, TypeVar

from textual.binding import BindingType
from textual.widget import Widget

from ai_router.tui.actions import bind
from ai_router.tui.base import BaseScreen

T = TypeVar("T")


class ScrollingScreen(BaseScreen[T]):
    """Scrolls its widget `#reading`, or what `scroller` says."""

    CSS_PATH = Path(__file__).with_suffix(".tcss")  # subclasses stand in other folders
    BINDINGS: ClassVar[list[BindingType]] = [
        *bind("reading.down", "reading.up", "reading.page_down", "reading.page_up", "reading.half_down"),
        *bind("reading.half_up", "reading.first", "reading.last"),
    ]
    STEP = 1  # lines for one press of an arrow

    @property
    def scroller(self) -> Widget:
        """What is scrolled."""
        return self.query_one("#reading")

    def action_scroll_text(self, lines: int) -> None:
        """Scroll by a press of an arrow."""
        self.scroller.scroll_relative(y=lines * self.STEP, animate=False)

    def action_scroll_page(self, pages: float) -> None:
        """Scroll by a screenful."""
        box = self.scroller
        box.scroll_relative(y=round(pages * max(2, box.size.height - 2)), animate=False)

    def action_scroll_top(self) -> None:
        """To the beginning."""
        self.scroller.scroll_home(animate=False)

    def action_scroll_bottom(self) -> None:
        """To the end."""
        self.scroller.scroll_end(animate=False)
