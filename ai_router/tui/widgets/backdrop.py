"""What stands behind widgets is the same in every line, and is painted once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import Container, Vertical
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

if TYPE_CHECKING:
    _Mixed = Widget
else:  # Textual takes styles, bindings and component classes from the first base that is a widget alone
    _Mixed = object


class Backdrop(_Mixed):
    """Mixed into a container or a screen: where it has no border, all of its lines are the first one."""

    def render_lines(self, crop: Region) -> list[Strip]:
        """One line as often as there are lines; Textual then divides it once, too."""
        styles = self.styles
        if crop.height < 2 or styles.gutter.totals != (0, 0) or styles.has_rule("outline") or styles.has_rule("hatch"):
            return super().render_lines(crop)
        return super().render_lines(Region(crop.x, crop.y, crop.width, 1)) * crop.height


class BackVertical(Backdrop, Vertical):
    """One below the other."""


class BackContainer(Backdrop, Container):
    """As its styles say."""
