"""A menu: a few entries with a number, a name and what they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Offset, Size
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from ai_router.tui.actions import bind
from ai_router.tui.widgets.jumping import Target
from ai_router.tui.widgets.text import cut, one_line, pad

LEAST_HELP = 16
ROOMY_HEIGHT = 32
BELOW = (110, 28)  # columns and lines of a terminal from which the help may stand below the names


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """`[key]  label  help`; `spaced` leaves a line free above it."""

    key: str
    label: str
    help: str
    spaced: bool = False


class MenuList(Widget, can_focus=True):
    """Arrows and enter, or the mouse; the number keys are the screen's bindings. Sends `Chosen`."""

    DEFAULT_CSS = """
    MenuList { height: auto; width: 100%; text-wrap: nowrap; }
    """
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", show=False),
        Binding("up,k", "move(-1)", show=False),
        Binding("home,g", "move(-100)", show=False),
        Binding("end,G,shift+g", "move(100)", show=False),
        *bind("menu.choose"),
    ]

    cursor: reactive[int] = reactive(0)

    class Chosen(Message):
        """An entry was chosen; `key` is its number."""

        def __init__(self, menu: MenuList, key: str) -> None:
            super().__init__()
            self.menu, self.key = menu, key

        @property
        def control(self) -> MenuList:
            """The menu."""
            return self.menu

    class Moved(Message):
        """The cursor is on another entry."""

    def __init__(
        self,
        entries: Sequence[MenuEntry],
        *,
        id: str | None = None,  # noqa: A002 - Textual's name
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.entries = list(entries)
        self._lines: list[int] = []  # which entry each line belongs to
        self._heads: list[int] = []  # the line of each entry's name

    def validate_cursor(self, cursor: int) -> int:
        """Within the menu."""
        return max(0, min(cursor, len(self.entries) - 1))

    def watch_cursor(self) -> None:
        """Tell."""
        if self.is_attached:
            self.post_message(self.Moved())

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """All entries; the help below the names where there is height for it but no width."""
        return len(self._draw(width))

    def render(self) -> Content:
        """The entries."""
        return Content("\n").join(self._draw(self.size.width))

    def _draw(self, width: int) -> list[Content]:
        label_width = max(len(entry.label) for entry in self.entries)
        room = width - label_width - 10
        columns, height = self.app.size
        roomy = height >= ROOMY_HEIGHT
        longest = max(cell_len(one_line(entry.help)) for entry in self.entries)
        below = roomy or (room < longest and columns >= BELOW[0] and height >= BELOW[1])
        self._lines, self._heads = [], []
        lines: list[Content] = []

        def add(index: int, line: Content) -> None:
            if index == self.cursor and self.has_focus:
                line = line.pad_right(max(0, width - line.cell_length)).stylize(
                    "reverse" if self.app.native_ansi_color else "on $accent 18%"
                )
            self._lines.append(index)
            lines.append(line)

        for index, entry in enumerate(self.entries):
            if index and (entry.spaced or roomy):
                self._lines.append(index)
                lines.append(Content(""))
            help_text = "" if below else pad(one_line(entry.help), room) if room >= LEAST_HELP else ""
            strong = index == self.cursor
            head = (("❯ " if strong else "  ", "$accent"), (f"[{entry.key}]", "bold $accent"), "  ")
            label = (pad(entry.label, label_width), "bold" if strong else "")
            self._heads.append(len(lines))
            add(index, Content.assemble(*head, label, "  ", (help_text, "$text-muted")))
            if below:
                add(index, Content.styled(" " * 7 + cut(one_line(entry.help), width - 7), "$text-muted"))
        return lines

    def action_move(self, rows: int) -> None:
        """Up or down."""
        self.cursor += rows

    def action_choose(self) -> None:
        """Enter."""
        self.post_message(self.Chosen(self, self.entries[self.cursor].key))

    def jump_targets(self) -> list[Target]:
        """The entries: each is chosen."""

        def go(index: int) -> None:
            self.cursor = index
            self.action_choose()

        return [Target(Offset(3, line), partial(go, index)) for index, line in enumerate(self._heads)]

    def on_click(self, event: events.Click) -> None:
        """Choose what was clicked."""
        offset = event.get_content_offset(self)
        if offset is not None and offset.y < len(self._lines):
            self.cursor = self._lines[offset.y]
            self.action_choose()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Follow the pointer."""
        offset = event.get_content_offset(self)
        if offset is not None and offset.y < len(self._lines):
            self.cursor = self._lines[offset.y]
