"""A field for one prompt that takes a paste of many."""

from __future__ import annotations

from textual import events
from textual.message import Message
from textual.widgets import Input


class PromptInput(Input):
    """One line; a paste with line breaks is sent as `Pasted`, a prompt a line, together with what was typed before."""

    class Pasted(Message):
        """Several prompts at once; blank lines are left out."""

        def __init__(self, prompts: list[str]) -> None:
            super().__init__()
            self.prompts = prompts

    async def _on_key(self, event: events.Key) -> None:
        """Enter empties the field at once: without bracketed paste, lines come faster than messages go."""
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            text, self.value = self.value, ""
            self.post_message(self.Submitted(self, text))

    def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        self.take(event.text)

    def action_paste(self) -> None:
        """Paste the clipboard of the program."""
        self.take(self.app.clipboard)

    def take(self, text: str) -> None:
        """Put a text where the cursor is; one with line breaks leaves as prompts."""
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        start, end = sorted(self.selection)
        whole = self.value[:start] + text + self.value[end:]
        if "\n" not in text.strip("\n"):
            self.value = whole.replace("\n", "")
            self.cursor_position = start + len(text.replace("\n", ""))
            return
        self.value = ""
        self.post_message(self.Pasted([line.strip() for line in whole.split("\n") if line.strip()]))
