"""The documentation, a section at a time, opened at what had the focus."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input

from ai_router.tui.actions import bind
from ai_router.tui.manual import DEEPEST, Section, heading_for, sections
from ai_router.tui.panes.layout import Pane
from ai_router.tui.panes.panes import Panes
from ai_router.tui.panes.screen import PaneScreen
from ai_router.tui.widgets.find_input import FilterInput
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.text_view import TextView
from ai_router.tui.widgets.wrapping import Block

TOPICS, TEXT = "docs-topics", "docs-text"
PANES = (Pane(TOPICS, "topics", 40, 1, 20, tall=35), Pane(TEXT, "text", 80, 0, 30, tall=65))


class DocsScreen(PaneScreen[None]):
    """Topics beside the text of one; `/` finds those that hold some words."""

    CSS = """
    #docs-find { display: none; padding: 0 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bind("docs.find", "docs.next", "docs.previous", "docs.keys", "app.back")

    def __init__(self, about: Screen[Any], title: str = "") -> None:
        super().__init__()
        self.crumbs = (*getattr(about, "crumbs", ()), "Documentation")
        self._about = about
        self._wanted = title or heading_for(about)
        self._all: list[Section] = []
        self._found: list[Section] = []
        self._shown: Section | None = None

    def compose_body(self) -> ComposeResult:
        """Field, topics, text."""
        yield FilterInput(placeholder="words of what you look for", id="docs-find")
        with Panes("docs", PANES):
            topics = VirtualTable([Column("Topic", flex=1)], self._rows, empty="None holds that.", id=TOPICS,
                                  classes="panel")  # fmt: skip
            topics.border_title = "Topics"
            yield topics
            yield TextView(id=TEXT, classes="panel")

    def on_mount(self) -> None:
        """Read the files in a thread."""
        self.in_thread(sections, self._take, keys_wait=True)

    def _rows(self, start: int, stop: int) -> list[Row]:
        page = self._found[start:stop]
        return [((f"{'· ' * (s.level == DEEPEST)}{s.title}", "strong" if s.level == 1 else ""),) for s in page]

    def _take(self, found: list[Section]) -> None:
        self._all = found
        self._find("")
        places = [place for place, section in enumerate(found) if section.title == self._wanted]
        self.query_one(VirtualTable).move_cursor(places[0] if places else 0)
        self._show()
        self.panes.focus_pane(TOPICS if self.panes.shows(TOPICS) else TEXT)

    def _find(self, words: str) -> None:
        wanted = words.casefold().split()
        self._found = [s for s in self._all if all(word in s.text.casefold() for word in wanted)]
        self.query_one(VirtualTable).set_count(len(self._found), keep=False)

    # -- the text -------------------------------------------------------------------------------------------------

    @on(VirtualTable.Highlighted)
    def _moved(self) -> None:
        self._show()

    @on(VirtualTable.Selected)
    def _selected(self) -> None:
        self.panes.focus_pane(TEXT)

    def _show(self) -> None:
        cursor = self.query_one(VirtualTable).cursor
        section = self._found[cursor] if cursor < len(self._found) else None
        if section is not None and section != self._shown:
            self._shown = section
            self.context_text = section.file
            view = self.query_one(f"#{TEXT}", TextView)
            view.border_title = Content(section.title)
            view.show(Block(section.text, markdown=True, flows=True))

    # -- keys -----------------------------------------------------------------------------------------------------

    def action_find(self) -> None:
        """Type words."""
        field = self.query_one("#docs-find", Input)
        field.display = True
        field.focus()

    @on(Input.Changed, "#docs-find")
    def _typed(self, event: Input.Changed) -> None:
        self._find(event.value)
        self._show()

    @on(Input.Submitted, "#docs-find")
    def _to_topics(self) -> None:
        self.panes.focus_pane(TOPICS if self.panes.shows(TOPICS) else TEXT)

    def _go(self, step: int) -> None:
        table = self.query_one(VirtualTable)
        table.move_cursor(table.cursor + step)

    def action_next_section(self) -> None:
        """The next topic."""
        self._go(1)

    def action_previous_section(self) -> None:
        """The topic before."""
        self._go(-1)

    def action_keys(self) -> None:
        """All keys of the screen that this was opened from."""
        from ai_router.tui.help import HelpScreen

        self.app.push_screen(HelpScreen(self._about))

    def action_back(self) -> None:
        """Out of the search first."""
        field = self.query_one("#docs-find", Input)
        if field.display:
            field.value, field.display = "", False
            self._to_topics()
        else:
            super().action_back()
