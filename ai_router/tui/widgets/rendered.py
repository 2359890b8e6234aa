"""Markdown from a model, drawn: code in colours, tables, lists. Links are text: nothing is followed or fetched."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Markdown

from ai_router.tui.widgets.text import harmless


class Rendered(VerticalScroll):
    """A box that scrolls over a text as Markdown."""

    DEFAULT_CSS = """
    Rendered { height: 1fr; }
    Rendered > Markdown { padding: 0; margin: 0; background: transparent; }
    """

    def __init__(self, text: str, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._text = harmless(text, keep_newlines=True)

    def compose(self) -> ComposeResult:
        """The text."""
        yield Markdown(self._text, open_links=False)


def code_blocks(text: str) -> list[tuple[str, str]]:
    """The fenced code of a text: language and code of each, in order."""
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").parse(text)
    return [(token.info.strip().partition(" ")[0], token.content) for token in tokens if token.type == "fence"]
