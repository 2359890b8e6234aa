"""What a person says of a job: asked for in one dialog."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Button, Input, Static

from ai_router.tui.dialogs import Dialog
from ai_router.tui.widgets.button_row import ButtonRow
from batch.checkpoint.about import About, tags_of


class LabelDialog(Dialog[About]):
    """Name, tags and note; answers with them. Several jobs get the same tags and note, and keep their names."""

    DEFAULT_CSS = """
    LabelDialog Input { margin-bottom: 1; }
    LabelDialog.-tiny Input { margin-bottom: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f2", "keep", "keep")]

    def __init__(self, title: str, about: About | None) -> None:
        super().__init__()
        self.title_text = title
        self._about = about  # None: of several jobs

    def compose_dialog(self) -> ComposeResult:
        """Three fields, or two."""
        if (about := self._about) is None:
            fields = [
                ("tags", "", "words, added to those that they have"),
                ("note", "", "in place of theirs; empty leaves them"),
            ]
        else:
            fields = [
                ("name", about.name, "instead of its file's name"),
                ("tags", " ".join(about.tags), "words; jobs and stats are filtered by them"),
                ("note", about.note.replace("\n", " ⏎ "), "anything"),
            ]
        for name, value, hint in fields:
            yield Static(name, classes="muted")
            yield Input(value, placeholder=hint, id=f"label-{name}")
        with ButtonRow(id="dialog-buttons"):
            yield Button("Keep", id="label-keep", variant="primary", compact=True)

    @on(Button.Pressed, "#label-keep")
    @on(Input.Submitted)
    def action_keep(self) -> None:
        """Answer, where the tags are tags."""
        typed = {(field.id or "").removeprefix("label-"): field.value for field in self.query(Input)}
        note = typed["note"]
        try:
            self.dismiss(
                About(typed.get("name", "").strip(), tags_of(typed["tags"]), note.replace(" ⏎ ", "\n").strip())
            )
        except ValueError as error:
            self.services.show_error(str(error))
