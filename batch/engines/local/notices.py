"""What a core says while it is being opened, before it can answer: whoever opens it may listen."""

from __future__ import annotations

from collections.abc import Callable

_listeners: list[Callable[[str], None]] = []


def listen(listener: Callable[[str], None]) -> Callable[[], None]:
    """Hear what is said from now on; the function returned ends it."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def say(text: str) -> None:
    """Tell what is being done, in a few words, for display."""
    for listener in list(_listeners):
        listener(text)
