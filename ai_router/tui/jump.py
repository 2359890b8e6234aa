"""Jump mode: a letter on everything on the screen that can be reached; pressing it goes there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style as RichStyle
from textual import events
from textual.color import Color
from textual.errors import NoWidget
from textual.geometry import Offset
from textual.screen import ModalScreen, Screen
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions
from textual.widget import Widget

from ai_router.tui.behind import Behind, Over
from ai_router.tui.widgets.jumping import Jumpable, Target

LETTERS = "asdfghjklqwertyuiopzxcvbnm"  # the easy ones first
MOST = len(LETTERS) ** 2


def targets_of(screen: Screen[Any]) -> list[Target]:
    """Everything in sight that takes the focus or can be clicked, from top to bottom."""
    found: dict[Offset, Target] = {}
    for widget in screen.walk_children(Widget):
        if not widget.is_attached or not widget.visible or widget.disabled:
            continue
        try:
            region = screen.find_widget(widget).visible_region
        except NoWidget:  # it is not laid out
            continue
        for target in _of(widget):
            if region.contains_point(target.at):
                found.setdefault(target.at, target)
    return sorted(found.values(), key=lambda target: (target.at.y, target.at.x))[:MOST]


def _of(widget: Widget) -> Iterator[Target]:
    corner = widget.content_region.offset
    if isinstance(widget, Jumpable) and (inside := widget.jump_targets()):
        for target in inside:
            yield Target(corner + target.at, target.go)
    elif widget.focusable:
        yield Target(corner if widget.region.height < 3 else widget.region.offset + Offset(1, 0), widget.focus)


def labels(count: int) -> list[str]:
    """As many labels of letters, none of which begins another: single letters while they last."""
    if count <= len(LETTERS):
        return list(LETTERS[:count])
    # As many first letters as are needed for pairs, from the hard end; the others stand alone.
    pairs = -(-(count - len(LETTERS)) // (len(LETTERS) - 1))
    alone, first = LETTERS[: len(LETTERS) - pairs], LETTERS[len(LETTERS) - pairs :]
    return [*alone, *(one + two for one in first for two in LETTERS)][:count]


class Lettered(Behind):
    """A screen with letters on it: one drawing, and not a widget a letter."""

    def __init__(self, screen: Screen[Any], color: Color, letters: Mapping[Offset, str], style: RichStyle) -> None:
        super().__init__(screen, color)
        self._letters, self._style = letters, style

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        """Its lines."""
        strips = super().render_strips(width, height, style, options)
        for (x, y), letters in self._letters.items():
            if 0 <= y < len(strips):
                line, own = strips[y], Strip([Segment(letters, self._style)])
                strips[y] = Strip.join([line.crop(0, x), own, line.crop(x + len(letters))]).crop(0, line.cell_length)
        return strips


class JumpScreen(Over, ModalScreen[None]):
    """Lies over a screen; a letter goes to its target, any other key only ends it."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"jump--letters"}
    DEFAULT_CSS = """
    JumpScreen { background: transparent; }
    JumpScreen > .jump--letters { text-style: bold; background: $warning; color: $background; }
    JumpScreen:ansi > .jump--letters { text-style: bold reverse; background: ansi_default; color: ansi_default; }
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__()
        self.targets = dict(zip(labels(len(targets)), targets, strict=True))
        self._typed = ""

    @property
    def letters(self) -> dict[Offset, str]:
        """Those that can still be meant, and where they stand."""
        return {target.at: letters for letters, target in self.targets.items() if letters.startswith(self._typed)}

    def behind(self, below: Screen[Any], color: Color) -> Behind:
        """The screen with the letters."""
        return Lettered(below, color, self.letters, self.get_component_rich_style("jump--letters"))

    def on_key(self, event: events.Key) -> None:
        """Letter by letter."""
        event.stop()
        event.prevent_default()
        typed = self._typed + (event.character or "").lower()
        if target := self.targets.get(typed):
            self.dismiss()
            self.app.call_later(target.go)  # when the screen below is the one at hand again
        elif event.is_printable and any(letters.startswith(typed) for letters in self.targets):
            self._typed = typed
            self.refresh()
        else:
            self.dismiss()

    def on_resize(self, event: events.Resize) -> None:
        """Everything stands elsewhere."""
        if event.size != self._size_of_letters and self._size_of_letters is not None:
            self.dismiss()
        self._size_of_letters = event.size

    _size_of_letters: object = None

    def on_click(self) -> None:
        """Ends it."""
        self.dismiss()
