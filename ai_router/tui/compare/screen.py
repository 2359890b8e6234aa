"""One prompt, two to four models, their answers side by side; the best of them, by a key, is evidence."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from ai_router.comparing.answers import FEWEST, MOST
from ai_router.memory import Memory
from ai_router.tui.actions import bind
from ai_router.tui.ask.auto import said_of
from ai_router.tui.ask.screen import PromptArea
from ai_router.tui.base import BaseScreen
from ai_router.tui.compare.dialog import ModelsDialog
from ai_router.tui.widgets.text import harmless, one_line, plural
from ai_router.tui.widgets.text_view import Block, TextView
from batch.options import SamplingOptions, build_options

if TYPE_CHECKING:
    from ai_router.asking import Asking
    from ai_router.comparing.answers import Row, Said
    from ai_router.models import ModelSpec

POLL_SECONDS = 0.05


def facts_of(spec: ModelSpec) -> list[Block]:
    """What is known of a model, where its answer will stand."""
    rows = (
        ("engine", spec.engine),
        ("parameters", spec.parameters_text),
        ("context", f"{spec.context:,} tokens" if spec.context else "—"),
        ("sampling", ", ".join(f"{key} {value}" for key, value in spec.sampling.items()) or "the model's own"),
        ("from", spec.source),
    )
    lines = "\n".join(f"{name:<11} {harmless(str(value))}" for name, value in rows)
    return [Block(lines, "muted"), Block(""), Block("Its answer will stand here.", "muted")]


class CompareScreen(BaseScreen[None]):
    """The models answer one after the other, as two of them may not fit into the memory."""

    CSS_PATH = "screen.tcss"
    AUTO_FOCUS = "PromptArea"
    BINDINGS: ClassVar[list[BindingType]] = bind(
        *("compare.models", "compare.export", "app.back"),
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
        with Container(id="compare-panes"):
            for at in range(MOST):
                view = TextView(id=f"compare-{at}", classes="panel")
                view.display = False
                yield view
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
        for at in range(MOST):
            view = self.query_one(f"#compare-{at}", TextView)
            view.display = at < len(models)
            if at < len(models):
                view.border_title = Content(f"{at + 1}  {harmless(models[at].id)}")
                view.show(*facts_of(models[at]))
        if len(models) < FEWEST:
            self._say_error(f"A comparison is of {FEWEST} to {MOST} models, and {len(models)} is ready")
        else:
            self._say("f2 chooses the models; type a prompt and press enter; up: what was asked last")

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
            self.query_one(f"#compare-{at}", TextView).show(Block("…", "muted"))
        self.query_one("#compare-0").focus()
        self._next()

    def _next(self) -> None:
        spec = self.models[len(self.answers)]
        options = self.services.ask_options or build_options(SamplingOptions, dict(spec.sampling))
        self._asking = self.services.engines.ask(spec, self._prompt, options)

    def _poll(self) -> None:
        asking = self._asking
        if asking is None or not self.alive:
            return
        at = len(self.answers)
        view = self.query_one(f"#compare-{at}", TextView)
        text = self.services.engines.partial(asking)
        if not asking.over:
            view.show(Block(text), home=False)
            self._say(f"{self.models[at].id} answers… {asking.seconds:.1f} s   {self.services.engines.status}")
            return
        self._asking = None
        self.answers.append(said_of(asking))
        if not asking.stopped and len(self.answers) < len(self.models):
            self._next()
        self._show()

    @property
    def row(self) -> Row:
        """The prompt with the answers there are."""
        from ai_router.comparing.answers import Row

        return Row(1, self._prompt, tuple(self.answers))

    def _show(self) -> None:
        from ai_router.comparing.answers import differences
        from ai_router.comparing.forms import figures

        row = self.row
        for at, (answer, shown) in enumerate(zip(row.answers, differences(row), strict=True)):
            assert answer is not None
            self.query_one(f"#compare-{at}", TextView).show(
                Block(figures(answer), "muted"), Block(""), Block(shown, "error" if answer.error else ""), home=False
            )
        if self.whole:
            same = "the answers differ; [-so-] and {+so+} is against the first" if row.differs else "all say the same"
            self._say(f"✓ {same}.   Which is best? 1–{len(self.answers)}, a: all are right, n: none")
        self.refresh_bindings()

    @property
    def whole(self) -> bool:
        """Whether every model has answered."""
        return bool(self.answers) and self._asking is None and len(self.answers) == len(self.models)

    # -- what is thought of them ----------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only answers that are there can be chosen."""
        if action == "choose":
            return self.whole and (parameters[0] in ("all", "none") or int(str(parameters[0])) < len(self.answers))
        if action == "export":
            return self.whole
        return True

    def action_choose(self, which: str) -> None:
        """Keep which answer is best: its place, `all` or `none`."""
        from ai_router.comparing.choice import choose
        from ai_router.routing.evidence import Evidence

        row, evidence = self.row, Evidence.of(self.services.workspace)
        there = {at for at, answer in enumerate(row.answers) if answer is not None and answer.text is not None}
        best = there if which == "all" else set() if which == "none" else {int(which)}
        self.in_thread(
            lambda: choose(evidence, row, best),
            lambda count: self._say(f"✓ Kept as evidence: {plural(count, 'graded answer')}"),
            group="choose",
        )

    def action_export(self) -> None:
        """Write the comparison as JSON and as Markdown."""
        row, names = self.row, [spec.id for spec in self.models]
        folder = self.services.workspace.outputs

        def write() -> list[Path]:
            import json

            from ai_router.comparing.answers import compared
            from ai_router.comparing.forms import document, markdown
            from batch.export.atomic import atomic_file

            made = compared(iter([row]), names)
            stem = f"comparison-{datetime.now():%Y%m%d-%H%M%S}"
            texts = {
                ".json": json.dumps(document(made, [row]), indent=2, ensure_ascii=False) + "\n",
                ".md": markdown(made, [row]),
            }
            for suffix, text in texts.items():
                with atomic_file(folder / f"{stem}{suffix}") as file:
                    file.write(text.encode("utf-8", "backslashreplace"))
            return [folder / f"{stem}{suffix}" for suffix in texts]

        self.in_thread(write, lambda files: self._say(f"✓ Wrote {files[0]} and {files[1].name}"), group="export")

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

    def _say(self, text: str) -> None:
        self.query_one("#compare-status", Static).update(Content(harmless(text)))

    def _say_error(self, text: str) -> None:
        self.query_one("#compare-status", Static).update(Content.styled(f"✗ {harmless(text)}", "$text-error"))
