"""The kinds of items of a job, with their counts, one of them chosen."""

from __future__ import annotations

from collections.abc import Mapping

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from ai_router.tui.widgets.text import count

KINDS = ("all", "done", "failed", "pending")
SIGNS = {"all": "≡", "done": "✓", "failed": "✗", "pending": "◌"}
STYLES = {"all": "", "done": "$text-success", "failed": "$text-error", "pending": "$text-muted"}


class KindTabs(Widget):
    """` 1 ≡ all 25   2 ✓ done 17   3 ✗ failed 0   4 ◌ pending 8 `; the chosen one is in brackets."""

    DEFAULT_CSS = """
    KindTabs { height: 1; padding: 0 1; text-wrap: nowrap; }
    """
    ALLOW_SELECT = False

    class Chosen(Message):
        """A kind was clicked."""

        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind = kind

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._counts: Mapping[str, int] = {}
        self._chosen = "all"

    def show(self, counts: Mapping[str, int], chosen: str) -> None:
        """Take new counts."""
        self._counts, self._chosen = counts, chosen
        self.refresh()

    def _tabs(self) -> list[tuple[str, str]]:
        """Kind and text of each."""
        tabs = []
        for number, kind in enumerate(KINDS, 1):
            text = f"{SIGNS[kind]} {kind} {count(self._counts.get(kind, 0))}"
            tabs.append((kind, f"[{number} {text}]" if kind == self._chosen else f" {number} {text} "))
        return tabs

    def render(self) -> Content:
        """The line."""
        parts: list[tuple[str, str]] = []
        for kind, text in self._tabs():
            style = "bold" if kind == self._chosen else ""
            parts += [(text, f"{style} {STYLES[kind]}".strip()), (" ", "")]
        return Content.assemble(*parts)

    def on_click(self, event: events.Click) -> None:
        """Choose what was clicked."""
        offset = event.get_content_offset(self)
        end = 0
        for kind, text in self._tabs():
            end += len(text) + 1
            if offset is not None and offset.x < end:
                self.post_message(self.Chosen(kind))
                return
