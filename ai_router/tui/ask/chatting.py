"""What can be done with a chat: begin another, go back to one, show it as Markdown, take code or a batch out of it."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.content import Content
from textual.widgets import Static

from ai_router.memory import Chat, Memory, MemoryFileError
from ai_router.models import UnknownModelError
from ai_router.routing import AUTO
from ai_router.tui.ask.beside import ABOUT, CHATS, KEYS, ChatsPane, about
from ai_router.tui.ask.chats import ChatsDialog
from ai_router.tui.ask.dialogs import ModelDialog
from ai_router.tui.ask.remembering import Choice, Conversation
from ai_router.tui.ask.second import SecondModel
from ai_router.tui.clipboard import copy_from
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.panes.screen import PaneScreen
from ai_router.tui.widgets.text import one_line, plural
from ai_router.tui.widgets.text_view import TextView
from batch.options import OptionError, SamplingOptions, build_options, options_dict

if TYPE_CHECKING:
    from ai_router.asking import Asking
    from ai_router.models import ModelSpec
    from ai_router.tui.ask.auto import Auto

ENDINGS = {"python": ".py", "py": ".py", "json": ".json", "bash": ".sh", "sh": ".sh", "sql": ".sql", "html": ".html",
           "javascript": ".js", "js": ".js", "typescript": ".ts", "rust": ".rs", "go": ".go", "c": ".c", "cpp": ".cpp",
           "yaml": ".yaml", "toml": ".toml", "markdown": ".md", "css": ".css", "java": ".java"}  # fmt: skip
TWO, ALONE = "-two", ("-first", "-second")  # that two models answer, and that one of them is shown alone
MOST_CODE = 6  # blocks offered: the last ones


class ChattingAsk(PaneScreen[None]):
    """Asking in turns that are remembered."""

    _asking: Asking | None
    _spec: ModelSpec | None
    _auto: Auto | None
    unfolded = False  # whether what was thought is shown

    _wanted: str | None  # the model that Ask was opened for

    def begin_memory(self) -> None:
        """Take up what was typed and not sent."""
        self.conversation = Conversation(Memory(self.services.workspace.checkpoints), self.services.show_error)

    def come_back(self) -> bool:
        """Go on with the chat that was on the screen last; whether there is one."""
        last = self.services.ask_chat
        try:
            chats = self.conversation.memory.chats() if last is not None else []
        except MemoryFileError:  # said by whoever writes to it
            chats = []
        chat = next((chat for chat in chats if chat.id == last), None)
        if chat is not None:
            self.open_chat(chat, self.services.ask_options)
        return chat is not None

    def last_choice(self) -> Choice:
        """What was asked with last, in this session or the one before."""
        return Choice.last(self.conversation.memory, self.services.workspace.settings.model)

    def keep_choice(self) -> None:
        """The model and the options of now are those of the next session."""
        name = AUTO if self._auto is not None else self._spec.id if self._spec else ""
        choice = Choice(name, self.services.workspace.settings.model, self.services.ask_options)
        try:
            choice.keep(self.conversation.memory)
        except MemoryFileError as error:
            self.services.show_error(error)

    def find_first(self) -> None:
        """The model that was wanted, else that of last time where it is still there, else that of the settings."""
        last, registry = self.last_choice(), self.services.registry
        if self._wanted or last.model in (AUTO, last.default):
            self._find(self._wanted or last.model)
            return

        def found() -> ModelSpec:
            try:
                return registry.get(last.model)
            except UnknownModelError:
                return registry.get(last.default)

        self.in_thread(found, self._take_model, busy="looking for the model")

    @abstractmethod
    def _take_model(self, spec: ModelSpec) -> None:
        """Ask this one."""

    @abstractmethod
    def _show_answer(self) -> bool:
        """Show the chat; whether it was."""

    @abstractmethod
    def _show_buttons(self) -> None:
        """Those of what can be done now."""

    @abstractmethod
    def _options(self) -> SamplingOptions:
        """What the next prompt is asked with."""

    @abstractmethod
    def _find(self, name: str) -> None:
        """Choose a model by its name."""

    @property
    def answering(self) -> bool:
        """Whether an answer is on its way."""
        here = self._asking is not None and not self._asking.over
        return here or any(second.answering for second in self.query(SecondModel))

    def stop_answers(self) -> None:
        """Stop what is being written."""
        self.services.engines.stop()
        for second in self.query(SecondModel):
            second.stop()

    def action_second(self) -> None:
        """Ask another model the same beside this one; again: no more."""
        if there := self.query(SecondModel):
            there.first().stop()
            there.remove()
            self.query_one("#ask-answers").remove_class(TWO, *ALONE)
            self.query_one("#ask-answer").border_title = "Answer"
            self.query_one("#ask-answer").border_subtitle = ""
            self.refresh_bindings()
            return

        def chosen(name: str | None) -> None:
            if name is not None:
                self.in_thread(lambda: self.services.registry.get(name), take, busy="looking for the model")

        def take(spec: ModelSpec) -> None:
            if not spec.ready:
                self.services.show_error(f"{spec.id} is not ready: {spec.why}")
                return
            pool, memory = self.services.engines.another(), self.conversation.memory
            answers = self.query_one("#ask-answers")
            answers.mount(SecondModel(spec, pool, memory, self.services.show_error))
            answers.add_class(TWO)
            self._show_names()
            self.call_after_refresh(self.refresh_bindings)

        models, first = self.services.registry.all(), self._spec
        others = [spec.id for spec in models if spec.ready and first is not None and spec.id != first.id]
        self.app.push_screen(ModelDialog(models, others[0] if others else ""), chosen)

    def action_turn(self) -> None:
        """One model's answers alone, the other's, both; on a few lines there is no room for both."""
        answers = self.query_one("#ask-answers")
        states = [{ALONE[0]}, {ALONE[1]}] + ([] if self.has_class("-tiny") and not self.has_class("-wide") else [set()])
        now = answers.classes & {*ALONE}
        at = states.index(set(now)) if now in states else 0 if len(states) == 2 else 2
        answers.remove_class(*ALONE)
        answers.add_class(*states[(at + 1) % len(states)])

    def _show_names(self) -> None:
        """Where two answer, each by its name."""
        if self.query(SecondModel):
            name = AUTO if self._auto is not None else self._spec.id if self._spec else "Answer"
            self.query_one("#ask-answer").border_title = Content(one_line(name, 40))
            keys = [key for key, _ in self.keys_of("ask.turn")]
            self.query_one("#ask-answer").border_subtitle = Content(f"{keys[0]} the other" if keys else "")

    def action_new_chat(self) -> None:
        """Begin anew; what was said is among the chats."""
        if self.answering:
            self.stop_answers()
        for second in self.query(SecondModel):
            second.begin()
        self._asking = None
        self.conversation.begin()
        self.crumbs = ("Ask",)
        self._show_answer()
        self._show_buttons()

    def action_chats(self) -> None:
        """Go back to a chat."""

        def chosen(chat: Chat | None) -> None:
            if chat is not None:
                self.open_chat(chat)

        self.app.push_screen(ChatsDialog(self.conversation.memory), chosen)

    def open_chat(self, chat: Chat, options: SamplingOptions | None = None) -> None:
        """Go on with a chat of before, with its own options where none were chosen since."""
        try:
            turns = self.conversation.memory.turns(chat.id)
        except MemoryFileError as error:
            self.services.show_error(error)
            return
        self.action_new_chat()
        self.conversation.open(chat, turns)
        try:
            self.services.ask_options = options or build_options(SamplingOptions, dict(chat.options))
        except OptionError as error:
            self.services.show_error(error)
        self.crumbs = ("Ask", one_line(chat.title, 40))
        self._find(chat.model)
        self._show_answer()
        self._show_buttons()

    @on(ChatsPane.Chosen)
    def _another(self, event: ChatsPane.Chosen) -> None:
        if event.chat.id != self.conversation.chat:
            self.open_chat(event.chat)
        self.query_one("#ask-prompt").focus()

    def action_scroll_chat(self, pages: int) -> None:
        """A page up or down, from the field too."""
        for view in self.query("#ask-answers TextView").results(TextView):
            view.scroll_relative(y=pages * max(1, view.size.height - 2), animate=False)

    def panes_changed(self) -> None:
        """Fill what has come into sight."""
        self.show_beside()

    def show_beside(self) -> None:
        """Bring what stands beside the chat to this moment, where it is in sight."""
        self._show_names()
        if self.panes.shows(ABOUT):
            auto = AUTO if self._auto is not None else ""
            options, keys = options_dict(self._options()), self.keys_of(*KEYS)
            shown = about(self._spec, auto, options, self.conversation, keys)
            self.query_one("#ask-facts", Static).update(shown)
        if self.panes.shows(CHATS):
            memory, chat = self.conversation.memory, self.conversation.chat
            self.in_thread(memory.chats, lambda chats: self.query_one(ChatsPane).show(chats, chat), group="chats")

    def action_thinking(self) -> None:
        """Show what was thought, or fold it."""
        self.unfolded = not self.unfolded
        self._show_answer()

    def action_rendered(self) -> None:
        """Show answers as Markdown, or as they came, here and wherever they are read."""
        self.services.turn_markdown()
        self._show_answer()
        for second in self.query(SecondModel):
            second.show(unfolded=self.unfolded)

    # -- taking out -----------------------------------------------------------------------------------------------

    def action_code(self) -> None:
        """Copy a block of code out of the last answer, or write it to a file."""
        from ai_router.tui.widgets.markdown import code_blocks

        text = self.conversation.turns[-1].answer if self.conversation.turns else ""
        found = code_blocks(text)[-MOST_CODE:]
        if not found:
            self.notify("There is no code in the last answer", timeout=2)
        elif len(found) == 1:
            self._take_code(*found[0])
        else:
            lines = "\n".join(f"{n}  {lang or 'text'}: {one_line(code, 60)}" for n, (lang, code) in enumerate(found, 1))
            buttons = [(str(n), str(n), "primary" if n == 1 else "") for n in range(1, len(found) + 1)]

            def answered(number: str | None) -> None:
                if number is not None:
                    self._take_code(*found[int(number) - 1])

            self.app.push_screen(ConfirmDialog("Which code?", lines, buttons), answered)

    def _take_code(self, language: str, code: str) -> None:
        def answered(choice: str | None) -> None:
            if choice == "copy":
                copy_from(self, lambda: code)
            elif choice == "save":
                folder = self.services.workspace.outputs
                self.in_thread(lambda: save_code(folder, language, code), lambda path: self.notify(
                    f"Wrote {path}", markup=False), group="code")  # fmt: skip

        buttons = [("copy", "Copy", "primary"), ("save", "Save", "")]
        self.app.push_screen(ConfirmDialog(f"Code: {one_line(language, 20) or 'text'}", code[:2000], buttons), answered)

    def action_batch(self) -> None:
        """A batch of what was asked here, each prompt by itself."""
        from batch.sources import from_prompts

        prompts = list(dict.fromkeys(turn.prompt for turn in self.conversation.turns))
        if not prompts:
            self.notify("Nothing was asked yet", timeout=2)
            return
        source = from_prompts(prompts, name=f"chat, {plural(len(prompts), 'prompt')}")
        spec = self._spec.id if self._spec else ""
        self.services.go("again", source, len(prompts), spec, sampling=options_dict(self._options()))


def save_code(folder: Path, language: str, code: str) -> Path:
    """Write code to the first free `code-N` of a folder; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    ending = ENDINGS.get(language.lower(), ".txt")
    number = 1
    while True:
        path = folder / f"code-{number}{ending}"
        try:
            with path.open("x", encoding="utf-8", errors="replace") as file:
                file.write(code)
        except FileExistsError:
            number += 1
        else:
            return path
