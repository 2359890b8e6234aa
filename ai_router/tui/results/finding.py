"""Finding in a list of results: the filter line, the order, the columns."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.content import Content
from textual.widgets import Input

from ai_router.memory import Memory, MemoryFileError
from ai_router.tui.jobs.actions import JobActions
from ai_router.tui.results.columns import ColumnsDialog
from ai_router.tui.results.data import COLUMNS, TITLES, Counts, Order, RowData, Search
from ai_router.tui.results.dialogs import ask_for_item
from ai_router.tui.results.layout import Layout
from ai_router.tui.results.pages import PageReader
from ai_router.tui.results.query import QueryError, complaint
from ai_router.tui.widgets.columns import laid_out
from ai_router.tui.widgets.find_input import Complaint
from ai_router.tui.widgets.table import VirtualTable
from ai_router.tui.widgets.text import harmless, plural
from ai_router.tui.widgets.text_view import TextView

if TYPE_CHECKING:
    from batch.checkpoint.rows import Part

NOT_FOUND = "Nothing holds that text.\n\nEscape ends the search."
NONE_SUCH = "No item is like that.\n\nEscape shows all of them again."
SORTED_BY = [place for place, (_, by) in enumerate(COLUMNS) if by]


class FindingResults(JobActions[None]):
    """A list of results that is filtered and sorted; what stands in it is the subclass's."""

    part: Part = "all"
    _part_before: Part | None = None  # the one that a word of the line took the place of
    _counts: Counts
    _ids: Sequence[int] | None
    _search: Search | None
    _pages: PageReader[RowData] | None
    order = Order()
    layout_of_columns = Layout()

    @abstractmethod
    def _show_part(self, *, keep: bool) -> None:
        """Fill the table with all items of the part."""

    @abstractmethod
    def _show_text(self) -> None:
        """Show the row under the cursor."""

    @abstractmethod
    def show_title(self) -> None:
        """Say which rows are shown."""

    @abstractmethod
    def action_part(self, part: str) -> None:
        """Show items of one part."""

    @property
    def table(self) -> VirtualTable:
        """The list; others may stand beside it."""
        return self.query_one("#results", VirtualTable)

    @property
    def words(self) -> tuple[str, ...]:
        """The texts that are looked for, to be marked where they are shown."""
        return self._search.query.texts if self._search is not None else ()

    # -- the filter line ------------------------------------------------------------------------------------------

    def action_search(self) -> None:
        """Type what is looked for."""
        field = self.query_one("#results-search", Input)
        field.display = True
        field.focus()

    @on(Input.Submitted, "#results-search")
    def _submitted(self, event: Input.Submitted) -> None:
        if not event.value.strip():
            self._end_search()
            self.table.focus()
        elif self._begin_search(event.value):
            self.table.focus()

    @on(Input.Changed, "#results-search")
    def _typed(self, event: Input.Changed) -> None:
        """What was wrong with the line is said until it is right; nothing is before Enter asks for it."""
        said = self.query_one(Complaint)
        if said.display:
            wrong = complaint(event.value)
            said.say(f"✗ {wrong}" if wrong else "")

    def _begin_search(self, text: str) -> bool:
        """Show what a line asks for; False where it is no filter, which is said."""
        before = self._part_before or self.part
        try:
            search = Search(self._job_path, before, text, self._counts.total, self.order)
        except QueryError as error:
            self.query_one(Complaint).say(f"✗ {error}")
            return False
        if self._search is not None:
            self._search.stop()
        self._search = search
        self._part_before = before if search.query.part else None
        self._take_part(search.part)
        table = self.table
        table.empty = "Searching…"
        table.words = search.query.texts
        self._ids = search.found
        if self._pages is not None:
            self._pages.forget()
        table.set_count(0, keep=False)
        services = self.services
        self.in_thread(
            lambda: search.run(lambda: services.call_later(self._found_more, search)),
            self._found_all,
            busy="searching" if text else "sorting",
            group="ids",
        )
        return True

    def _take_part(self, part: Part) -> None:
        if part != self.part:
            self.part = part
            self._show_counts()
            self.show_title()

    @property
    @abstractmethod
    def _job_path(self) -> Path:
        """The job's checkpoint, once it is open."""

    @abstractmethod
    def _show_counts(self) -> None:
        """Bring parts and context up to date."""

    def _found_more(self, search: Search) -> None:
        if search is self._search and self.alive:
            self._show_found(search, f"{plural(len(search.found), 'match', 'matches')} · searching {search.percent} %")

    def _found_all(self, search: Search) -> None:
        if search is self._search:
            table = self.table
            asked = search.query
            table.empty = NONE_SUCH if asked.conditions or asked.without or not asked.texts else NOT_FOUND
            ending = f" · stopped at {search.percent} %" if search.stopped else ""
            word = ("match", "matches") if search.text else ("item", "items")
            if self._ids is not search.found:  # in another order than while it went on
                self._ids = search.found
                if self._pages is not None:
                    self._pages.forget()
            self._show_found(search, plural(len(search.found), *word) + ending)
            self._show_text()

    def _show_found(self, search: Search, text: str) -> None:
        table = self.table
        table.set_count(len(search.found))
        table.border_subtitle = Content(text)

    @property
    def filter_text(self) -> str:
        """The line in force."""
        return self._search.text if self._search is not None else ""

    def action_back(self) -> None:
        """Out of a search that goes on, then out of the search, then out of here."""
        if self._search is not None and self._is_searching:
            self._search.stop()
        elif self.filter_text or self.query_one("#results-search").display:
            self._end_search()
        else:
            super().action_back()

    @property
    def _is_searching(self) -> bool:
        return "ids" in self._busy

    def _end_search(self) -> None:
        if self._search is not None:
            self._search.stop()
        self._search = None
        self.table.words = ()
        field = self.query_one("#results-search", Input)
        field.value = ""
        field.display = False
        self.query_one(Complaint).say("")
        self.table.focus()
        if self._part_before is not None:  # what the line said goes with it
            part, self._part_before = self._part_before, None
            self._take_part(part)
        self._again()

    def _again(self) -> None:
        """Show what there is in the order that is chosen."""
        text = self.filter_text
        if text or not self.order.natural:
            self._begin_search(text)
        else:
            self._search = None
            self._show_part(keep=False)

    # -- from hit to hit ------------------------------------------------------------------------------------------

    def action_next_hit(self) -> None:
        """The next place, in the text beside or in the next row."""
        self._to_hit(1)

    def action_hit_back(self) -> None:
        """The place before."""
        self._to_hit(-1)

    def _to_hit(self, step: int) -> None:
        if not self.words:
            self.notify("Nothing is looked for; / begins a search", timeout=2)
            return
        preview = self.query_one(TextView)
        there = [line for line in self._hit_lines() if (line - self._hit_line) * step > 0]
        if there:
            self._show_hit(preview, there[0] if step > 0 else there[-1])
            return
        row = self.table.cursor + step
        if not 0 <= row < self.table.count:
            self.notify(f"There is no further match {'below' if step > 0 else 'above'}", timeout=2)
            return
        self._backwards = step < 0
        self.table.move_cursor(row)

    def _hit_lines(self) -> list[int]:
        preview = self.query_one(TextView)
        return preview.lines_with("hit") if preview.display else []

    def show_first_hit(self) -> None:
        """Bring the first place of a text that is new beside the list into sight; the last one on the way back."""
        lines, self._hit_line = self._hit_lines(), -1
        if lines:
            self._show_hit(self.query_one(TextView), lines[-1] if self._backwards else lines[0])
        self._backwards = False

    def _show_hit(self, preview: TextView, line: int) -> None:
        self._hit_line = line
        preview.scroll_to(y=max(0, line - preview.size.height // 3), animate=False, immediate=True)

    _hit_line = -1
    _backwards = False

    # -- order and columns ----------------------------------------------------------------------------------------

    def action_sort(self) -> None:
        """By the next column."""
        at = next((place for place in SORTED_BY if COLUMNS[place][1] == self.order.by), SORTED_BY[0])
        self._sort_by(SORTED_BY[(SORTED_BY.index(at) + 1) % len(SORTED_BY)])

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._take_order(Order(self.order.by, not self.order.descending))

    @on(VirtualTable.HeaderClicked)
    def _header_clicked(self, event: VirtualTable.HeaderClicked) -> None:
        by = COLUMNS[event.index][1]
        if by == self.order.by:
            self.action_reverse()
        elif by:
            self._sort_by(event.index)

    def _sort_by(self, place: int) -> None:
        by = COLUMNS[place][1]
        # Numbers are asked for their largest first, the item's own number from the beginning.
        self._take_order(Order(by, by not in ("id", "model", "class")))

    def _take_order(self, order: Order) -> None:
        self.order = order
        table = self.table
        place = next(place for place in SORTED_BY if COLUMNS[place][1] == order.by)
        table.sorted_by = None if order.natural else (place, not order.descending)
        self.show_title()  # the column may be none of those that are shown
        self._again()

    def action_columns(self) -> None:
        """Choose which columns are shown, in what order, how wide."""
        total, width = self._counts.total, self.table.text_width

        def shown(layout: Layout) -> list[str]:
            columns = layout.columns(total)
            return [column.title for _, column, _ in laid_out([columns[at] for at in layout.places], width)]

        self.app.push_screen(ColumnsDialog(self.layout_of_columns, shown), self._take_layout)

    @on(VirtualTable.Resized, "#results")
    def _resized(self, event: VirtualTable.Resized) -> None:
        self.layout_of_columns = layout = self.layout_of_columns.widened(TITLES[event.index], max(1, event.cells))
        self._lay_out_columns()
        if event.done:
            self._keep_layout(layout)

    def _take_layout(self, layout: Layout | None) -> None:
        if layout is None or layout == self.layout_of_columns:
            return
        self.layout_of_columns = layout
        self._keep_layout(layout)
        self._lay_out_columns()

    def _keep_layout(self, layout: Layout) -> None:
        try:
            layout.keep(Memory(self.services.workspace.checkpoints))
        except MemoryFileError as error:
            self.services.show_error(error)

    def _lay_out_columns(self) -> None:
        table = self.table
        table.columns, table.order = self.layout_of_columns.columns(self._counts.total), self.layout_of_columns.places
        table.refresh_rows()

    # -- going ----------------------------------------------------------------------------------------------------

    def action_goto(self) -> None:
        """Go to an item by its number."""
        ask_for_item(self, self._counts.total, partial(self._go_to))

    def _go_to(self, item: int) -> None:
        ids = self._ids
        place = item
        if ids is not None and self.order.natural:
            place = bisect_left(ids, item)
        elif ids is not None:
            if item not in ids:
                self.notify(harmless(f"Item {item + 1:,} is not among these"), timeout=2)
                return
            place = list(ids).index(item)
        self.table.move_cursor(place)
