"""Small questions in front of a screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from ai_router.tui.actions import bind
from ai_router.tui.behind import Over
from ai_router.tui.services import Served
from ai_router.tui.widgets.button_row import ButtonRow
from ai_router.tui.widgets.hanging import HangingText
from ai_router.tui.widgets.text import inert_block

T = TypeVar("T")


class Dialog(Served, Over, ModalScreen[T]):
    """A box in the middle; escape answers None. Subclasses implement `compose_dialog`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", id="dialog.cancel"),
        Binding("left,up", "app.focus_previous", show=False),
        Binding("right,down", "app.focus_next", show=False),
        *bind("app.docs"),
    ]
    # The width, too: what one says of itself would have no say against a style sheet.
    DEFAULT_CSS = """
    Dialog > #dialog { width: 64; }
    Dialog OptionList, Dialog OptionList:focus {
        background: transparent; border: none; padding: 0; text-wrap: nowrap; text-overflow: ellipsis;
    }
    Dialog OptionList > .option-list--option-highlighted,
    Dialog OptionList:focus > .option-list--option-highlighted { background: $accent 18%; color: $foreground; }
    """
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-slim"), (60, "-broad")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-tiny"), (18, "-room")]  # noqa: RUF012
    title_text = ""
    keys_text = "esc cancel"

    def compose(self) -> ComposeResult:
        """The box."""
        with Vertical(id="dialog") as box:
            box.border_title = Content(self.title_text)
            box.border_subtitle = Content(self.keys_text)
            yield from self.compose_dialog()

    def compose_dialog(self) -> ComposeResult:
        """What stands in the box."""
        yield from ()

    def action_cancel(self) -> None:
        """Answer None."""
        self.dismiss(None)


class ConfirmDialog(Dialog[str]):
    """Asks; answers with the id of the button, or None. `buttons` are (id, label, kind), the first one focused.

    Kind is "", "primary" or "error". A button is also pressed by its key: the letter before `)` of `d) delete`, or
    the first letter of its label. In the text, values behind labels of `indent` cells go on below themselves.
    """

    def __init__(
        self, title: str, text: str | Content, buttons: Sequence[tuple[str, str, str]], *, indent: int = 0
    ) -> None:
        super().__init__()
        self._indent = indent
        self.title_text = title
        self._text = text if isinstance(text, Content) else inert_block(text)
        self._buttons = buttons

    def compose_dialog(self) -> ComposeResult:
        """Text and buttons."""
        with VerticalScroll(id="dialog-text", can_focus=False):
            yield HangingText(self._text, indent=self._indent)
        with ButtonRow(id="dialog-buttons"):
            for name, label, kind in self._buttons:
                button = Button(_underlined(label), id=f"button-{name}", compact=True)
                if kind:
                    button.add_class(f"-{kind}")
                yield button

    def on_key(self, event: events.Key) -> None:
        """Press a button by its letter."""
        character = (event.character or "").lower()
        for name, label, _ in self._buttons:
            if character and label.lower().startswith(character):
                event.stop()  # else it would go on to the screen below
                event.prevent_default()
                self.dismiss(name)
                return

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss((event.button.id or "").removeprefix("button-"))


class PromptDialog(Dialog[str]):
    """Asks for one line of text; answers with it, or None."""

    keys_text = "enter done · esc cancel"

    def __init__(self, title: str, text: str, value: str = "", *, placeholder: str = "", kind: str = "text") -> None:
        super().__init__()
        self.title_text = title
        self._text, self._value, self._placeholder = text, value, placeholder
        self._integer = kind == "integer"

    def compose_dialog(self) -> ComposeResult:
        """Text and a field."""
        yield Static(inert_block(self._text), id="dialog-text")
        yield Input(self._value, placeholder=self._placeholder, type="integer" if self._integer else "text")

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)


def _underlined(label: str) -> Content:
    """The label with its key underlined."""
    return Content.assemble((label[:1], "underline"), label[1:])
