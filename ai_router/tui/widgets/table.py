"""A table of any length: only the rows that are seen are ever read or drawn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Offset, Region, Size
from textual.reactive import reactive
from textual.strip import Strip

from ai_router.tui.actions import bind
from ai_router.tui.widgets.columns import GAP, Column
from ai_router.tui.widgets.header import HeaderTable, TableMessage
from ai_router.tui.widgets.jumping import Target
from ai_router.tui.widgets.text import ELLIPSIS, cut, hits, one_line, pad
from ai_router.tui.widgets.wrapping import wrap

PAGE = 64
KEPT_PAGES = 32
WHEEL_ROWS = 3

# A cell is its text, or text and the name of a style: muted, success, error, warning, accent, strong.
Cell = str | tuple[str, str]
Row = Sequence[Cell]

__all__ = ["Cell", "Column", "Row", "VirtualTable"]


class VirtualTable(HeaderTable, can_focus=True):
    """Rows come from `rows(start, stop)`, a page at a time, on the app's loop: it must answer at once.

    A source that has to read slowly gives None for a page it does not hold, fetches it elsewhere and calls
    `refresh_rows` when it is there.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *bind("table.select", "table.down", "table.up", "table.page_down", "table.page_up", "table.half_down"),
        *bind("table.half_up", "table.first", "table.last"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--header",
        "table--cursor",
        "table--cursor-blurred",
        "table--hover",
        "table--muted",
        "table--success",
        "table--error",
        "table--warning",
        "table--accent",
        "table--strong",
        "table--empty",
        "table--hit",
    }
    DEFAULT_CSS = """
    VirtualTable {
        background: transparent;
        & > .table--header { color: $text-muted; text-style: bold; }
        & > .table--cursor { background: $accent 18%; text-style: bold; }
        & > .table--cursor-blurred { background: $foreground 9%; }
        & > .table--hover { background: $foreground 5%; }
        & > .table--muted { color: $text-muted; }
        & > .table--success { color: $text-success; }
        & > .table--error { color: $text-error; }
        & > .table--warning { color: $text-warning; }
        & > .table--accent { color: $accent; }
        & > .table--strong { text-style: bold; }
        & > .table--empty { color: $text-muted; }
        & > .table--hit { background: $warning 40%; text-style: bold underline; }
        &:ansi > .table--hit { background: ansi_default; text-style: bold underline; }
        &:ansi > .table--cursor { background: ansi_default; text-style: bold reverse; }
        &:ansi > .table--cursor-blurred { background: ansi_default; text-style: underline; }
        &:ansi > .table--hover { background: ansi_default; }
    }
    """

    cursor = reactive(0, repaint=False)
    hover = reactive(-1, repaint=False)

    class HeaderClicked(HeaderTable.HeaderClicked):
        """The title of column `index` was clicked."""

    class Selected(TableMessage):
        """Enter, or a click on the row under the cursor."""

    class Highlighted(TableMessage):
        """The cursor is on another row."""

    def __init__(
        self,
        columns: Sequence[Column],
        rows: Callable[[int, int], Sequence[Row] | None],
        *,
        count: int = 0,
        empty: str = "",
        id: str | None = None,  # noqa: A002 - Textual's name
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.columns = list(columns)
        self.empty = empty
        self.words: tuple[str, ...] = ()  # casefolded, marked where they stand in a cell
        self._rows = rows
        self._count = count
        self._pages: OrderedDict[int, Sequence[Row]] = OrderedDict()
        self._old_pages: OrderedDict[int, Sequence[Row]] = OrderedDict()  # shown until the new ones are read

    # -- what is in it --------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self._count

    def set_count(self, count: int, *, keep: bool = True) -> None:
        """There are so many rows now, and their contents may have changed. Without `keep`, begin at the top again."""
        self._count = count
        if not keep:
            self._pages.clear()
            self._old_pages.clear()
            self.scroll_to(0, 0, animate=False, immediate=True)
        self._resize()
        wanted = self.validate_cursor(self.cursor if keep else 0)
        told = wanted == self.cursor and keep
        self.set_reactive(VirtualTable.cursor, wanted)
        self.call_after_refresh(self._show_cursor)  # how far it can scroll is known only then
        self.refresh_rows()
        if not told and count and self.is_attached:
            self.post_message(self.Highlighted(self, wanted))

    def move_cursor(self, index: int) -> None:
        """Put the cursor on a row and show it."""
        self.cursor = max(0, min(index, self._count - 1))

    def refresh_rows(self) -> None:
        """The contents of rows may have changed: read again what is seen."""
        self._old_pages.update(self._pages)
        while len(self._old_pages) > KEPT_PAGES:
            self._old_pages.popitem(last=False)
        self._pages.clear()
        self.refresh()

    def row(self, index: int) -> Row | None:
        """A row as it is shown, or None where it is not read yet."""
        number, offset = divmod(index, PAGE)
        page = self._pages.get(number)
        if page is None:
            page = self._rows(number * PAGE, min(self._count, (number + 1) * PAGE))
            if page is None:
                page = self._old_pages.get(number)
                return page[offset] if page is not None and offset < len(page) else None
            self._pages[number] = page
            self._old_pages.pop(number, None)
            while len(self._pages) > KEPT_PAGES:
                self._pages.popitem(last=False)
        else:
            self._pages.move_to_end(number)
        return page[offset] if offset < len(page) else None

    # -- drawing --------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Take the size of what is there."""
        self._resize()

    def on_resize(self) -> None:
        """Columns share the width anew."""
        self._resize()
        self.call_after_refresh(self._show_cursor)

    def _resize(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, self._count + 1)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Several lines: what is the same for all of them is asked for once."""
        self.begin_frame()
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """One line: the titles, or a row of what is scrolled to."""
        width, base = self.frame.width, self.frame.base
        if y == 0:
            return self.header_line(width, base)
        index = y - 1 + round(self.scroll_offset.y)
        if self._count == 0:
            return self._empty_line(y, width, base)
        if index >= self._count:
            return Strip.blank(width, base)
        return self._row_line(index, width, base)

    def _empty_line(self, y: int, width: int, base: Style) -> Strip:
        style = self.cell_style(base, "empty")
        lines = list(wrap(self.empty, max(1, width)))
        line = lines[y - 2] if 0 <= y - 2 < len(lines) else ""
        return Strip([Segment(cut(line, width), style)]).adjust_cell_length(width, style)

    def _row_line(self, index: int, width: int, base: Style) -> Strip:
        if index == self.cursor:
            name = "table--cursor" if self.has_focus else "table--cursor-blurred"
            base = base + self.get_component_rich_style(name)
        elif index == self.hover:
            base = base + self.get_component_rich_style("table--hover")
        row = self.row(index)
        if row is None:
            return Strip([Segment(pad("…", width), base)])
        # On a reversed row the colour of a text would become its background.
        plain = index == self.cursor and self.app.native_ansi_color
        segments: list[Segment] = []
        for number, column, cells in self.frame.columns:
            if segments:
                segments.append(Segment(" " * GAP, base))
            cell = row[number]
            text, name = (cell, "") if isinstance(cell, str) else cell
            style = base if plain else self.cell_style(base, name)
            if self.words:
                segments += self._with_hits(pad(self._in_sight(text, cells), cells, right=column.right), style)
            else:
                segments.append(Segment(pad(one_line(text, cells), cells, right=column.right), style))
        return Strip(segments).adjust_cell_length(width, base)

    def _in_sight(self, text: str, cells: int) -> str:
        """A cell's text in one line, from a little before the first hit where that would be cut off."""
        line = one_line(text.strip())
        start, end = next(hits(line, self.words), (0, 0))
        return line if cell_len(line[:end]) < cells else ELLIPSIS + line[max(0, start - cells // 4) :]

    def _with_hits(self, text: str, style: Style) -> Iterator[Segment]:
        """A cell's text with the words marked that are looked for."""
        marked, at = style + self.get_component_rich_style("table--hit"), 0
        for start, end in hits(text, self.words):
            yield from (Segment(text[at:start], style), Segment(text[start:end], marked))
            at = end
        yield Segment(text[at:], style)

    # -- moving ---------------------------------------------------------------------------------------------------

    @property
    def visible_rows(self) -> int:
        """Rows that fit below the titles."""
        return max(1, self.scrollable_content_region.height - 1)

    @property
    def first_row(self) -> int:
        """The row below the titles."""
        return round(self.scroll_offset.y)

    def validate_cursor(self, cursor: int) -> int:
        """Within the table."""
        return max(0, min(cursor, self._count - 1))

    def watch_cursor(self, before: int, after: int) -> None:
        """Draw both rows, show the new one, tell."""
        self._show_cursor()
        self._redraw(before, after)
        if self._count and self.is_attached:
            self.post_message(self.Highlighted(self, after))

    def _show_cursor(self) -> None:
        top, height = self.first_row, self.visible_rows
        if self.cursor < top:
            self._scroll_to_row(self.cursor)
        elif self.cursor >= top + height:
            self._scroll_to_row(self.cursor - height + 1)

    def _scroll_to_row(self, row: int) -> None:
        self.scroll_to(y=row, animate=False, immediate=True)

    def action_select(self) -> None:
        """Enter."""
        if self._count:
            self.post_message(self.Selected(self, self.cursor))

    def action_cursor_down(self) -> None:
        """One row down."""
        self.move_cursor(self.cursor + 1)

    def action_cursor_up(self) -> None:
        """One row up."""
        self.move_cursor(self.cursor - 1)

    def action_page_down(self) -> None:
        """A screenful down."""
        self.move_cursor(self.cursor + self.visible_rows)

    def action_page_up(self) -> None:
        """A screenful up."""
        self.move_cursor(self.cursor - self.visible_rows)

    def action_half_down(self) -> None:
        """Half a screenful down."""
        self.move_cursor(self.cursor + max(1, self.visible_rows // 2))

    def action_half_up(self) -> None:
        """Half a screenful up."""
        self.move_cursor(self.cursor - max(1, self.visible_rows // 2))

    def action_first(self) -> None:
        """To the first row."""
        self.move_cursor(0)

    def action_last(self) -> None:
        """To the last row."""
        self.move_cursor(self._count - 1)

    def jump_targets(self) -> list[Target]:
        """The rows in sight: the cursor goes there."""

        def go(index: int) -> None:
            self.focus()
            self.move_cursor(index)

        rows = range(self.first_row, min(self._count, self.first_row + self.visible_rows))
        return [Target(Offset(0, index - self.first_row + 1), partial(go, index)) for index in rows]

    # -- mouse ----------------------------------------------------------------------------------------------------

    def _row_at(self, y: int) -> int:
        """The row drawn at a line of the widget, or -1."""
        index = y - 1 + self.first_row
        return index if y >= 1 and index < self._count else -1

    def on_click(self, event: events.Click) -> None:
        """The cursor goes where the click was; on the cursor, and on a double click, open."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0:
            self.click_header(offset.x)
            return
        index = self._row_at(offset.y)
        if index < 0:
            return
        again = index == self.cursor
        self.move_cursor(index)
        if event.chain == 2 or (again and event.chain == 1 and self.has_focus and self._clicked_before == index):
            self.post_message(self.Selected(self, index))
            self._clicked_before = -1
        else:
            self._clicked_before = index

    _clicked_before = -1

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Follow the pointer."""
        if self.drag_header(event):
            return
        offset = event.get_content_offset(self)
        self.hover = -1 if offset is None else self._row_at(offset.y)

    def on_leave(self) -> None:
        """The pointer is gone."""
        self.hover = -1

    def watch_hover(self, before: int, after: int) -> None:
        """Draw both rows."""
        self._redraw(before, after)

    def _redraw(self, *rows: int) -> None:
        for row in rows:
            line = row - self.first_row + 1
            if row >= 0 and 1 <= line <= self.visible_rows:
                self.refresh(Region(0, line, self.size.width, 1))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Whole rows."""
        super().watch_scroll_y(old_value, new_value)
        self.refresh()
