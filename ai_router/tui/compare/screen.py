"""One prompt, two to four models, their answers side by side; the best of them, by a key, is evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Static

from ai_router.comparing.answers import FEWEST, MOST
from ai_router.memory import Memory
from ai_router.tui.actions import bind
from ai_router.tui.ask.auto import said_of
from ai_router.tui.ask.prompt_area import PromptArea
from ai_router.tui.compare.dialog import FileDialog, ModelsDialog
from ai_router.tui.compare.judging import JudgingScreen
from ai_router.tui.compare.panes import AnswerPanes, facts_of
from ai_router.tui.widgets.text import one_line
from ai_router.tui.widgets.wrapping import Block
from batch.options import SamplingOptions, build_options

if TYPE_CHECKING:
    from ai_router.asking import Asking
    from ai_router.comparing.answers import Row, Said
    from ai_router.models import ModelSpec

POLL_SECONDS = 0.05


class CompareScreen(JudgingScreen):
    """The models answer one after the other, as two of them may not fit into the memory."""

    CSS_PATH = "screen.tcss"
    AUTO_FOCUS = "PromptArea"
    BINDINGS: ClassVar[list[BindingType]] = bind(
        *("compare.models", "compare.file", "compare.export", "app.back"),
        *("compare.1", "compare.2", "compare.3", "compare.4", "compare.all", "compare.none"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.crumbs = ("Compare",)
        self.models: list[ModelSpec] = []
        self.answers: list[Said | None] = []  # of the models that have answered the prompt
        self._prompt = ""
        self._asking: Asking | None = None

    def compose_body(self) -> ComposeResult:
        """Answers above, prompt below."""
        yield AnswerPanes(id="compare-panes")
        yield Static(id="compare-status")
        area = PromptArea(id="compare-prompt", classes="panel", soft_wrap=True, compact=True)
        area.border_title = "Prompt"
        area.border_subtitle = "enter sends · ^j new line"
        yield area

    def on_mount(self) -> None:
        """Begin with the default and the next model that is ready."""
        self.set_interval(POLL_SECONDS, self._poll)
        self.in_thread(lambda: self.services.registry.all(), self._found, busy="looking for models")

    def _found(self, models: list[ModelSpec]) -> None:
        chosen = self.services.workspace.settings.model
        ready = sorted((spec for spec in models if spec.ready), key=lambda spec: spec.id != chosen)
        self._take(ready[:FEWEST])

    def _take(self, models: list[ModelSpec]) -> None:
        self.models, self.answers, self._prompt = models, [], ""
        self.context_text = one_line(" · ".join(spec.id for spec in models), 60)
        self.query_one(AnswerPanes).set_models([spec.id for spec in models], [facts_of(spec) for spec in models])
        if len(models) < FEWEST:
            self.say_error(f"A comparison is of {FEWEST} to {MOST} models, and {len(models)} is ready")
        else:
            self.say("f2 chooses the models, f3 a file; or type a prompt and press enter; up: what was asked last")

    @on(PromptArea.Recalled)
    def _recall(self) -> None:
        """Up: what was asked last, here or in a chat."""
        area = self.query_one(PromptArea)
        if not area.text and (asked := Memory(self.services.workspace.checkpoints).prompts(1)):
            area.text = asked[0]
            area.move_cursor(area.document.end)

    # -- asking ---------------------------------------------------------------------------------------------------

    @on(PromptArea.Sent)
    def action_send(self) -> None:
        """Ask them all."""
        area = self.query_one(PromptArea)
        if not area.text.strip() or len(self.models) < FEWEST:
            self.notify("Type a prompt, and choose two models or more", timeout=2)
            return
        self._prompt, area.text = area.text.strip(), ""
        self.answers = []
        for at in range(len(self.models)):
            self.query_one(AnswerPanes).pane(at).show(Block("…", "muted"))
        self.query_one(AnswerPanes).pane(0).focus()
        self._next()

    def _next(self) -> None:
        spec = self.models[len(self.answers)]
        self._asking = self.services.engines.ask(spec, self._prompt, self._options(spec))

    def _poll(self) -> None:
        asking = self._asking
        if asking is None or not self.alive:
            return
        at = len(self.answers)
        view = self.query_one(AnswerPanes).pane(at)
        text = self.services.engines.partial(asking)
        if not asking.over:
            view.show(Block(text), home=False)
            self.say(f"{self.models[at].id} answers… {asking.seconds:.1f} s   {self.services.engines.status}")
            return
        self._asking = None
        self.answers.append(said_of(asking))
        if not asking.stopped and len(self.answers) < len(self.models):
            self._next()
        self._show()

    @property
    def whole(self) -> bool:
        """Whether every model has answered."""
        return bool(self.answers) and self._asking is None and len(self.answers) == len(self.models)

    @property
    def row(self) -> Row | None:
        """The prompt with its answers, once all are there."""
        return self._row() if self.whole else None

    def _row(self) -> Row:
        from ai_router.comparing.answers import Row

        return Row(1, self._prompt, tuple(self.answers))

    def _show(self) -> None:
        row = self._row()
        self.query_one(AnswerPanes).show(row)
        if self.whole:
            self.ask_for_best(row)
        self.refresh_bindings()

    # -- over a file ----------------------------------------------------------------------------------------------

    def action_file(self) -> None:
        """A job of each model over a file."""
        if len(self.models) < FEWEST:
            self.notify(f"Choose {FEWEST} to {MOST} models first: f2", timeout=3)
            return
        self.app.push_screen(FileDialog([spec.id for spec in self.models]), self._compare_file)

    def _compare_file(self, name: str | None) -> None:
        if name is None:
            return
        services, models, warnings = self.services, list(self.models), list[str]()

        def begin() -> Path:
            from ai_router.comparing.linked import make_linked

            made = make_linked(services.workspace, services.registry, name, models, self._options, warn=warnings.append)
            services.turns.start([job for job, _ in made])
            assert made[0][0].checkpoint_file is not None
            return made[0][0].checkpoint_file

        def begun(path: Path) -> None:
            for text in warnings:
                self.notify(text, severity="warning", markup=False)
            services.jobs_changed.publish(None)
            services.go("compared", path)

        self.in_thread(begin, begun, busy="checking the file", group="file")

    def _options(self, spec: ModelSpec) -> SamplingOptions:
        return self.services.ask_options or build_options(SamplingOptions, dict(spec.sampling))

    # -- what is kept ---------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only answers that are there can be chosen or written."""
        return self.row is not None if action == "export" else super().check_action(action, parameters)

    def action_export(self) -> None:
        """Write the comparison as JSON and as Markdown."""
        row, names = self.row, [spec.id for spec in self.models]
        folder = self.services.workspace.outputs
        if row is None:
            return

        def write() -> list[Path]:
            from ai_router.comparing.files import write_comparison

            return write_comparison(folder, [row], names, same_too=True)

        self.in_thread(write, lambda files: self.say(f"✓ Wrote {files[0]} and {files[1].name}"), group="export")

    def action_models(self) -> None:
        """Choose the models."""

        def chosen(models: list[ModelSpec] | None) -> None:
            if models is not None:
                self.services.engines.stop()
                self._asking = None
                self._take(models)

        ready = [spec for spec in self.services.registry.all() if spec.ready]
        self.app.push_screen(ModelsDialog(ready, [spec.id for spec in self.models]), chosen)

    def action_back(self) -> None:
        """Stop first."""
        if self._asking is not None and not self._asking.over:
            self.services.engines.stop()
        else:
            super().action_back()

    def on_unmount(self) -> None:
        """What is being answered is of no use any more."""
        if self._asking is not None and not self._asking.over:
            self.services.engines.stop()
