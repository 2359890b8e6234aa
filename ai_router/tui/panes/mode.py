"""Arranging panes by the keyboard: arrows move an edge, a number hides a pane; the screen changes meanwhile."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget

from ai_router.tui.behind import Over
from ai_router.tui.panes.panes import Panes
from ai_router.tui.widgets.panel import fit

MOST_NUMBERS = 9


class PanesLine(Widget):
    """What stands where, and what the keys do: as much of it as fits into two lines."""

    DEFAULT_CSS = """
    PanesLine { dock: bottom; height: 2; padding: 0 1; background: $panel; text-wrap: nowrap; }
    """
    ALLOW_SELECT = False

    def __init__(self, panes: Panes) -> None:
        super().__init__()
        self._panes = panes

    def render(self) -> Content:
        """The two lines."""
        panes, width = self._panes, max(1, self.size.width - 2)
        at_hand = panes.at_hand
        names = [Content.styled(" PANES ", "reverse bold")]
        for number, pane in enumerate(panes.panes, 1):
            there = panes.shows(pane.id)
            sign = "✗" if pane.id in panes.hidden else "◌" if not there else "●" if pane.id == at_hand else "○"
            style = "bold $accent" if pane.id == at_hand else "" if there else "$text-muted"
            names.append(Content.styled(f"{number} {sign} {pane.title}", style))
        if panes.zoomed:
            names.append(Content.styled("zoomed", "$text-warning"))
        arrows = "↑↓" if panes.flow == "stacked" else "←→"
        turn = "side by side" if panes.flow == "stacked" else "stacked"
        keys = [("esc", "done"), (arrows, "move the edge"), ("tab", "next pane"), ("z", "zoom"),
                (f"1-{len(panes.panes)}", "hide or show"), ("t", turn), ("=", "as at first")]  # fmt: skip
        shown = [Content.assemble((key, "bold $accent"), (f" {text}", "$text-muted")) for key, text in keys]
        lines = [fit(names, width, "  "), fit(shown, width, "  ")]
        return Content("\n").join(line if line.cell_length <= width else line.truncate(width) for line in lines)


class PanesMode(Over, ModalScreen[None]):
    """Lies over a screen with panes until escape; every key is one of its own or does nothing."""

    DEFAULT_CSS = """
    PanesMode { background: transparent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,ctrl+w,ctrl+l,ctrl+m,q", "done", show=False),
        Binding("right,l,down,j,plus,greater_than_sign", "push(1)", show=False),
        Binding("left,h,up,k,minus,less_than_sign", "push(-1)", show=False),
        Binding("tab", "next(1)", show=False, priority=True),
        Binding("shift+tab", "next(-1)", show=False, priority=True),
        Binding("z", "zoom", show=False),
        Binding("t", "turn", show=False),
        Binding("x", "hide", show=False),
        Binding("equals_sign,0", "reset", show=False),
    ]

    def __init__(self, panes: Panes) -> None:
        super().__init__()
        self.panes = panes

    def compose(self) -> ComposeResult:
        """The lines at the bottom."""
        yield PanesLine(self.panes)

    def _changed(self) -> None:
        for line in self.query(PanesLine):  # a key may come before it is there
            line.refresh()

    def on_resize(self) -> None:
        """Other panes may fit."""
        self.call_after_refresh(self._changed)

    def action_done(self) -> None:
        """Leave them so."""
        self.dismiss(None)

    def action_push(self, step: int) -> None:
        """Move the edge beside the pane at hand."""
        self.panes.push(step)
        self._changed()

    def action_next(self, step: int) -> None:
        """The next pane."""
        self.panes.next_pane(step)
        self._changed()

    def action_zoom(self) -> None:
        """The pane at hand alone, or all of them."""
        self.panes.zoom()
        self._changed()

    def action_turn(self) -> None:
        """The other direction."""
        self.panes.turn()
        self._changed()

    def action_hide(self) -> None:
        """Hide the pane at hand."""
        self.panes.toggle(self.panes.at_hand)
        self._changed()

    def action_reset(self) -> None:
        """As the program came."""
        self.panes.reset()
        self._changed()

    def on_key(self, event: events.Key) -> None:
        """A number hides a pane, or shows it."""
        if event.key.isdecimal() and 1 <= int(event.key) <= len(self.panes.panes):
            event.stop()
            self.panes.toggle(self.panes.panes[int(event.key) - 1].id)
            self._changed()
