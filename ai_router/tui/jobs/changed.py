"""A job whose model is another one now: it goes on only where a person says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ai_router.tui.dialogs import ConfirmDialog

if TYPE_CHECKING:
    from textual.app import App

    from ai_router.jobs import ChangedModelError


def ask_for_change(app: App[object], error: ChangedModelError, go_on: Callable[[], None]) -> None:
    """Say what has changed, and go on where that is wanted."""

    def answered(button: str | None) -> None:
        if button == "go":
            go_on()

    text = f"{error.problem}. Answers that are there keep who gave them."
    app.push_screen(
        ConfirmDialog("Another model", text, [("back", "Cancel", ""), ("go", "Go on", "primary")]), answered
    )
