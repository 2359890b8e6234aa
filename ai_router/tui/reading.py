"""A screen that shows one text of a list, whole, and goes through the list."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from textual.app import ComposeResult

from ai_router.tui.scrolling import ScrollingScreen
from ai_router.tui.widgets.text import count
from ai_router.tui.widgets.text_view import TextView


class ListReadingScreen(ScrollingScreen[int]):
    """`n` and `p` go through the list. Answers with the place it ended at; `thing` is what one of them is called."""

    STEP = 2
    thing = "item"

    def __init__(self, ids: Sequence[int], place: int, crumbs: tuple[str, ...]) -> None:
        super().__init__()
        self.ids, self.place = ids, place
        self._above = self.crumbs = crumbs

    def compose_body(self) -> ComposeResult:
        """The text."""
        yield TextView(id="reading", classes="panel")

    def on_mount(self) -> None:
        """Read it."""
        self.query_one("#reading").focus()
        self.begin_reading(self._read)

    @abstractmethod
    def read(self, item: int) -> None:
        """Read one, in a thread, and show it then."""

    def _read(self) -> None:
        self.show_place()
        self.read(self.ids[self.place])

    def show_place(self) -> None:
        """Say which one of how many it is."""
        self.context_text = f"{count(self.place + 1)} of {count(len(self.ids))}"

    def action_back(self) -> None:
        """Back to the list, at this place."""
        self.dismiss(self.place)

    def action_next(self) -> None:
        """The next one."""
        self._go(self.place + 1)

    def action_previous(self) -> None:
        """The one before."""
        self._go(self.place - 1)

    action_next_hit = action_next  # where nothing can be looked for

    def _go(self, place: int) -> None:
        if 0 <= place < len(self.ids):
            self.place = place
            self._read()
        else:
            said = f"That was the last {self.thing}" if place > 0 else f"This is the first {self.thing}"
            self.notify(said, timeout=2)
