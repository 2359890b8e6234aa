"""Screens of one long text: the keys that scroll it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, TypeVar

from textual.binding import BindingType

from ai_router.tui.actions import bind
from ai_router.tui.base import BaseScreen

T = TypeVar("T")


class ScrollingScreen(BaseScreen[T]):
    """Scrolls its widget `#reading`."""

    CSS_PATH = Path(__file__).with_suffix(".tcss")  # subclasses stand in other folders
    BINDINGS: ClassVar[list[BindingType]] = [
        *bind("reading.down", "reading.up", "reading.page_down", "reading.page_up", "reading.half_down"),
        *bind("reading.half_up", "reading.first", "reading.last"),
    ]
    STEP = 1  # lines for one press of an arrow

    def action_scroll_text(self, lines: int) -> None:
        """Scroll by a press of an arrow."""
        self.query_one("#reading").scroll_relative(y=lines * self.STEP, animate=False)

    def action_scroll_page(self, pages: float) -> None:
        """Scroll by a screenful."""
        box = self.query_one("#reading")
        box.scroll_relative(y=round(pages * max(2, box.size.height - 2)), animate=False)

    def action_scroll_top(self) -> None:
        """To the beginning."""
        self.query_one("#reading").scroll_home(animate=False)

    def action_scroll_bottom(self) -> None:
        """To the end."""
        self.query_one("#reading").scroll_end(animate=False)
