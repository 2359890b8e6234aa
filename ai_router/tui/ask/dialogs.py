"""What the Ask screen lets one choose: the model, and the options of an answer."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Button, OptionList
from textual.widgets.option_list import Option

from ai_router.models import ModelSpec
from ai_router.routing import AUTO
from ai_router.tui.dialogs import Dialog
from ai_router.tui.widgets.button_row import ButtonRow
from ai_router.tui.widgets.form import OptionForm
from ai_router.tui.widgets.text import count, one_line, within
from batch.options import OptionError, SamplingOptions

AUTO_HELP = "a model for each prompt, by your routes and what scored jobs have shown"


class ModelDialog(Dialog[str]):
    """The models; answers with an id."""

    CSS_PATH = "screen.tcss"
    title_text = "Model"

    def __init__(self, models: list[ModelSpec], chosen: str, *, auto: bool = False) -> None:
        super().__init__()
        self._models, self._chosen = models, chosen
        self._auto = auto

    def compose_dialog(self) -> ComposeResult:
        """The list."""
        options, root = [], self.services.workspace.root
        for spec in self._models:
            sign = ("✓ ", "$text-success") if spec.ready else ("✗ ", "$text-error")
            known = (spec.engine, spec.parameters_text, f"{count(spec.context)} tokens" if spec.context else "")
            facts = " · ".join(fact for fact in known if fact not in ("", "—"))
            said = (facts, "$text-muted") if spec.ready else (one_line(within(spec.why, root)), "$text-error")
            options.append(Option(Content.assemble(sign, (spec.id, "bold"), "  ", said)))
        if self._auto:
            options.append(Option(Content.assemble("  ", (AUTO, "bold"), (f"  {AUTO_HELP}", "$text-muted"))))
        menu = OptionList(*options, id="model-list")
        names = self._names
        menu.highlighted = names.index(self._chosen) if self._chosen in names else 0
        yield menu

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._names[event.option_index])

    @property
    def _names(self) -> list[str]:
        return [spec.id for spec in self._models] + [AUTO] * self._auto


class OptionsDialog(Dialog[SamplingOptions]):
    """The sampling options; answers with them."""

    CSS_PATH = "screen.tcss"
    title_text = "Options"

    def __init__(self, options: SamplingOptions) -> None:
        super().__init__()
        self._options = options

    def compose_dialog(self) -> ComposeResult:
        """The form."""
        with VerticalScroll(id="options-box", can_focus=False):
            yield OptionForm(SamplingOptions, self._options, whole=True)
        with ButtonRow(id="dialog-buttons"):
            yield Button("Use these", id="options-use", variant="primary", compact=True)
            yield Button("As they come", id="options-default", compact=True)

    @on(Button.Pressed, "#options-use")
    def _use(self) -> None:
        form: OptionForm[SamplingOptions] = self.query_one(OptionForm)
        try:
            self.dismiss(form.build())
        except OptionError:
            form.focus_error()

    @on(Button.Pressed, "#options-default")
    def _default(self) -> None:
        self.dismiss(SamplingOptions())
