"""The container of a screen's panes: lays them out, moves their edges with the mouse, remembers how they stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from textual import events
from textual.geometry import Size
from textual.widget import Widget

from ai_router.memory import Memory, MemoryFileError
from ai_router.tui.panes.layout import Flow, Pane, cells_of, flow_of, is_low, moved, shown_panes
from ai_router.tui.services import Served
from ai_router.tui.widgets.backdrop import BackContainer

KEY = "panes."  # of what is remembered
CHROME = 3  # lines of a screen that are not its panes, about
STEP = {"side": 4, "stacked": 2}  # cells and lines for one key


class Panes(Served, BackContainer):
    """Holds the widgets of some panes, in their order.

    `name` is what their shares, and which of them are hidden, are remembered by. What is zoomed is not remembered.
    """

    DEFAULT_CSS = """
    Panes { height: 1fr; width: 1fr; }
    """

    def __init__(self, name: str, panes: Sequence[Pane], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.remembered_as, self.panes = name, list(panes)
        self.hidden: set[str] = set()
        self.shares: dict[Flow, dict[str, int]] = {"side": {}, "stacked": {}}
        self.chosen_flow: Flow | None = None
        self.zoomed = ""
        self._cells: dict[str, int] = {}
        self._laid_out: object = None
        self._dragged: tuple[str, int] | None = None  # the pane before the edge, and where the pointer was

    # -- laying out -----------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """As they stood last time; before the first frame, which would be of another layout else."""
        self._recall()
        width, height = self.app.size
        self.lay_out(Size(width, max(1, height - CHROME)))

    def on_resize(self, event: events.Resize) -> None:
        """As there is room."""
        self.lay_out(event.size)

    def lay_out(self, size: Size | None = None) -> None:
        """Show the panes that there is room for."""
        width, height = size or self.size
        flow, shown = self._plan(width, height)
        self._cells = cells_of(shown, self.shares[flow], width if flow == "side" else height, flow)
        wanted = (flow, tuple(self._cells.items()))
        if wanted == self._laid_out:
            return
        self._laid_out = wanted
        focused = self.screen.focused
        self.styles.layout = "horizontal" if flow == "side" else "vertical"
        for pane in self.panes:
            widget = self.widget(pane.id)
            widget.display = pane.id in self._cells
            widget.set_class(pane in shown and is_low(pane, shown, height, flow), "-low")
            share = f"{self._cells.get(pane.id, 0)}fr"
            widget.styles.width, widget.styles.height = (share, "1fr") if flow == "side" else ("1fr", share)
        if focused is not None and self.pane_of(focused) not in (*self._cells, ""):
            self.focus_pane(min(shown, key=lambda pane: pane.rank).id)
        self.call_after_refresh(self._tell)

    def _plan(self, width: int, height: int) -> tuple[Flow, list[Pane]]:
        flow = flow_of(width, height, self.chosen_flow)
        return flow, shown_panes(self.panes, self.hidden, width, height, flow, self.zoomed)

    def _tell(self) -> None:
        if (tell := getattr(self.screen, "panes_changed", None)) is not None and self.is_attached:
            tell()

    @property
    def flow(self) -> Flow:
        """The direction in which they stand."""
        return self._plan(*self.size)[0]

    @property
    def shown(self) -> list[str]:
        """The ids of the panes that stand there, in their order."""
        return list(self._cells)

    def widget(self, pane: str) -> Widget:
        """The widget of a pane."""
        return self.query_one(f"#{pane}")

    def shows(self, pane: str) -> bool:
        """Whether a pane stands there."""
        return pane in self._cells

    # -- what is done with them -----------------------------------------------------------------------------------

    @property
    def at_hand(self) -> str:
        """The pane with the focus, else the first of those that are shown."""
        focused = self.screen.focused
        pane = self.pane_of(focused) if focused is not None else ""
        return pane or (self.shown or [self.panes[0].id])[0]

    def pane_of(self, widget: Widget) -> str:
        """The id of the pane that a widget is in, or ""."""
        ids = {pane.id for pane in self.panes}
        return next((node.id for node in (widget, *widget.ancestors) if node.id in ids), "") or ""

    def focus_pane(self, pane: str) -> None:
        """Give the focus to a pane, or to the first in it that takes it."""
        widget = self.widget(pane)
        target = next((node for node in widget.walk_children(Widget, with_self=True) if node.focusable), None)
        if target is not None:
            self.screen.set_focus(target)

    def next_pane(self, step: int = 1) -> None:
        """The focus to the next pane that takes it."""
        shown = self.shown
        at = shown.index(self.at_hand) if self.at_hand in shown else 0
        for place in range(1, len(shown)):
            pane = shown[(at + step * place) % len(shown)]
            self.focus_pane(pane)
            if (focused := self.screen.focused) is not None and self.pane_of(focused) == pane:
                return

    def zoom(self, pane: str | None = None) -> None:
        """A pane alone (the one at hand), or all of them again."""
        self.zoomed = "" if self.zoomed else pane or self.at_hand
        self.lay_out()

    def toggle(self, pane: str) -> None:
        """Hide a pane, or show it; the last one stays."""
        self.zoomed = ""
        if pane in self.hidden:
            self.hidden.discard(pane)
        elif len(self.hidden) < len(self.panes) - 1:
            self.hidden.add(pane)
        self.lay_out()
        self.keep()

    def turn(self) -> None:
        """Side by side, or one above the other."""
        self.chosen_flow = "stacked" if self.flow == "side" else "side"
        self.lay_out()
        self.keep()

    def reset(self) -> None:
        """As the program came."""
        self.hidden.clear()
        self.shares = {"side": {}, "stacked": {}}
        self.chosen_flow, self.zoomed = None, ""
        self.lay_out()
        self.keep()

    def grow(self, step: int) -> None:
        """Make the pane at hand larger by some steps (smaller where negative), at the cost of the one beside it."""
        shown, flow = self.shown, self.flow
        if len(shown) < 2:
            return
        at = shown.index(self.at_hand)
        last = at == len(shown) - 1
        self.move_edge(shown[at - 1] if last else shown[at], (-step if last else step) * STEP[flow])

    def push(self, step: int) -> None:
        """Move the edge beside the pane at hand, to the right or down where positive."""
        shown = self.shown
        at = shown.index(self.at_hand)
        self.grow(-step if len(shown) > 1 and at == len(shown) - 1 else step)

    def move_edge(self, left: str, step: int, *, keep: bool = True) -> None:
        """Move the edge behind a pane by some cells."""
        flow, shown = self._plan(*self.size)
        self.shares[flow] = {**self.shares[flow], **moved(shown, self._cells, left, step, flow)}
        self.lay_out()
        if keep:
            self.keep()

    # -- the mouse ------------------------------------------------------------------------------------------------

    def edge_at(self, x: int, y: int) -> str:
        """The pane before the edge (both borders) at a place of the screen, or ""."""
        shown = self.shown
        for before, after in pairwise(shown):
            region = self.widget(after).region
            at, start, inside = (x, region.x, self.region.y <= y < self.region.bottom)
            if self.flow == "stacked":
                at, start, inside = (y, region.y, self.region.x <= x < self.region.right)
            if inside and at in (start - 1, start):
                return before
        return ""

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Take hold of an edge."""
        x, y = round(event.screen_x), round(event.screen_y)
        if edge := self.edge_at(x, y):
            event.stop()
            self._dragged = edge, y if self.flow == "stacked" else x
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """The edge goes with the pointer."""
        x, y = round(event.screen_x), round(event.screen_y)
        if self._dragged is None:
            self.styles.pointer = "default" if not self.edge_at(x, y) else "move"
            return
        edge, before = self._dragged
        now = y if self.flow == "stacked" else x
        if now != before and edge in self.shown:
            start = self._cells[edge]
            self.move_edge(edge, now - before, keep=False)
            # Where the edge could not follow, the pointer has to come back to it first.
            self._dragged = edge, before + self._cells[edge] - start

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Let go."""
        if self._dragged is not None:
            event.stop()
            self._dragged = None
            self.release_mouse()
            self.screen.clear_selection()
            self.keep()

    # -- what is remembered ---------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Remember how they stand."""
        value = {"hidden": sorted(self.hidden), "shares": self.shares, "flow": self.chosen_flow}
        try:
            Memory(self.services.workspace.checkpoints).keep(KEY + self.remembered_as, value)
        except MemoryFileError as error:
            self.services.show_error(error)

    def _recall(self) -> None:
        found: Any = Memory(self.services.workspace.checkpoints).recall(KEY + self.remembered_as)
        if not isinstance(found, Mapping):
            return
        ids = {pane.id for pane in self.panes}
        hidden = found.get("hidden")
        self.hidden = {name for name in hidden if name in ids} if isinstance(hidden, list) else set()
        if len(self.hidden) == len(ids):
            self.hidden.clear()
        self.chosen_flow = flow if (flow := found.get("flow")) in ("side", "stacked") else None
        shares = found.get("shares")
        for name in self.shares:
            known = shares.get(name) if isinstance(shares, Mapping) else None
            if isinstance(known, Mapping):
                self.shares[name] = {
                    key: value for key, value in known.items() if key in ids and isinstance(value, int) and value > 0
                }
