"""Which models are compared, and over which file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Button, Input, SelectionList, Static
from textual.widgets.selection_list import Selection

from ai_router.comparing.answers import FEWEST, MOST
from ai_router.tui.dialogs import Dialog
from ai_router.tui.widgets.path_input import PathInput, PathSuggester, resolve
from ai_router.tui.widgets.text import inert_block, one_line
from batch.sources import FILE_ENDINGS

if TYPE_CHECKING:
    from ai_router.models import ModelSpec


class ModelsDialog(Dialog["list[ModelSpec]"]):
    """The models that are ready; answers with the two to four that are marked."""

    CSS_PATH = "screen.tcss"
    title_text = "Compare"

    def __init__(self, models: list[ModelSpec], chosen: list[str]) -> None:
        super().__init__()
        self._models, self._chosen = models, chosen

    def compose_dialog(self) -> ComposeResult:
        """The list."""
        yield SelectionList[int](
            *(
                Selection(one_line(spec.id), at, initial_state=spec.id in self._chosen)
                for at, spec in enumerate(self._models)
            ),
            id="compare-list",
        )
        with Horizontal(id="dialog-buttons"):
            yield Button("Compare these", id="compare-use", variant="primary", compact=True)

    @on(Button.Pressed, "#compare-use")
    def _use(self) -> None:
        marked = sorted(self.query_one(SelectionList).selected)
        if not FEWEST <= len(marked) <= MOST:
            self.notify(f"Mark {FEWEST} to {MOST} models", severity="warning", timeout=3)
            return
        self.dismiss([self._models[at] for at in marked])


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
