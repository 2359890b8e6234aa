"""What lies behind a screen: nothing where it is opaque; behind a dialog, drawn darker, each style mixed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.segment import Segment
from rich.style import Style as RichStyle
from textual._context import visible_screen_stack
from textual.app import App
from textual.color import Color
from textual.command import CommandPalette
from textual.css.styles import RulesMap
from textual.renderables.background_screen import BackgroundScreen
from textual.screen import Screen
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, Visual

_MOST_STYLES = 4096
_mixed: dict[tuple[RichStyle | None, Color], RichStyle | None] = {}


def mixed(style: RichStyle | None, color: Color) -> RichStyle | None:
    """A style under a colour, without what could be clicked; as Textual mixes it."""
    key = style, color
    if key not in _mixed:
        if len(_mixed) >= _MOST_STYLES:
            _mixed.clear()
        (segment,) = BackgroundScreen.process_segments([Segment("x", style)], color)
        _mixed[key] = segment.style
    return _mixed[key]


class BehindApp(App[int]):
    """Takes no screen for seen that lies below an opaque one."""

    @property
    def _background_screens(self) -> list[Screen[Any]]:
        """What is seen through the screen on top. Textual has the one below an opaque screen among them: it would be
        drawn, with all that lies over it, each time that it changes."""
        stack = self._screen_stack
        return [] if stack and stack[-1].styles.background.a == 1 else super()._background_screens


class Behind(Visual):
    """A screen under a colour."""

    def __init__(self, screen: Screen[Any], color: Color) -> None:
        self._screen, self._color = screen, color

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        """Its lines."""
        color = self._color
        return [
            Strip(
                [piece if piece.control else Segment(piece.text, mixed(piece.style, color)) for piece in strip],
                strip.cell_length,
            )
            for strip in self._screen._compositor.render_strips()[:height]
        ]

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        """All there is."""
        return container_width

    def get_height(self, rules: RulesMap, width: int) -> int:
        """That of the screen."""
        return self._screen.size.height


if TYPE_CHECKING:
    _Mixed = Screen[Any]
else:  # Textual takes styles and bindings from the first base that is a widget alone
    _Mixed = object


class Over(_Mixed):
    """Mixed into a screen that lies over another one."""

    auto_links = False

    def render(self) -> Any:
        """What is behind it."""
        stack, background = visible_screen_stack.get([]), self.styles.background
        below = stack[-1] if stack else None
        if below is None or below is self or background.a >= 1:
            return super().render()
        stack.pop()
        return self.behind(below, background)

    def behind(self, below: Screen[Any], color: Color) -> Behind:
        """A screen under a colour."""
        return Behind(below, color)


class Palette(Over, CommandPalette):
    """Textual's."""

    def waits_for(self, key: str) -> bool:
        """What is chosen is one of what was typed last."""
        return key == "enter" and any(
            work.group == self._GATHER_COMMANDS_GROUP and not work.is_finished for work in self.workers
        )
