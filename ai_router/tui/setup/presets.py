"""Options that were kept, to be taken: last time's, the model's own, those of templates, or by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from ai_router.presets import Preset
from ai_router.tui.dialogs import Dialog
from ai_router.tui.widgets.text import one_line

LAST, OWN = "As last time", "As they come"


class PresetsDialog(Dialog[tuple[str, Preset]]):
    """Answers with a preset and its name; a named one may be taken away with delete."""

    title_text = "Options"
    DEFAULT_CSS = """
    PresetsDialog OptionList { height: auto; max-height: 14; background: transparent; border: none; padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("delete,d", "forget", show=False)]

    def __init__(self, found: Mapping[str, Preset], own: int) -> None:
        super().__init__()
        self._found, self._own = dict(found), own  # so many of the first are no person's
        self.forgotten: list[str] = []

    def compose_dialog(self) -> ComposeResult:
        """The list."""
        yield Static("Enter takes them, d takes a named one away.", id="dialog-text")
        yield OptionList(*(Option(_line(name, preset)) for name, preset in self._found.items()))

    def action_forget(self) -> None:
        """Take a named one away."""
        menu = self.query_one(OptionList)
        at = menu.highlighted
        if at is not None and at >= self._own:
            name = list(self._found)[at]
            self.forgotten.append(name)
            del self._found[name]
            menu.remove_option_at_index(at)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(list(self._found.items())[event.option_index])


def _line(name: str, preset: Preset) -> Content:
    changed: dict[str, Any] = {**preset.sampling, **preset.run}
    facts = ", ".join(f"{option} {value}" for option, value in changed.items()) or "nothing changed"
    return Content.assemble((one_line(name, 30), "bold"), (f"  {one_line(facts, 60)}", "$text-muted"))
