"""A choice of a few words in one line: arrows, space, number keys or the mouse."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from ai_router.tui.widgets.text import ELLIPSIS


class ChoiceLine(Widget, can_focus=True):
    """`● continue  ○ stop  ○ threshold`; `value` is the chosen word. Words that do not fit are left out: `…`."""

    DEFAULT_CSS = """
    ChoiceLine { height: 1; width: auto; text-wrap: nowrap; }
    """
    ALLOW_SELECT = False
    GAP = "  "

    value: reactive[str] = reactive("")

    class Changed(Message):
        """Another word was chosen."""

        def __init__(self, choice: ChoiceLine) -> None:
            super().__init__()
            self.choice = choice

        @property
        def control(self) -> ChoiceLine:
            """The choice."""
            return self.choice

    def __init__(self, choices: Sequence[str], value: str = "", *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.choices = tuple(choices)
        self.set_reactive(ChoiceLine.value, value if value in self.choices else self.choices[0])

    def watch_value(self, old: str, new: str) -> None:
        """Tell whoever holds this."""
        if old != new:
            self.post_message(self.Changed(self))

    def render(self) -> Content:
        """Filled circle before the chosen one; reversed while it has the focus."""
        first, end = self._shown()
        parts = [Content.styled(ELLIPSIS, "$text-muted")] * (first > 0)
        for choice in self.choices[first:end]:
            chosen = choice == self.value
            style = ("reverse" if self.has_focus else "bold") if chosen else "$text-muted"
            parts.append(Content.styled(f"{'●' if chosen else '○'} {choice}", style))
        parts += [Content.styled(ELLIPSIS, "$text-muted")] * (end < len(self.choices))
        return Content(self.GAP).join(parts)

    def _shown(self) -> tuple[int, int]:
        """Which of the words: as many whole ones as there is room for, the chosen one among them."""
        width, place, count = self.content_size.width, self.choices.index(self.value), len(self.choices)
        for first in range(place + 1):
            for end in range(count, place, -1):
                cells = [len(choice) + 2 for choice in self.choices[first:end]] + [1] * ((first > 0) + (end < count))
                if sum(cells) + len(self.GAP) * (len(cells) - 1) <= width:
                    return first, end
        return place, place + 1

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """All of it."""
        return sum(len(choice) + 2 for choice in self.choices) + len(self.GAP) * (len(self.choices) - 1)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One line."""
        return 1

    def on_key(self, event: events.Key) -> None:
        """Left and right, space for the next one, a number for the one at that place."""
        place = self.choices.index(self.value)
        if event.key in ("right", "l", "space"):
            place = (place + 1) % len(self.choices)
        elif event.key in ("left", "h"):
            place = (place - 1) % len(self.choices)
        elif event.key.isdigit() and 0 < int(event.key) <= len(self.choices):
            place = int(event.key) - 1
        else:
            return
        event.stop()
        event.prevent_default()
        self.value = self.choices[place]

    def on_click(self, event: events.Click) -> None:
        """The word under the pointer."""
        first, end_of_shown = self._shown()
        position = 1 + len(self.GAP) if first else 0
        for choice in self.choices[first:end_of_shown]:
            end = position + len(choice) + 2
            if position <= event.x - self.gutter.left < end:
                self.value = choice
            position = end + len(self.GAP)
