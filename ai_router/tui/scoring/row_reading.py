"""One scored row, whole, with its differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from textual.binding import BindingType
from textual.content import Content

from ai_router.tui.actions import bind, shown
from ai_router.tui.clipboard import copy_from
from ai_router.tui.reading import ListReadingScreen
from ai_router.tui.scoring.spans import RowText
from ai_router.tui.widgets.text_view import TextView


class RowsToRead(Protocol):
    """A screen that rows are read from."""

    marks: bool | None

    @property
    def with_marks(self) -> bool:
        """Whether differences are marked by more than colours."""

    def read_row(self, row: int) -> Any:
        """Read one row; for a thread."""

    def row_text(self, row: int, data: Any, width: int) -> RowText:
        """It as text."""


class RowReadingScreen(ListReadingScreen):
    """The text of one scored row."""

    thing = "row"
    BINDINGS: ClassVar[list[BindingType]] = [
        *bind("reading.next", "reading.previous", "reading.next_item", "reading.previous_item"),
        *shown("evaluation.marks", "evaluation.copy"),
        *bind("evaluation.copy_json", "app.back"),
    ]

    def __init__(self, origin: RowsToRead, rows: Sequence[int], place: int, crumbs: tuple[str, ...]) -> None:
        super().__init__(rows, place, crumbs)
        self._origin = origin
        self._found: tuple[int, Any] | None = None

    def on_resize(self) -> None:
        """Texts may fit beside their names now, or not any more."""
        self.call_after_refresh(self._show)

    def read(self, item: int) -> None:
        """Read a row of the screen it is from."""
        self.in_thread(lambda: (item, self._origin.read_row(item)), self._take, busy="reading", keys_wait=True)

    def _take(self, found: tuple[int, Any]) -> None:
        self._found = found
        self._show(home=True)

    def _text(self) -> RowText | None:
        if self._found is None or not self.alive:
            return None
        return self._origin.row_text(*self._found, max(20, self.size.width - 5))

    def _show(self, *, home: bool = False) -> None:
        if (text := self._text()) is not None:
            view = self.query_one(TextView)
            view.show(*text.blocks, home=home)
            view.border_title = Content(text.title)
            view.border_subtitle = Content(text.subtitle)
            self.crumbs = (*self._above, text.number)

    def action_marks(self) -> None:
        """Marks on or off."""
        self._origin.marks = not self._origin.with_marks
        self._show()

    def action_copy(self) -> None:
        """Copy the prediction, or the error."""
        if (text := self._text()) is not None:
            copy_from(self, lambda: text.copied)

    def action_copy_json(self) -> None:
        """Copy the row."""
        if (text := self._text()) is not None:
            copy_from(self, lambda: text.json)
