"""Which models are compared, and over which file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from ai_router.comparing.answers import FEWEST, MOST
from ai_router.tui.dialogs import Dialog
from ai_router.tui.widgets.button_row import ButtonRow
from ai_router.tui.widgets.path_input import PathInput, PathSuggester, resolve
from ai_router.tui.widgets.text import inert_block, one_line
from batch.sources import FILE_ENDINGS

if TYPE_CHECKING:
    from ai_router.models import ModelSpec


class ModelsDialog(Dialog["list[ModelSpec]"]):
    """The models that are ready; answers with the two to four that are marked."""

    CSS_PATH = "screen.tcss"
    title_text = "Compare"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "mark", show=False)]

    def __init__(self, models: list[ModelSpec], chosen: list[str]) -> None:
        super().__init__()
        self._models, self._chosen = models, set(chosen)

    def compose_dialog(self) -> ComposeResult:
        """The list."""
        yield Static(f"space marks {FEWEST} to {MOST} of them · enter compares", id="dialog-text")
        yield OptionList(*map(self._option, self._models), id="compare-list")
        with ButtonRow(id="dialog-buttons"):
            yield Button("Compare these", id="compare-use", variant="primary", compact=True)

    def _option(self, spec: ModelSpec) -> Option:
        sign = ("●", "$text-success") if spec.id in self._chosen else ("○", "$text-muted")
        return Option(Content.assemble(sign, f" {one_line(spec.id)}"))

    def action_mark(self) -> None:
        """Mark the model under the cursor, or take its mark away."""
        listed = self.query_one(OptionList)
        if (at := listed.highlighted) is not None and listed.has_focus:
            self._chosen ^= {self._models[at].id}
            listed.replace_option_prompt_at_index(at, self._option(self._models[at]).prompt)

    @on(Button.Pressed, "#compare-use")
    @on(OptionList.OptionSelected, "#compare-list")
    def _use(self) -> None:
        marked = [spec for spec in self._models if spec.id in self._chosen]
        if not FEWEST <= len(marked) <= MOST:
            self.notify(f"{len(marked)} marked; space marks {FEWEST} to {MOST} models", severity="warning", timeout=3)
            return
        self.dismiss(marked)


class FileDialog(Dialog[str]):
    """Asks for a file of prompts; answers with its path."""

    CSS_PATH = "screen.tcss"
    title_text = "Compare over a file"

    def __init__(self, models: Sequence[str]) -> None:
        super().__init__()
        self._models = models

    def compose_dialog(self) -> ComposeResult:
        """What will happen, and the field."""
        yield Static(
            inert_block(
                f"Each of {', '.join(self._models)} gets a job of its own over the file, one after the other. "
                "Known answers in it are scored."
            ),
            id="dialog-text",
        )
        yield PathInput(
            placeholder="path of a .txt, .jsonl or .csv file; tab completes",
            suggester=PathSuggester(self._bases, FILE_ENDINGS),
        )

    def _bases(self) -> Sequence[Path]:
        return (Path.cwd(), self.services.workspace.root)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self.dismiss(str(resolve(event.value, self._bases())))
