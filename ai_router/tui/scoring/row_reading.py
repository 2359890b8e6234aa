"""One scored row, whole, with its differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from textual.app import ComposeResult
from textual.binding import BindingType

from ai_router.tui.actions import bind, shown
from ai_router.tui.clipboard import copy_from
from ai_router.tui.scoring.spans import RowText
from ai_router.tui.scrolling import ScrollingScreen
from ai_router.tui.widgets.text import count
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


class RowReadingScreen(ScrollingScreen[int]):
    """The text of one row of a list; `n` and `p` go through the list. Answers with the place it ended at."""

    STEP = 2
    BINDINGS: ClassVar[list[BindingType]] = [
        *bind("reading.next", "reading.previous", "reading.next_item", "reading.previous_item"),
        *shown("evaluation.marks", "evaluation.copy"),
        *bind("evaluation.copy_json", "app.back"),
    ]

    def __init__(self, origin: RowsToRead, rows: Sequence[int], place: int, crumbs: tuple[str, ...]) -> None:
        super().__init__()
        self._origin, self._rows, self.place = origin, rows, place
        self._above = crumbs
        self.crumbs = crumbs
        self._found: tuple[int, Any] | None = None

    def compose_body(self) -> ComposeResult:
        """The text."""
        yield TextView(id="reading", classes="panel")

    def on_mount(self) -> None:
        """Read it."""
        self.query_one("#reading").focus()
        self._read()

    def on_resize(self) -> None:
        """Texts may fit beside their names now, or not any more."""
        self.call_after_refresh(self._show)

    def _read(self) -> None:
        row = self._rows[self.place]
        self.context_text = f"{count(self.place + 1)} of {count(len(self._rows))}"
        self.in_thread(lambda: (row, self._origin.read_row(row)), self._take, busy="reading")

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
            view.border_title = text.title
            view.border_subtitle = text.subtitle
            self.crumbs = (*self._above, text.number)

    def action_back(self) -> None:
        """Back to the list, at this place."""
        self.dismiss(self.place)

    def action_next(self) -> None:
        """The next row."""
        self._go(self.place + 1)

    action_next_hit = action_next  # nothing is looked for here

    def action_previous(self) -> None:
        """The row before."""
        self._go(self.place - 1)

    def _go(self, place: int) -> None:
        if 0 <= place < len(self._rows):
            self.place = place
            self._read()
        else:
            self.notify("That was the last row" if place > 0 else "This is the first row", timeout=2)

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
