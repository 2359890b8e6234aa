"""Buttons side by side at the right; those that do not fit stand on the next line, none is cut."""

from __future__ import annotations

from functools import partial

from textual.containers import Horizontal
from textual.geometry import Offset, Region, Size
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.layouts.horizontal import HorizontalLayout
from textual.widget import Widget
from textual.widgets import Button

HIGH = 18  # lines of a screen: from here on one is left free between two of buttons, which else look like one button


class RightwardLines(HorizontalLayout):
    """Lines of as many whole widgets as fit, each line at the right edge, apart where the screen is high enough."""

    name = "rightward-lines"

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:
        """The places in one line, broken where it is full."""
        lines: list[list[WidgetPlacement]] = [[]]
        used = 0
        for placement in super().arrange(parent, children, size, greedy):
            wide = placement.region.width + placement.margin.width
            if lines[-1] and used + wide > size.width:
                lines.append([])
                used = 0
            lines[-1].append(placement)
            used += wide
        placed: list[WidgetPlacement] = []
        top, apart = 0, parent.app.size.height >= HIGH
        for line in lines:
            x = size.width - sum(each.region.width + each.margin.width for each in line)
            for each in line:
                at = Offset(max(0, x + each.margin.left), top + each.margin.top)
                placed.append(each._replace(region=Region.from_offset(at, each.region.size)))
                x += each.region.width + each.margin.width
            top += max((each.region.height + each.margin.height for each in line), default=0) + apart
        return placed


LINES = RightwardLines()


class ButtonRow(Horizontal):
    """As high as its buttons need."""

    DEFAULT_CSS = """
    ButtonRow { height: auto; }
    """

    @property
    def layout(self) -> Layout:
        """One that no style sheet knows."""
        return LINES

    def on_mount(self) -> None:
        """A button that is given another word gets the room for it; by itself it would keep the width it had."""
        for button in self.query(Button):
            self.watch(button, "label", partial(self._room_for, button), init=False)

    @staticmethod
    def _room_for(button: Button) -> None:
        button.refresh(layout=True)
