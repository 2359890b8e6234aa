"""One prompt, one answer, as it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Static

from ai_router.routing import AUTO
from ai_router.tui.actions import bind
from ai_router.tui.ask.auto import Auto
from ai_router.tui.ask.beside import ABOUT, CHAT, CHATS, PANES, ChatsPane
from ai_router.tui.ask.chatting import ChattingAsk
from ai_router.tui.ask.dialogs import ModelDialog, OptionsDialog
from ai_router.tui.ask.prompt_area import PromptArea
from ai_router.tui.ask.remembering import answer_blocks, apart
from ai_router.tui.ask.second import SecondModel
from ai_router.tui.base import SHORT, TALL
from ai_router.tui.clipboard import copy_from
from ai_router.tui.panes.panes import Panes
from ai_router.tui.widgets.chrome import SPIN_SECONDS, SPINNER
from ai_router.tui.widgets.text import filled, harmless, one_line, plural
from ai_router.tui.widgets.text_view import TextView
from ai_router.tui.widgets.wrapping import Block
from batch.options import SamplingOptions, build_options, options_dict
from batch.thinking import thinking_apart

if TYPE_CHECKING:
    from ai_router.asking import Asking
    from ai_router.models import ModelSpec

POLL_SECONDS = 0.05
LOADING_SHOWN = 1.0  # seconds from which the loading of the model is worth a word
HINT = "Type a prompt below and press enter.\n\nThe first answer takes a moment longer: the model is loaded then."


class AskScreen(ChattingAsk):
    """The engine stays warm between questions; its failures are messages, and the prompt is kept to try again."""

    CSS_PATH = "screen.tcss"
    AUTO_FOCUS = "PromptArea"
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-tiny"), (18, SHORT), (32, TALL)]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c,y", "copy", show=False),
        *bind(
            "ask.turn",
            "ask.model",
            "ask.options",
            "ask.copy",
            "ask.next",
            "ask.best",
            "ask.again",
            "ask.stop",
            "app.back",
        ),
        *bind("ask.new_chat", "ask.chats", "ask.rendered", "ask.code", "ask.batch", "ask.thinking", "ask.second"),
    ]

    def __init__(self, model: str | None = None) -> None:
        super().__init__()
        self.crumbs = ("Ask",)
        self._wanted = model
        self._spec: ModelSpec | None = None
        self._auto: Auto | None = None  # where each prompt gets a model of its own
        self._asking: Asking | None = None
        self._shown = ""
        self._recalled = -1  # how far back the prompt in the field is
        self._warmed = ""
        self._tick = 0

    def compose_body(self) -> ComposeResult:
        """Answer above, prompt below; beside them, where there is room, the chats and what is asked with."""
        with Panes("ask", PANES):
            yield ChatsPane(id=CHATS)
            with Vertical(id=CHAT):
                with Container(id="ask-answers"):
                    view = TextView(Block(HINT, "muted"), id="ask-answer", classes="panel")
                    view.border_title = "Answer"
                    yield view
                yield Static(id="ask-status")
                area = PromptArea(
                    id="ask-prompt", classes="panel", soft_wrap=True, compact=True, highlight_cursor_line=False
                )
                area.border_title = "Prompt"
                area.border_subtitle = "enter sends · ^j new line"
                yield area
                with Horizontal(id="ask-buttons"):
                    yield Button("Ask", id="ask-send", variant="primary", compact=True)
                    yield Button("Stop", id="ask-stop", compact=True)
                    yield Button("Copy answer", id="ask-copy", compact=True)
                    yield Button("Model", id="ask-model", compact=True)
                    yield Button("Options", id="ask-options", compact=True)
            with VerticalScroll(id=ABOUT, classes="panel", can_focus=False) as box:
                box.border_title = "Model and options"
                yield Static(id="ask-facts")

    def on_mount(self) -> None:
        """Find the model in a thread."""
        self.begin_memory()
        self._put(self.conversation.draft())
        self._show_buttons()
        self.set_interval(POLL_SECONDS, self._poll)
        if self._wanted or not self.come_back():
            self.services.ask_options = self.services.ask_options or self.last_choice().options
            self.find_first()

    def on_unmount(self) -> None:
        """What is being answered is of no use any more; what is typed is kept."""
        self.services.ask_chat = self.conversation.chat
        self.conversation.keep_draft(self._typed)
        if self._asking is not None and not self._asking.over:
            self.services.engines.stop()

    def stop_answers(self) -> None:
        """Stop what is being written; the model may not have been loaded yet."""
        super().stop_answers()
        self._warmed = ""

    def _find(self, name: str) -> None:
        if name == AUTO:
            self.in_thread(lambda: Auto(self.services.registry), self._take_auto, busy="reading the evidence")
            return
        self._auto = None
        self.in_thread(lambda: self.services.registry.get(name), self._take_model, busy="looking for the model")

    def waits_for(self, key: str) -> bool:
        """A question that is sent waits for its model."""
        return super().waits_for(key) or (key == "enter" and self.working("read"))

    def _take_model(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._warm_up()  # somebody typed before it was found
        self._show_context()

    def _take_auto(self, auto: Auto) -> None:
        self._auto, self._spec = auto, None
        self.context_text = f"{AUTO} · {plural(len(auto.router.allowed), 'model')}"
        self.keep_choice()
        for note in auto.notes:
            self.notify(note, severity="warning", markup=False)

    def _show_context(self) -> None:
        self.show_beside()
        self.keep_choice()
        spec = self._spec
        if spec is None:
            return
        changed = ", ".join(f"{name} {value}" for name, value in options_dict(self._options()).items())
        self.context_text = " · ".join(part for part in (spec.id, spec.engine, one_line(changed, 40)) if part)
        if not spec.ready:
            self._say_error(f"{spec.id} is not ready: {spec.why}")

    def _options(self) -> SamplingOptions:
        options = self.services.ask_options
        if options is None:
            options = build_options(SamplingOptions, dict(self._spec.sampling) if self._spec else {})
        return options

    # -- asking ---------------------------------------------------------------------------------------------------

    @on(PromptArea.Sent)
    @on(Button.Pressed, "#ask-send")
    def action_send(self) -> None:
        """Ask."""
        area = self.query_one(PromptArea)
        prompt = area.text.strip()
        if not prompt:
            self.notify("Type a prompt first", timeout=2)
            return
        if self._auto is not None:
            auto = self._auto
            self.in_thread(lambda: auto.begin(prompt), lambda spec: self._ask(spec, prompt), group="route")
            return
        if self._spec is None:
            self.find_first()
            return
        self._ask(self._spec, prompt)

    def _ask(self, spec: ModelSpec, prompt: str, *, again: bool = False) -> None:
        if not spec.ready:
            self._say_error(f"{spec.id} is not ready: {spec.why}")
            return
        self._spec = spec
        self._recalled, self._warming = -1, False  # from here on it is the answer's state that is told
        self.query_one(PromptArea).text = ""
        before = self.conversation.context(prompt, again=again)
        self._asking = self.services.engines.ask(spec, prompt, self._options(), before)
        for second in self.query(SecondModel) if not again else ():
            second.ask(prompt, self._options())
        self._shown = ""
        self._show_answer()
        self.query_one("#ask-answer", TextView).scroll_end(animate=False)
        self._show_buttons()

    @on(PromptArea.Recalled)
    def action_again(self) -> None:
        """Put the last prompt back; again: the one before that, of any chat."""
        area = self.query_one(PromptArea)
        if area.text and area.text != self.conversation.older(self._recalled):
            self._recalled = -1
        if (prompt := self.conversation.older(self._recalled + 1)) is not None:
            self._recalled += 1
            self._put(prompt)
        area.focus()

    def _put(self, prompt: str) -> None:
        area = self.query_one(PromptArea)
        area.text = prompt
        area.move_cursor(area.document.end)

    @on(PromptArea.Changed)
    def _typing(self, event: PromptArea.Changed) -> None:
        """Keep what is typed in mind, and load the model meanwhile."""
        self._typed = event.text_area.text
        self._warm_up()

    def _warm_up(self) -> None:
        spec = self._spec
        if (
            self._typed
            and spec is not None
            and spec.ready
            and self._warmed != spec.id
            and not self.services.live_runs()
        ):
            self._warmed, self._warming = spec.id, not spec.is_remote
            self.services.engines.warm_up(spec)

    _typed = ""

    def _poll(self) -> None:
        for second in self.query(SecondModel):
            second.poll(unfolded=self.unfolded)
        asking = self._asking
        if asking is None or not self.alive or (asking.over and self._shown == "over"):
            self._show_warming()
            return
        self._tick += 1
        text = self.services.engines.partial(asking)
        if asking.over:
            if self._auto is not None:
                self._auto.heard(asking)
            why = self._auto.why if self._auto is not None else ""
            self.conversation.take(asking, options_dict(self._options()), why)
            self._shown = "over"
            self._show_answer()
            self._show_end(asking)
            self._show_buttons()
            self.crumbs = ("Ask", one_line(self.conversation.title, 40))
            return
        if text != self._shown and self._show_answer(last=False):
            self._shown = text
        self._show_status(asking, text)

    def _show_answer(self, *, last: bool = True) -> bool:
        """The chat so far; returns whether it was shown, which what is not the `last` of it may have to wait for."""
        view, asking = self.query_one("#ask-answer", TextView), self._asking
        markdown = self.services.markdown
        blocks = self.conversation.blocks(unfolded=self.unfolded, markdown=markdown)
        if asking is not None and self._shown != "over":
            why = [Block(f"→ {self._auto.why}", "muted")] if self._auto is not None and self._auto.why else []
            blocks += [*apart(blocks), Block(f"❯ {asking.prompt}", "accent"), *why, Block("")]
            blocks += answer_blocks(asking.text, unfolded=self.unfolded, markdown=markdown)
        return view.follow(*(blocks or [Block(HINT, "muted")]), last=last)

    def _show_warming(self) -> None:
        """That the model is loaded while one types, and that it is."""
        engines, was = self.services.engines, self._warming
        self._warming = self.alive and engines.warming
        if self._warming:
            self._tick += 1
            wheel = SPINNER[int(self._tick * POLL_SECONDS / SPIN_SECONDS) % len(SPINNER)]
            self._say(Content.styled(f"{wheel} {one_line(engines.status or 'starting')} while you type", "$text-muted"))
        elif was and self.alive:
            ready = engines.status == "ready"
            self._say(Content.styled("✓ the model is loaded" if ready else "", "$text-muted"))

    _warming = False

    def _show_status(self, asking: Asking, text: str) -> None:
        wheel = SPINNER[int(asking.seconds / SPIN_SECONDS) % len(SPINNER)]
        written = "writing" if thinking_apart(text)[1] else "thinking"
        what = written if text else self.services.engines.status or "starting"
        if what == "ready":
            what = "reading the prompt"
        parts = [f"{asking.seconds:.1f} s"] + ([plural(len(text), "character")] if text else [])
        self._say(
            Content.assemble((f"{wheel} {one_line(what)}", "$accent"), ("   " + "   ".join(parts), "$text-muted"))
        )

    def _show_end(self, asking: Asking) -> None:
        if asking.error:
            self._say_error(asking.error)
            area = self.query_one(PromptArea)
            if not area.text:
                self._put(asking.prompt)  # enter tries again
            return
        parts = [plural(asking.tokens_output, "token")] if asking.tokens_output else []
        if asking.tokens_per_second:
            parts.append(f"{asking.tokens_per_second:,.1f} tok/s")
        if asking.first and asking.loading is not None:
            parts.append(f"first text {max(0.0, asking.first - asking.began - asking.loading):.2f} s")
        parts.append(f"{asking.seconds if asking.duration is None else asking.duration:.2f} s")
        if asking.loading and asking.loading >= LOADING_SHOWN:
            parts.append(f"model loaded in {asking.loading:.1f} s")
        if asking.cut:
            parts.append("cut at the token limit")
        head = ("‖ stopped", "$text-warning") if asking.stopped else ("✓ done", "$text-success")
        start = len(head[0]) + 3
        said = filled(parts, self.query_one("#ask-status").size.width - start).replace("\n", "\n" + " " * start)
        self._say(Content.assemble(head, ("   " + said, "$text-muted")))

    def _say(self, content: Content) -> None:
        self.query_one("#ask-status", Static).update(content)

    def _say_error(self, text: str) -> None:
        self._say(Content.styled(f"✗ {harmless(text)}", "$text-error"))

    def _show_buttons(self) -> None:
        running = self._asking is not None and not self._asking.over
        self.query_one("#ask-send").display = not running
        self.query_one("#ask-stop").display = running
        self.query_one("#ask-copy", Button).disabled = self._asking is None and not self.conversation.turns
        self.refresh_bindings()
        self.show_beside()

    # -- keys -----------------------------------------------------------------------------------------------------

    def action_back(self) -> None:
        """Stop first."""
        if self.answering:
            self.action_stop()
        else:
            super().action_back()

    @on(Button.Pressed, "#ask-stop")
    def action_stop(self) -> None:
        """Stop the answer; what has come stays."""
        self.stop_answers()
        self.query_one(PromptArea).focus()

    @on(Button.Pressed, "#ask-copy")
    def action_copy(self) -> None:
        """Copy the answer."""
        if (asking := self._asking) is not None:
            copy_from(self, lambda: asking.answer)
        elif turns := self.conversation.turns:  # of a chat that was taken up again
            copy_from(self, lambda: thinking_apart(turns[-1].answer)[1])

    @on(Button.Pressed, "#ask-model")
    def action_choose_model(self) -> None:
        """Choose another model."""

        def chosen(name: str | None) -> None:
            if name is not None:
                self._say(Content(""))
                self._find(name)

        models = self.services.registry.all()
        now = AUTO if self._auto is not None else self._spec.id if self._spec else ""
        self.app.push_screen(ModelDialog(models, now, auto=True), chosen)

    def action_next(self) -> None:
        """Ask the next model the same."""
        auto, asking = self._auto, self._asking
        if auto is None or asking is None:
            return
        if (spec := auto.next()) is None:
            self.notify("Every model that may answer was asked", timeout=3)
            return
        self._ask(spec, asking.prompt, again=True)

    def action_best(self) -> None:
        """Keep that this answer is the best, for the models that were asked the same."""
        auto, asking = self._auto, self._asking
        if auto is None or asking is None or not asking.over or asking.error or asking.stopped:
            return
        self.in_thread(auto.choose, lambda count: self.notify(f"Kept as evidence: {plural(count, 'graded answer')}"))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is of a choice among models stands there where there is one; escape stops first."""
        if action == "stop":
            return self.answering
        if action == "turn":
            return bool(self.query(SecondModel))
        if action in ("next", "best"):
            over = self._asking is not None and self._asking.over
            return self._auto is not None and over and (action == "next" or not self._asking.error)  # type: ignore[union-attr]
        return True

    @on(Button.Pressed, "#ask-options")
    def action_options(self) -> None:
        """Length and sampling."""

        def chosen(options: SamplingOptions | None) -> None:
            if options is not None:
                self.services.ask_options = options
                self._show_context()

        self.app.push_screen(OptionsDialog(self._options()), chosen)
