"""The parts of a job's items, with their counts, one of them chosen."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from textual import events
from textual.content import Content
from textual.geometry import Offset
from textual.message import Message
from textual.widget import Widget

from ai_router.tui.widgets.jumping import Target
from ai_router.tui.widgets.text import count

PARTS = ("all", "done", "failed", "pending")
SIGNS = {"all": "≡", "done": "✓", "failed": "✗", "pending": "◌"}
STYLES = {"all": "", "done": "$text-success", "failed": "$text-error", "pending": "$text-muted"}


class PartTabs(Widget):
    """` 1 ≡ all 25   2 ✓ done 17   3 ✗ failed 0   4 ◌ pending 8 `; the chosen one is in brackets."""

    DEFAULT_CSS = """
    PartTabs { height: 1; padding: 0 1; text-wrap: nowrap; }
    """
    ALLOW_SELECT = False

    class Chosen(Message):
        """A part was clicked."""

        def __init__(self, part: str) -> None:
            super().__init__()
            self.part = part

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._counts: Mapping[str, int] = {}
        self._chosen = "all"

    def show(self, counts: Mapping[str, int], chosen: str) -> None:
        """Take new counts."""
        self._counts, self._chosen = counts, chosen
        self.refresh()

    def _tabs(self) -> list[tuple[str, str]]:
        """Part and text of each."""
        tabs = []
        for number, part in enumerate(PARTS, 1):
            text = f"{SIGNS[part]} {part} {count(self._counts.get(part, 0))}"
            tabs.append((part, f"[{number} {text}]" if part == self._chosen else f" {number} {text} "))
        return tabs

    def render(self) -> Content:
        """The line."""
        parts: list[tuple[str, str]] = []
        for part, text in self._tabs():
            style = "bold" if part == self._chosen else ""
            parts += [(text, f"{style} {STYLES[part]}".strip()), (" ", "")]
        return Content.assemble(*parts)

    def jump_targets(self) -> list[Target]:
        """The parts: each is chosen."""
        targets, start = [], 0
        for part, text in self._tabs():
            targets.append(Target(Offset(start, 0), partial(self.post_message, self.Chosen(part))))
            start += len(text) + 1
        return targets

    def on_click(self, event: events.Click) -> None:
        """Choose what was clicked."""
        offset = event.get_content_offset(self)
        end = 0
        for part, text in self._tabs():
            end += len(text) + 1
            if offset is not None and offset.x < end:
                self.post_message(self.Chosen(part))
                return
