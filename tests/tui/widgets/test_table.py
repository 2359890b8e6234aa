"""The virtual table: a million rows, a handful read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult

from ai_router.tui.widgets.table import Column, Row, VirtualTable

MILLION = 1_000_000


class TableApp(App[None]):
    """One table."""

    def __init__(self, count: int = MILLION, columns: Sequence[Column] | None = None) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []
        self.selected: list[int] = []
        self.headers: list[int] = []
        self.ready = True
        self._count = count
        self._columns = columns or [Column("#", 9, right=True), Column("Text"), Column("Mark", 6, from_width=40)]

    def compose(self) -> ComposeResult:
        yield VirtualTable(self._columns, self.rows, count=self._count, empty="Nothing here.\nGo away.")

    def rows(self, start: int, stop: int) -> list[Row] | None:
        self.asked.append((start, stop))
        if not self.ready:
            return None
        return [(f"{i}", f"日本語 row {i} " + "x" * 200, ("✓", "success")) for i in range(start, stop)]

    def on_virtual_table_selected(self, event: VirtualTable.Selected) -> None:
        self.selected.append(event.index)

    def on_virtual_table_header_clicked(self, event: VirtualTable.HeaderClicked) -> None:
        self.headers.append(event.index)

    @property
    def table(self) -> VirtualTable:
        return self.query_one(VirtualTable)

    def lines(self) -> list[str]:
        return [self.table.render_line(y).text for y in range(self.table.size.height)]


async def test_a_million_rows_read_only_what_is_seen() -> None:
    app = TableApp()
    async with app.run_test(size=(60, 12)) as pilot:
        assert sum(stop - start for start, stop in app.asked) <= 64
        await pilot.press("G")
        assert app.table.cursor == MILLION - 1
        assert app.lines()[-1].split()[0] == str(MILLION - 1)
        assert sum(stop - start for start, stop in app.asked) <= 4 * 64
        await pilot.press("g")
        assert app.table.cursor == 0
        assert app.lines()[1].split()[0] == "0"


async def test_keys_move_and_select() -> None:
    app = TableApp()
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.press("j", "down", "k", "enter")
        assert (app.table.cursor, app.selected) == (1, [1])
        await pilot.press("pagedown")
        assert app.table.cursor == 1 + app.table.visible_rows
        await pilot.press("pageup", "up", "up", "up")
        assert app.table.cursor == 0
        await pilot.press("end", "down")
        assert app.table.cursor == MILLION - 1


async def test_every_line_is_as_wide_as_the_table() -> None:
    app = TableApp()
    for width in (20, 37, 60, 120):
        async with app.run_test(size=(width, 8)):
            region = app.table.scrollable_content_region.width
            assert all(cell_len(line) == region for line in app.lines())
        app = TableApp()


async def test_columns_fold_away_and_share() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 8)) as pilot:
        assert "Mark" in app.lines()[0]
        await pilot.resize_terminal(38, 8)
        await pilot.pause()
        assert "Mark" not in app.lines()[0]
    table = VirtualTable([Column("a", 5), Column("b", flex=1), Column("c", flex=3)], lambda *_: [])
    assert [cells for _, _, cells in table.layout_columns(49)] == [5, 10, 30]
    assert sum(cells for _, _, cells in table.layout_columns(20)) + 4 <= 20


async def test_the_mouse_moves_selects_and_sorts() -> None:
    app = TableApp()
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.click(VirtualTable, offset=(5, 4))
        assert (app.table.cursor, app.selected) == (3, [])
        await pilot.click(VirtualTable, offset=(5, 4))
        assert app.selected == [3]
        await pilot.click(VirtualTable, offset=(15, 0))
        assert app.headers == [1]
        await pilot.hover(VirtualTable, offset=(5, 6))
        assert app.table.hover == 5


@pytest.mark.parametrize("count", [0, 1])
async def test_few_rows(count: int) -> None:
    app = TableApp(count)
    async with app.run_test(size=(40, 8)) as pilot:
        await pilot.press("j", "G", "pagedown", "g", "enter")
        assert app.table.cursor == 0
        assert app.selected == [0] * count
        if not count:
            assert [line.strip() for line in app.lines()[2:4]] == ["Nothing here.", "Go away."]


async def test_rows_that_come_later_keep_the_old_ones_until_then() -> None:
    app = TableApp(10)
    async with app.run_test(size=(40, 8)):
        assert "row 0" in app.lines()[1]
        app.ready = False
        app.table.refresh_rows()
        assert "row 0" in app.lines()[1]
        app.table.set_count(10, keep=False)
        assert app.lines()[1].strip() == "…"
        app.ready = True
        app.table.refresh()
        assert "row 0" in app.lines()[1]


async def test_the_cursor_stays_within_when_rows_go() -> None:
    app = TableApp(100)
    async with app.run_test(size=(40, 8)) as pilot:
        await pilot.press("G")
        app.table.set_count(3)
        assert app.table.cursor == 2
        app.table.set_count(50)
        assert app.table.cursor == 2
        app.table.set_count(0)
        assert app.table.cursor == 0


async def test_resizing_keeps_the_cursor_in_sight() -> None:
    app = TableApp(1000)
    async with app.run_test(size=(40, 30)) as pilot:
        app.table.move_cursor(28)
        await pilot.resize_terminal(40, 8)
        await pilot.pause()
        assert app.table.first_row <= 28 < app.table.first_row + app.table.visible_rows


@pytest.mark.parametrize("width", [1, 5, 12, 20, 31, 40, 80])
@pytest.mark.parametrize(
    "columns",
    [
        [Column("#", 9, right=True), Column("Text"), Column("Mark", 6), Column("Done", 13, right=True)],
        [Column("Status", 12), Column("Done", 13, right=True), Column("", 5, right=True), Column("Changed", 11)],
    ],
)
def test_no_column_is_cut_by_the_edge(width: int, columns: list[Column]) -> None:
    table = VirtualTable(columns, lambda start, stop: [])
    laid = table.layout_columns(width)
    assert sum(cells for _, _, cells in laid) + 2 * (len(laid) - 1) <= width
    assert all(cells == column.width or not column.width for _, column, cells in laid) or len(laid) == 1


async def test_half_pages() -> None:
    app = TableApp()
    async with app.run_test(size=(60, 21)) as pilot:
        await pilot.press("ctrl+d", "ctrl+d")
        assert app.table.cursor == 20
        await pilot.press("ctrl+u")
        assert app.table.cursor == 10
