"""A choice from a list, with a field for what does not stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from ai_router.tui.dialogs import Dialog
from ai_router.tui.widgets.text import inert_block, one_line

FACTS = 60  # cells of what is said of a choice


class PickDialog(Dialog[tuple[str, str]]):
    """Answers `("enter" | "space", name)` of a choice, or `("typed", text)` of the field; `field` is its placeholder.

    `choices` are names and what is said of each. Space is another answer than enter where `other` says what it does.
    """

    DEFAULT_CSS = """
    PickDialog > #dialog { width: 84; }
    PickDialog OptionList { height: auto; max-height: 14; background: transparent; border: none; padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "other", show=False)]

    def __init__(
        self, title: str, text: str, choices: Sequence[tuple[str, str]], *, field: str = "", other: str = ""
    ) -> None:
        super().__init__()
        self.title_text = title
        self._text, self._choices, self._field, self._other = text, choices, field, other

    def compose_dialog(self) -> ComposeResult:
        """What it is about, the list, the field."""
        yield Static(inert_block(self._text), id="dialog-text")
        if self._choices:
            yield OptionList(*(Option(_line(name, said)) for name, said in self._choices))
        if self._field:
            yield Input(placeholder=self._field, select_on_focus=False)

    def on_key(self, event: events.Key) -> None:
        """What is typed over the list is meant for the field."""
        field = next(iter(self.query(Input)), None)
        if field is None or field.has_focus or not event.is_printable or event.character in (None, " "):
            return
        field.focus()
        field.insert_text_at_cursor(event.character or "")
        event.stop()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(("enter", self._choices[event.option_index][0]))

    def action_other(self) -> None:
        """Space."""
        lists = self.query(OptionList)
        at = lists.first().highlighted if lists else None
        if self._other and at is not None:
            self.dismiss(("space", self._choices[at][0]))

    @on(Input.Submitted)
    def _typed(self, event: Input.Submitted) -> None:
        if text := event.value.strip():
            self.dismiss(("typed", text))


def _line(name: str, said: str) -> Content:
    return Content.assemble((one_line(name, 40), "bold"), (f"  {one_line(said, FACTS)}", "$text-muted"))
