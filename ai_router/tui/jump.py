"""Jump mode: a letter on everything on the screen that can be reached; pressing it goes there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.errors import NoWidget
from textual.geometry import Offset
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Static

from ai_router.tui.behind import Over
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


class JumpScreen(Over, ModalScreen[None]):
    """Lies over a screen; a letter goes to its target, any other key only ends it."""

    DEFAULT_CSS = """
    JumpScreen { background: transparent; layers: letters; }
    JumpScreen > .jump { layer: letters; width: auto; height: 1; text-style: bold; }
    JumpScreen > .jump { background: $warning; color: $background; }
    JumpScreen > .jump.-other { display: none; }
    JumpScreen > .jump:ansi { text-style: bold reverse; background: ansi_default; color: ansi_default; }
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__()
        self.targets = dict(zip(labels(len(targets)), targets, strict=True))
        self._typed = ""

    def compose(self) -> ComposeResult:
        """The letters."""
        for letters, target in self.targets.items():
            label = Static(letters, classes="jump", markup=False)
            label.styles.position = "absolute"
            label.styles.offset = target.at
            yield label

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
            for label, letters in zip(self.query(".jump"), self.targets, strict=True):
                label.set_class(not letters.startswith(typed), "-other")
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
