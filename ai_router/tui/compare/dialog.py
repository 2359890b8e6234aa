"""Which models are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Button, SelectionList
from textual.widgets.selection_list import Selection

from ai_router.comparing.answers import FEWEST, MOST
from ai_router.tui.dialogs import Dialog
from ai_router.tui.widgets.text import one_line

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
