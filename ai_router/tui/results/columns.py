"""A dialog: which columns are shown, in what order, how wide."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from ai_router.tui.dialogs import Dialog
from ai_router.tui.results.layout import ALWAYS, Layout
from ai_router.tui.widgets.text import pad

HELP = "space shows or hides · K J up and down · + - width, 0 its own · enter takes them"
STEP = 2  # cells
OWN = 12  # cells that a width begins at which nobody has given yet


class ColumnsDialog(Dialog[Layout]):
    """Answers with the layout; `shown` says which of its columns the table has room for."""

    title_text = "Columns"
    DEFAULT_CSS = """
    ColumnsDialog OptionList { height: auto; max-height: 12; background: transparent; border: none; padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "fold", show=False),
        Binding("K,shift+k,shift+up", "move(-1)", show=False, priority=True),
        Binding("J,shift+j,shift+down", "move(1)", show=False, priority=True),
        Binding("plus,equals_sign", "widen(1)", show=False),
        Binding("minus", "widen(-1)", show=False),
        Binding("0", "widen(0)", show=False),
    ]

    def __init__(self, layout: Layout, shown: Callable[[Layout], Collection[str]]) -> None:
        super().__init__()
        self.chosen, self._shown = layout, shown

    def compose_dialog(self) -> ComposeResult:
        """The list."""
        yield Static(HELP, id="dialog-text")
        yield OptionList(*self._options())

    def _options(self) -> list[Option]:
        lines, fit = [], self._shown(self.chosen)
        for title in self.chosen.order:
            always, wanted = title in ALWAYS, title not in self.chosen.hidden
            sign = ("●", "$text-muted") if always else ("●", "$text-success") if wanted else ("○", "$text-muted")
            width = self.chosen.widths.get(title)
            said = (f"{width} cells" if width else "its own width", "$text-muted")
            if wanted and title not in fit:
                said = ("no room here; + makes some", "$text-warning")
            lines.append(Option(Content.assemble(sign, f" {pad(title, 10)}", said)))
        return lines

    @property
    def _title(self) -> str:
        return self.chosen.order[self.query_one(OptionList).highlighted or 0]

    def _show(self, layout: Layout, title: str) -> None:
        self.chosen = layout
        menu = self.query_one(OptionList)
        menu.clear_options()
        menu.add_options(self._options())
        menu.highlighted = layout.order.index(title)

    def action_fold(self) -> None:
        """Show the column, or hide it."""
        self._show(self.chosen.toggled(self._title), self._title)

    def action_move(self, step: int) -> None:
        """The column a place on."""
        title = self._title
        self._show(self.chosen.moved(title, step), title)

    def action_widen(self, sign: int) -> None:
        """More cells or fewer; 0: its own width."""
        title = self._title
        width = self.chosen.widths.get(title, OWN) + sign * STEP if sign else 0
        self._show(self.chosen.widened(title, width), title)

    @on(OptionList.OptionSelected)
    def _use(self) -> None:
        self.dismiss(self.chosen)
