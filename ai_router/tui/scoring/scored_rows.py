"""What the screens of scored rows share: kinds, table, search, the text of a row, copies."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widgets import Input

from ai_router.tui.actions import bind
from ai_router.tui.base import BaseScreen
from ai_router.tui.clipboard import copy_from
from ai_router.tui.results.pages import PageReader, Rows, RowSearch
from ai_router.tui.scoring.row_reading import RowReadingScreen
from ai_router.tui.scoring.spans import RowText
from ai_router.tui.widgets.find_input import FindInput
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.tabs import CountTabs, Tab
from ai_router.tui.widgets.text import count, plural
from ai_router.tui.widgets.text_view import TextView

NOT_FOUND = "Nothing holds that text.\n\nEscape ends the search."
ROOMY = 120  # cells from which on verdicts are written out


class ScoredRowsScreen(BaseScreen[None]):
    """Scores above the rows they come from. Subclasses score in a thread and say what a row is."""

    CSS_PATH = "scored_rows.tcss"
    AUTO_FOCUS = "#rows"
    VERTICAL_BREAKPOINTS = [(0, "-least"), (14, "-tiny"), (21, "-short"), (32, "-tall")]  # noqa: RUF012 - as the base has it
    BINDINGS: ClassVar[list[BindingType]] = [
        *bind("evaluation.search", "evaluation.compare", "evaluation.options", "evaluation.export", "evaluation.kind"),
        *bind("evaluation.marks", "evaluation.about", "evaluation.copy", "evaluation.copy_json", "evaluation.scores"),
        *bind("app.back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.tab = "all"
        self.marks: bool | None = None  # None: where there are no colours
        self._shown: Sequence[int] = range(0)
        self._search: RowSearch | None = None
        self._pages: PageReader[Any] | None = None
        self._text_of: tuple[int, Any] | None = None  # the row in the panel
        self._text_id: int | None = None

    def compose_body(self) -> ComposeResult:
        """Tabs, search, scores, rows, text."""
        yield CountTabs(id="tabs")
        yield FindInput("text of a row", id="scored-search")
        with Vertical(id="scored"):
            with Container(id="scored-columns"):
                yield from self.compose_scores()
            table = VirtualTable([], self._page, empty="Opening…", id="rows", classes="panel")
            table.border_title = "Rows"
            yield table
            text = TextView(id="row-text", classes="panel")
            text.border_title = "Text"
            yield text

    def on_unmount(self) -> None:
        """End reading."""
        self.close_pages()
        if self._search is not None:
            self._search.stop()

    def on_resize(self) -> None:
        """Columns and text for this width."""
        self.call_after_refresh(self._resized)

    def _resized(self) -> None:
        if self.alive:
            self.table.columns = self.columns(self.size.width)
            self.table.refresh_rows()
            self._show_again()

    # -- what subclasses say --------------------------------------------------------------------------------------

    @abstractmethod
    def compose_scores(self) -> ComposeResult:
        """The tables of scores."""

    @abstractmethod
    def tabs(self) -> Sequence[Tab]:
        """The kinds of rows."""

    @abstractmethod
    def tab_count(self, name: str) -> int:
        """How many rows there are of a kind."""

    @abstractmethod
    def select(self, name: str) -> Sequence[int]:
        """The rows of a kind."""

    @abstractmethod
    def id_at(self, row: int) -> int:
        """What the row is read by."""

    @abstractmethod
    def opened(self) -> AbstractContextManager[Rows[Any]]:
        """Reads what some ids stand for, whole."""

    @abstractmethod
    def opened_short(self) -> AbstractContextManager[Rows[Any]]:
        """The same without the length of the texts."""

    @abstractmethod
    def columns(self, width: int) -> list[Column]:
        """The table's columns on a screen of this width."""

    @abstractmethod
    def cells(self, row: int, data: Any) -> Row:
        """A row of the table."""

    @abstractmethod
    def row_text(self, row: int, data: Any, width: int) -> RowText:
        """A row to read."""

    @abstractmethod
    def texts(self, data: Any) -> Iterable[str]:
        """What a search looks into."""

    def empty_text(self) -> str:
        """What stands where there are no rows."""
        return "There are none."

    def rows_title(self) -> str:
        """What the table of rows is called."""
        word = next((tab.word for tab in self.tabs() if tab.name == self.tab), "")
        return "Rows" if self.tab == "all" else f"Rows · {word}"

    # -- rows -----------------------------------------------------------------------------------------------------

    @property
    def table(self) -> VirtualTable:
        """The rows."""
        return self.query_one("#rows", VirtualTable)

    @property
    def on_top(self) -> bool:
        """Whether no other screen is before this one; `is_current` says so of the one below as well."""
        return self.app.screen is self

    @property
    def with_marks(self) -> bool:
        """Whether differences are marked by more than colours."""
        return self.app.no_color if self.marks is None else self.marks

    def open_pages(self) -> None:
        """Begin to read pages anew: from now on the rows may be others."""
        self.close_pages()
        services = self.services  # which a thread that outlives this screen cannot ask for
        self._pages = PageReader(
            self.opened_short,
            lambda: services.call_later(self._page_loaded),
            lambda error: services.call_later(services.show_error, error),
        )

    def close_pages(self) -> None:
        """End the thread that reads."""
        if self._pages is not None:
            self._pages.close()
        self._pages = None

    def _page(self, start: int, stop: int) -> list[Row] | None:
        if self._pages is None:
            return None
        rows = self._shown[start:stop]
        page = self._pages.page(start, [self.id_at(row) for row in rows])
        return None if page is None else [self.cells(row, data) for row, data in zip(rows, page, strict=True)]

    def _page_loaded(self) -> None:
        if self.alive:
            self.table.refresh()

    def show_tabs(self) -> None:
        """Bring the counts up to date."""
        tabs = self.tabs()
        self.query_one(CountTabs).show(tabs, {tab.name: self.tab_count(tab.name) for tab in tabs}, self.tab)

    def show_rows(self, *, keep: bool) -> None:
        """Fill the table with the rows of the kind. With `keep` the cursor stays."""
        if self._search is not None:
            if not keep:
                self._begin_search(self._search.text)
            return
        self._take(self.select(self.tab), keep=keep)

    def _take(self, rows: Sequence[int], *, keep: bool) -> None:
        self._shown = rows
        if self._pages is not None and not keep:
            self._pages.forget()
        table = self.table
        table.empty = self.empty_text()
        table.set_count(len(rows), keep=keep)
        table.border_title = Content(self.rows_title())
        table.border_subtitle = Content(plural(len(rows), "row"))
        if not keep or table.cursor >= len(rows) or self.id_at(rows[table.cursor]) != self._text_id:
            self._show_text()

    def action_scores(self) -> None:
        """To the scores, and back."""
        scores = self.query_one("#scores", VirtualTable)
        (self.table if self.focused is not None and self.focused is not self.table else scores).focus()

    # -- kinds ----------------------------------------------------------------------------------------------------

    def action_next_tab(self) -> None:
        """The next kind that has rows."""
        names = [tab.name for tab in self.tabs() if self.tab_count(tab.name) or tab.name in ("all", self.tab)]
        self.choose(names[(names.index(self.tab) + 1) % len(names)])

    def action_tab(self, key: str) -> None:
        """The kind of a key."""
        for tab in self.tabs():
            if tab.key == key:
                self.choose(tab.name)

    @on(CountTabs.Chosen)
    def _clicked(self, event: CountTabs.Chosen) -> None:
        self.choose(event.name)

    def choose(self, name: str) -> None:
        """Show rows of one kind."""
        self.tab = name
        self.show_tabs()
        self.show_rows(keep=False)

    # -- one row --------------------------------------------------------------------------------------------------

    @on(VirtualTable.Highlighted, "#rows")
    def _moved(self) -> None:
        self._show_text()

    def _show_text(self) -> None:
        """The whole text of the row under the cursor, where there is room for it."""
        view = self.query_one("#row-text", TextView)
        cursor = self.table.cursor
        if not view.display or cursor >= len(self._shown):
            self.forget_text()
            view.show()
            view.border_title, view.border_subtitle = "Text", ""
            return
        row = self._shown[cursor]
        self._text_id = self.id_at(row)
        self.in_thread(lambda: (row, self.read_row(row)), self._have_text, group="text")

    def forget_text(self) -> None:
        """The row in the panel may be another one now."""
        self._text_of = self._text_id = None

    def read_row(self, row: int) -> Any:
        """Read one row, whole; for a thread."""
        with self.opened() as read:
            return read([self.id_at(row)])[0]

    def _have_text(self, found: tuple[int, Any]) -> None:
        self._text_of = found
        self._show_again()

    def _show_again(self) -> None:
        """The row that was read, at the width and with the marks there are now."""
        view = self.query_one("#row-text", TextView)
        if self._text_of is None or not view.display:
            return
        text = self.row_text(*self._text_of, max(20, self.size.width - 5))
        view.show(*text.blocks)
        view.border_title = Content(text.title)
        view.border_subtitle = Content(text.subtitle)
        view.set_class(len(text.blocks) == 4, "-four")
        view.set_class(len(text.blocks) > 4, "-long")

    def action_marks(self) -> None:
        """Marks on or off."""
        self.marks = not self.with_marks
        self._show_again()

    @on(VirtualTable.Selected, "#rows")
    def _selected(self, event: VirtualTable.Selected) -> None:
        self.app.push_screen(RowReadingScreen(self, self._shown, event.index, self.crumbs), self._come_back)

    def _come_back(self, index: int | None) -> None:
        if index is not None:
            self.table.move_cursor(index)
        self._show_again()

    def action_copy(self) -> None:
        """Copy the prediction, or the error."""
        self._copy(lambda text: text.copied)

    def action_copy_json(self) -> None:
        """Copy the row."""
        self._copy(lambda text: text.json)

    def _copy(self, part: Any) -> None:
        if self.table.cursor < len(self._shown):
            row = self._shown[self.table.cursor]
            copy_from(self, lambda: str(part(self.row_text(row, self.read_row(row), 80))))

    # -- search ---------------------------------------------------------------------------------------------------

    def action_search(self) -> None:
        """Type what is looked for."""
        field = self.query_one("#scored-search", Input)
        field.display = True
        field.focus()

    @on(Input.Submitted, "#scored-search")
    def _submitted(self, event: Input.Submitted) -> None:
        self.table.focus()
        if event.value.strip():
            self._begin_search(event.value)
        else:
            self.end_search()

    def _begin_search(self, text: str) -> None:
        if self._search is not None:
            self._search.stop()
        search = self._search = RowSearch(self.opened, self.select(self.tab), self.id_at, self.texts, text)
        self._take(search.found, keep=False)
        self.table.empty = "Searching…"
        services = self.services
        self.in_thread(
            lambda: search.run(lambda: services.call_later(self._found_more, search)),
            self._found_all,
            busy="searching",
            group="search",
        )

    def _found_more(self, search: RowSearch) -> None:
        if search is self._search and self.alive:
            self._show_found(search, f"{plural(len(search.found), 'match', 'matches')} · searching {search.percent} %")

    def _found_all(self, search: RowSearch) -> None:
        if search is self._search:
            self.table.empty = NOT_FOUND
            ending = f" · stopped at {search.percent} %" if search.stopped else ""
            self._show_found(search, plural(len(search.found), "match", "matches") + ending)
            self._show_text()

    def _show_found(self, search: RowSearch, text: str) -> None:
        self.table.set_count(len(search.found))
        self.table.border_subtitle = Content(text)

    def restart_search(self) -> None:
        """The rows are others now."""
        if self._search is not None:
            self._begin_search(self._search.text)

    def end_search(self) -> None:
        """All rows of the kind again."""
        if self._search is not None:
            self._search.stop()
        self._search = None
        field = self.query_one("#scored-search", Input)
        field.value = ""
        field.display = False
        self.table.focus()
        self.show_rows(keep=False)

    def action_back(self) -> None:
        """Out of a search that goes on, then out of the search, then out of here."""
        if self._search is not None and self.working("search") and not self._search.stopped:
            self._search.stop()
        elif self._search is not None or self.query_one("#scored-search").display:
            self.end_search()
        else:
            super().action_back()


def number_cells(total: int) -> int:
    """The width of a column of row numbers."""
    return max(2, len(count(total)))
