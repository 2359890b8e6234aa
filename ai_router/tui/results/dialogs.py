"""What is asked and told above the results: failures by kind, and which item to go to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Button, TextArea

from ai_router.tui.base import BaseScreen
from ai_router.tui.dialogs import ConfirmDialog, Dialog, PromptDialog
from ai_router.tui.results.data import read_errors
from ai_router.tui.widgets.button_row import ButtonRow
from ai_router.tui.widgets.text import count


def show_errors(screen: BaseScreen[Any], path: Path, show_failed: Callable[[], None]) -> None:
    """Failures of a job by kind; `show_failed` is called where they are wanted in the table."""

    def show(errors: list[tuple[str, str, int]]) -> None:
        wide = max((len(count(number)) for _, _, number in errors), default=0)
        text = "\n".join(f"{count(number):>{wide}}  {kind}: {message}" for kind, message, number in errors)
        buttons = [("show", "Show failed", "primary"), ("close", "Close", "")]
        screen.app.push_screen(ConfirmDialog("Failures by kind", text, buttons, indent=wide + 2), answered)

    def answered(choice: str | None) -> None:
        if choice == "show":
            show_failed()

    screen.in_thread(lambda: read_errors(path), show, busy="counting", group="errors", keys_wait=True)


def ask_for_item(screen: BaseScreen[Any], total: int, go: Callable[[int], None]) -> None:
    """Ask for an item's number; `go` gets its id."""

    def answered(text: str | None) -> None:
        if text is not None and text.strip().lstrip("-").isdigit():
            go(int(text) - 1)

    dialog = PromptDialog("Go to an item", f"Its number, 1 to {count(total)}:", kind="integer")
    screen.app.push_screen(dialog, answered)


class EditDialog(Dialog[tuple[str, bool]]):
    """A prompt to be changed; answers with its text, and whether it is to run as it ran before."""

    title_text = "Change the prompt, and run it again"
    DEFAULT_CSS = """
    EditDialog > #dialog { width: 100; }
    EditDialog TextArea { height: auto; min-height: 4; max-height: 70vh; margin-bottom: 1; }
    EditDialog.-tiny TextArea { max-height: 50vh; margin-bottom: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f2", "use(True)", "run", priority=True),
        Binding("f3", "use(False)", "choose a model", priority=True),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._prompt = text

    def compose_dialog(self) -> ComposeResult:
        """The text."""
        yield TextArea(self._prompt, soft_wrap=True, compact=True)
        with ButtonRow(id="dialog-buttons"):
            yield Button("Run as before (f2)", id="edit-run", variant="primary", compact=True)
            yield Button("Choose a model (f3)", id="edit-choose", compact=True)

    def on_mount(self) -> None:
        """What is typed goes on from the end."""
        area = self.query_one(TextArea)
        area.move_cursor(area.document.end)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.action_use(event.button.id == "edit-run")

    def action_use(self, as_before: bool) -> None:
        """Answer."""
        text = self.query_one(TextArea).text
        if text.strip():
            self.dismiss((text, as_before))
        else:
            self.notify("A prompt with no text is none; esc leaves it as it was", timeout=3)
