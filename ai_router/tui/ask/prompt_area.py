"""Where a prompt is typed."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea


class PromptArea(TextArea):
    """A text field in which enter sends, and ctrl+j makes a new line; what is pasted keeps its lines."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+j,shift+enter", "new_line", show=False),
        Binding("up", "recall", show=False),
        Binding("pageup", "screen.scroll_chat(-1)", show=False),
        Binding("pagedown", "screen.scroll_chat(1)", show=False),
    ]

    class Sent(Message):
        """Enter."""

    class Recalled(Message):
        """Up, in an empty field."""

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Sent())
            return
        await super()._on_key(event)

    def action_new_line(self) -> None:
        """A new line."""
        self.insert("\n")

    def action_recall(self) -> None:
        """Up; in an empty field, the last prompt."""
        if self.text and self.cursor_location[0]:
            self.action_cursor_up()
        else:
            self.post_message(self.Recalled())
