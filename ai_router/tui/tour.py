"""The tour of the first start: six steps, to be skipped at any moment, never shown again by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Button, Static

from ai_router.trust import home_folder
from ai_router.tui.dialogs import Dialog
from ai_router.tui.widgets.button_row import ButtonRow

SEEN = "tour-seen"  # a file of the user's folder

STEPS: Sequence[tuple[str, str]] = (
    ("Prompts in, answers out", "ai-router answers many prompts, and keeps every answer. A run may be stopped at any "
     "moment, by you or by a crash: it goes on where it stopped, and nothing is asked or paid twice."),
    ("Ask", "[1] asks one thing now and shows the answer as it is written. The chat is kept; f7 finds it again."),
    ("Batch", "[5] takes a file of prompts (lines, JSONL, CSV, Parquet) or typed ones. Choose a model, see what it "
     "will cost, try a few of them, then run."),
    ("Jobs and results", "[3] has every job. Read it, filter it (/), run again what failed (t), score it (v), write it "
     "to a file (e). What runs stands in a line at the bottom of every screen; ^b goes to it."),
    ("Models", "[2] shows what can answer: models on this machine, in servers beside it, and behind keys. n adds one, "
     "p fetches one, t tests how quick it is."),
    ("Finding your way", "Esc goes back. ? shows the keys of a screen, F1 explains it. : finds any action, job, file "
     "or model by name, ^o puts a letter on everything, ^w arranges the panes. The tour is in the palette (:)."),
)  # fmt: skip


def tour_is_due(folder: Path | None = None) -> bool:
    """Whether nobody of this account has seen it; from now on it counts as seen."""
    mark = (folder or home_folder()) / SEEN
    try:
        if mark.exists():
            return False
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError:  # where that cannot be remembered, it would come at every start
        return False
    return True


class TourDialog(Dialog[None]):
    """One step at a time."""

    DEFAULT_CSS = """
    TourDialog #tour-box { height: auto; min-height: 5; margin-bottom: 1; }
    TourDialog #tour-text { height: auto; }
    TourDialog:ansi #tour-box { background: ansi_default; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n,enter,pagedown", "step(1)", show=False),
        Binding("p,backspace,pageup", "step(-1)", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("up,k", "scroll(-1)", show=False),
    ]
    title_text = "Tour"

    def __init__(self) -> None:
        super().__init__()
        self.step = 0

    def compose_dialog(self) -> ComposeResult:
        """Text and buttons."""
        with VerticalScroll(id="tour-box", can_focus=False):
            yield Static(id="tour-text")
        with ButtonRow(id="dialog-buttons"):
            for name, label in (("next", "Next"), ("back", "Back"), ("skip", "Skip")):
                button = Button(
                    label, id=f"tour-{name}", variant="primary" if name == "next" else "default", compact=True
                )
                button.can_focus = False  # for the mouse: what a button sends could come after the next key
                yield button

    def on_resize(self) -> None:
        """The buttons stay in sight."""
        self.query_one("#tour-box").styles.max_height = max(1, self.app.size.height - 8)

    def on_mount(self) -> None:
        """The first."""
        self.query_one("#dialog").border_subtitle = "enter next · p back · esc skips"
        self._show()

    def _show(self) -> None:
        title, text = STEPS[self.step]
        self.query_one("#dialog").border_title = Content(f"{self.step + 1} of {len(STEPS)} · {title}")
        self.query_one("#tour-text", Static).update(Content(text))
        self.query_one("#tour-box").scroll_home(animate=False)
        self.query_one("#tour-next", Button).label = "Begin" if self.step == len(STEPS) - 1 else "Next"
        self.query_one("#tour-back", Button).disabled = self.step == 0
        self.query_one("#tour-skip").display = self.step < len(STEPS) - 1

    def action_step(self, step: int) -> None:
        """The next step, or the one before."""
        if self.step + step >= len(STEPS):
            self.dismiss()
            return
        self.step = max(0, self.step + step)
        self._show()

    def action_scroll(self, lines: int) -> None:
        """The rest of a step, where there is no room for all of it."""
        self.query_one("#tour-box").scroll_relative(y=lines, animate=False)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """By the button."""
        if event.button.id == "tour-skip":
            self.dismiss()
        else:
            self.action_step(1 if event.button.id == "tour-next" else -1)
