"""A field for a path that completes it as it is typed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.suggester import Suggester
from textual.widgets import Input

from batch.sources import user_path


def resolve(text: str, bases: Sequence[Path]) -> Path:
    """A typed path: quotes and `~` as a shell has them, a relative one from the first base where it exists."""
    path = user_path(text)
    if path.is_absolute():
        return path
    for base in bases:
        if (base / path).exists():
            return base / path
    return bases[0] / path


def complete(text: str, bases: Sequence[Path], suffixes: Sequence[str] = ()) -> str | None:
    """The typed path with the first name that goes on from it, or None. Reads one folder.

    With `suffixes` no file of another kind is offered, however near its name.
    """
    if not text.strip() or text[0] in "'\"":
        return None
    folder, name = os.path.split(os.path.expanduser(text))
    for base in bases:
        names: list[str] = []
        try:
            with os.scandir(base / folder) as entries:
                for entry in entries:
                    if suffixes and not entry.name.lower().endswith(tuple(suffixes)) and not entry.is_dir():
                        continue
                    if entry.name.startswith(name) and (name.startswith(".") or not entry.name.startswith(".")):
                        names.append(entry.name + (os.sep if entry.is_dir() else ""))
        except (OSError, ValueError):
            continue
        if names:
            # What is typed stays as it is, `~` too.
            return text + min(names, key=lambda n: (not n.endswith(os.sep), n.lower()))[len(name) :]
    return None


class PathSuggester(Suggester):
    """Completes paths from the file system, in a thread."""

    def __init__(self, bases: Callable[[], Sequence[Path]], suffixes: Sequence[str] = ()) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._bases, self._suffixes = bases, suffixes

    async def get_suggestion(self, value: str) -> str | None:
        """The completed path."""
        return await asyncio.to_thread(complete, value, self._bases(), self._suffixes)


class PathInput(Input):
    """Tab (or right) takes the completion; without one, tab goes on to the next field."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", "complete", show=False),
        Binding("down", "app.focus_next", "files", show=False),
    ]

    async def action_complete(self) -> None:
        """Take the completion, or look for it where it has not come yet."""
        value, at_end = self.value, self.cursor_position == len(self.value)
        found = self._suggestion
        if at_end and not found and self.suggester is not None:
            found = await self.suggester.get_suggestion(value) or ""
        if at_end and found and found != value:
            self.value = found
            self.cursor_position = len(found)
        else:
            self.screen.focus_next()
