"""What can be done about models from their screen: add, pull, test, put an adapter over one. Each in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Static

from ai_router.tui.base import BaseScreen
from ai_router.tui.dialogs import ConfirmDialog, PromptDialog
from ai_router.tui.editor import open_in
from ai_router.tui.jobs.view import home
from ai_router.tui.picking import PickDialog
from ai_router.tui.widgets.text import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ai_router.models import ModelSpec
    from ai_router.trial import Trial

EVERY = 0.2  # seconds between two looks at how far a pull is


def adapters_dialog(spec: ModelSpec, models: Sequence[ModelSpec], enter: str) -> PickDialog:
    """The adapters for a model, found ones as models of their own, and a field for the path of another."""
    from ai_router.models.discovery.adapters import fitting

    found = [(one.id, home(one.adapter)) for one in fitting(spec, models) if one.adapter is not None]
    text = f"Enter {enter}; or the path of another:" if found else "None was found; the path of a LoRA adapter:"
    return PickDialog(f"Adapters for {spec.id}", text, found, field="path of a folder or a GGUF file")


class ModelChanges(BaseScreen[None]):
    """Actions of the Models screen; `#models-work` shows what is under way."""

    def __init__(self) -> None:
        super().__init__()
        self._stop: threading.Event | None = None  # of the pull under way
        self.wanted: str | Path = ""  # id or place of the model that the cursor goes to when it is found

    def model_at_hand(self) -> ModelSpec | None:
        """The model under the cursor."""
        raise NotImplementedError

    def action_add(self) -> None:
        """Ask for a path or an address, and write it into models.yaml."""
        dialog = PromptDialog("Add a model", "A folder, a GGUF file, or a server's address", placeholder="~/models/…")
        self.app.push_screen(dialog, lambda place: self._add(place) if place and place.strip() else None)

    def _add(self, place: str, adapter: str | None = None) -> None:
        from ai_router.models.adding import add_model

        file = self.services.workspace.models_file

        def added(spec: ModelSpec) -> None:
            self.wanted = spec.id
            self.services.refresh_registry()
            text = f"{spec.id} added to {file}" + ("" if spec.ready else f", and not ready: {spec.why}")
            self.notify(text, severity="information" if spec.ready else "warning", markup=False)

        self.in_thread(lambda: add_model(file, place.strip(), adapter=adapter), added, busy="adding", group="add")

    def action_remove(self) -> None:
        """Take this model out of models.yaml, when that is said once more."""
        spec = self.model_at_hand()
        if spec is None:
            return
        file = self.services.workspace.models_file

        def removed(_: object) -> None:
            self.services.refresh_registry()
            self.notify(f"{spec.id} removed from {file}", markup=False)

        def chosen(answer: str | None) -> None:
            if answer == "remove":
                self.in_thread(lambda: remove_model(file, spec), removed, busy="removing", group="add")

        from ai_router.models.adding import remove_model

        text = f"Its entry in {home(file)} goes; what it names stays as it is."
        buttons = [("remove", "r) remove", "error"), ("keep", "k) keep", "")]
        self.app.push_screen(ConfirmDialog(f"Remove {spec.id}?", text, buttons), chosen)

    def action_edit(self) -> None:
        """Open models.yaml in the user's editor, and look again when that is closed."""
        file = self.services.workspace.models_file
        file.parent.mkdir(parents=True, exist_ok=True)
        if open_in(self, "EDITOR", file):
            self.services.refresh_registry()

    def action_adapter(self) -> None:
        """Choose among the adapters that were found for this model, or name one."""
        spec = self.model_at_hand()
        if spec is None or spec.is_remote:
            return

        def chosen(answer: tuple[str, str] | None) -> None:
            if answer is not None and answer[0] == "typed":
                self._add(str(spec.path), answer[1])
            elif answer is not None:
                self.services.go("ask", answer[1])

        self.app.push_screen(adapters_dialog(spec, self.services.registry.all(), "asks it"), chosen)

    def action_pull(self) -> None:
        """Ask for a name on the hub and fetch it; while one is fetched, stop it."""
        if self._stop is not None:
            self._stop.set()
            return
        text = (
            "ORG/MODEL on the Hugging Face Hub, or ORG/MODEL:Q4_K_M of GGUF files. What has come is not fetched again."
        )
        dialog = PromptDialog("Pull a model", text, placeholder="ORG/MODEL")
        self.app.push_screen(dialog, lambda name: self._pull(name.strip()) if name and name.strip() else None)

    def _pull(self, name: str) -> None:
        from ai_router.models.pulling import PullStoppedError, pull

        self._stop = stop = threading.Event()
        heard, shown = [f"pulling {name}…"], [0.0]

        def tell(line: str) -> None:
            heard[0] = line
            self.app.call_later(self._show_work, f"{line}   p stops")

        def moved(done: int, whole: int) -> bool:
            if time.monotonic() - shown[0] > EVERY:
                shown[0] = time.monotonic()
                share = f"{done / 1e6:,.0f} of {whole / 1e6:,.0f} MB, {done / max(whole, 1):.0%}"
                self.app.call_later(self._show_work, f"{heard[0]}   {share}   p stops")
            return not stop.is_set() and self.alive

        def over(place: Path) -> None:
            self._ended()
            self.wanted = place
            self.services.refresh_registry()
            self.notify(f"{name} is here", markup=False)

        def failed(error: Exception) -> None:
            self._ended()
            if isinstance(error, PullStoppedError):
                self.notify(str(error), markup=False)
            else:
                self.services.show_error(error)

        self._show_work(heard[0])
        self.in_thread(lambda: pull(name, tell, moved), over, group="pull", failed=failed)

    def _ended(self) -> None:
        self._stop = None
        self._show_work("")

    def _show_work(self, text: str) -> None:
        if self.is_mounted and (not text or self._stop is not None):
            work = self.query_one("#models-work", Static)
            work.update(Content(text))
            work.display = bool(text)

    def action_test(self) -> None:
        """Ask this model a few questions, and show how quick it is."""
        from ai_router.trial import try_model

        spec = self.model_at_hand()
        if spec is None or not spec.ready:
            return
        work: Callable[[], Trial] = lambda: asyncio.run(try_model(spec))  # noqa: E731 - typed
        shown = lambda trial: self._show_trial(spec, trial)  # noqa: E731 - as a name for what follows
        self.in_thread(work, shown, busy=f"testing {spec.id}", group="test")

    def _show_trial(self, spec: ModelSpec, trial: Trial) -> None:
        from ai_router.models.line import place_of

        lines = [
            f"engine       {' '.join(filter(None, (spec.engine, place_of(trial.about))))}",
            *((f"load         {trial.load_seconds:,.1f} s",) if trial.load_seconds is not None else ()),
            *((f"latency      {trial.latency:,.2f} s asked alone",) if trial.latency is not None else ()),
            *((f"first token  {trial.first_token:,.3f} s",) if trial.first_token is not None else ()),
            f"rate         {trial.answered / max(trial.seconds, 1e-9):,.1f} answers/s, "
            f"{trial.tokens / max(trial.seconds, 1e-9):,.0f} tokens/s with {trial.together} at once",
            *((f"memory       {trial.peak_bytes / 1e9:,.2f} GB at most",) if trial.peak_bytes else ()),
            *(f"✗ {plural(trial.failures.count(text), 'question')}: {text}" for text in dict.fromkeys(trial.failures)),
        ]
        self.app.push_screen(ConfirmDialog(f"Test of {spec.id}", "\n".join(lines), [("close", "close", "primary")]))
