"""The line in which one types what is looked for."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Input, Static

from ai_router.tui.actions import bind


class FilterInput(Input):
    """What is shown follows while one types; Enter goes to it."""

    BINDINGS: ClassVar[list[BindingType]] = bind("filter.submit")


class FindInput(Input):
    """Hidden until it is asked for; the footer says that Enter looks, as nothing happens while one types."""

    BINDINGS: ClassVar[list[BindingType]] = bind("find.submit")

    def __init__(self, placeholder: str, *, id: str) -> None:  # noqa: A002 - the word of Textual
        super().__init__(placeholder=placeholder, id=id)
        self.display = False


class Complaint(Static):
    """The line below a field that says what is wrong with what stands in it, for as long as it is."""

    DEFAULT_CSS = """
    Complaint { height: auto; padding: 0 2; color: $text-error; display: none; }
    """

    def say(self, text: str) -> None:
        """Say it; nothing for "", which takes the line away."""
        self.display = bool(text)
        self.update(Content(text))
