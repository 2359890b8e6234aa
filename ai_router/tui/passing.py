"""Messages that answer a key: the newest takes the place of the one before, and none lies over a question."""

from __future__ import annotations

from typing import Any

from textual.app import App
from textual.notifications import Notification, Notify
from textual.screen import ModalScreen, Screen

LONGEST = 5.0  # seconds: Textual's own where none are named; what lasts longer is to be read by who was away


def passing(message: Notification) -> bool:
    """Whether it answers a key: no warning, no error, and soon gone."""
    return message.severity == "information" and message.timeout <= LONGEST


class PassingMessages(App[int]):
    """An app that shows one of them at a time: a key that is pressed five times does not cover the screen."""

    def on_notify(self, event: Notify) -> None:
        """Before Textual shows another message."""
        if passing(event.notification):
            self._forget_passing()

    def push_screen(self, screen: Screen[Any] | str, *args: Any, **kwargs: Any) -> Any:
        """Before another screen is shown."""
        if isinstance(screen, ModalScreen):
            self._forget_passing()
        return super().push_screen(screen, *args, **kwargs)

    def _forget_passing(self) -> None:
        for message in [each for each in self._notifications if passing(each)]:
            self._unnotify(message)
