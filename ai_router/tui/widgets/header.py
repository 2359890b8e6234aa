"""The titles of a table: the order and widths of its columns, by click and by drag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ai_router.tui.widgets.columns import GAP, Column, laid_out
from ai_router.tui.widgets.text import cut, pad


class TableMessage(Message):
    """Something about the row, or the column, at `index`."""

    def __init__(self, table: HeaderTable, index: int) -> None:
        super().__init__()
        self.table, self.index = table, index

    @property
    def control(self) -> HeaderTable:
        """The table."""
        return self.table


@dataclass(slots=True)
class Frame:
    """What the lines of one frame share: their cells, their style, columns in their order, styles of cells."""

    width: int
    base: Style
    columns: list[tuple[int, Column, int]]
    styles: dict[tuple[Style, str], Style] = field(default_factory=dict)


class HeaderTable(ScrollView):
    """Columns under titles. `order` is that in which they stand, by their places in a row; None: as they come."""

    class HeaderClicked(TableMessage):
        """The title of column `index` was clicked."""

    class Resized(TableMessage):
        """Column `index` was dragged to another width, in `cells`; `done` once it is let go."""

        def __init__(self, table: HeaderTable, index: int, cells: int, *, done: bool = False) -> None:
            super().__init__(table, index)
            self.cells, self.done = cells, done

    columns: list[Column]
    order: Sequence[int] | None = None
    sorted_by: tuple[int, bool] | None = None  # column and whether it ascends, shown in its title
    _dragged: tuple[int, int] | None = None  # column, and where it begins
    _dragging = False  # farther than a click
    _cells = 0
    frame: Frame

    def begin_frame(self) -> None:
        """Ask anew what all lines of a frame share."""
        width = self.scrollable_content_region.width
        self.frame = Frame(width, self.rich_style, self.layout_columns(width - self.show_vertical_scrollbar))

    def layout_columns(self, width: int) -> list[tuple[int, Column, int]]:
        """Place in a row, column and cells of each column that is shown in a table of this width, in their order."""
        if self.order is None:
            return laid_out(self.columns, width)
        shown = laid_out([self.columns[place] for place in self.order], width)
        return [(self.order[at], column, cells) for at, column, cells in shown]

    @property
    def text_width(self) -> int:
        """Cells for columns: one is left free before the scrollbar."""
        return self.scrollable_content_region.width - self.show_vertical_scrollbar

    def header_line(self, width: int, base: Style) -> Strip:
        """The titles, with a sign at the column that the rows are sorted by."""
        style = self.cell_style(base, "header")
        segments: list[Segment] = []
        for index, column, cells in self.frame.columns:
            if segments:
                segments.append(Segment(" " * GAP, style))
            title = column.title
            if self.sorted_by and self.sorted_by[0] == index:
                sign = "▲" if self.sorted_by[1] else "▼"
                gap = " " if cell_len(title) + 2 <= cells else ""
                title = cut(title, cells - len(gap) - 1) + gap + sign
            segments.append(Segment(pad(title, cells, right=column.right), style))
        return Strip(segments).adjust_cell_length(width, style)

    def cell_style(self, base: Style, name: str) -> Style:
        """A base with the colour and the weight of a named style."""
        if not name:
            return base
        if (found := self.frame.styles.get((base, name))) is None:
            style = self.get_component_rich_style(f"table--{name}")
            found = self.frame.styles[base, name] = base + Style(color=style.color, bold=style.bold or None)
        return found

    # -- the mouse ------------------------------------------------------------------------------------------------

    def column_at(self, x: int) -> tuple[int, int, bool] | None:
        """The column at a cell of the titles, where it begins, and whether the cell is in the gap behind it."""
        start = 0
        for index, _, cells in self.layout_columns(self.text_width):
            if start <= x < start + cells + GAP:
                return index, start, x >= start + cells
            start += cells + GAP
        return None

    def click_header(self, x: int) -> None:
        """A title was clicked."""
        found = self.column_at(x)
        if found is not None and not self._dragging:
            self.post_message(self.HeaderClicked(self, found[0]))
        self._dragging = False

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """The gap behind a title can be dragged."""
        offset = event.get_content_offset(self)
        found = self.column_at(offset.x) if offset is not None and offset.y == 0 else None
        self._dragging = False
        if found is not None and found[2]:
            self._dragged = found[:2]
            self.capture_mouse()

    def drag_header(self, event: events.MouseMove) -> bool:
        """Follow the pointer with the end of a column; False where none is dragged."""
        if self._dragged is None:
            return False
        index, start = self._dragged
        self._dragging = True
        self._cells = event.x - self.gutter.left - start
        self.post_message(self.Resized(self, index, self._cells))
        return True

    def on_mouse_up(self) -> None:
        """Let go."""
        if self._dragged is not None:
            if self._dragging:
                self.post_message(self.Resized(self, self._dragged[0], self._cells, done=True))
            self._dragged = None
            self.release_mouse()
