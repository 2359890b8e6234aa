"""The chats of before: found by their words, opened, taken away."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from ai_router.memory import Chat, Memory, MemoryFileError, Turn
from ai_router.tui.dialogs import Dialog
from ai_router.tui.jobs.view import age
from ai_router.tui.widgets.text import one_line, plural


class ChatsDialog(Dialog[Chat]):
    """All chats, the last one first; answers with one."""

    title_text = "Chats"
    DEFAULT_CSS = """
    ChatsDialog > #dialog { width: 90; }
    ChatsDialog OptionList { height: auto; max-height: 16; background: transparent; border: none; padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "to_list", show=False, priority=True),
        Binding("up", "up", show=False, priority=True),
        Binding("ctrl+d,delete", "forget", show=False, priority=True),
        Binding("ctrl+z", "undo", show=False, priority=True),
    ]

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self._memory = memory
        self._found: list[Chat] = []
        self._forgotten: list[tuple[Chat, list[Turn]]] = []

    def compose_dialog(self) -> ComposeResult:
        """A field above the list."""
        yield Input(placeholder="words of a question or an answer; ^d takes one away, ^z back", id="chats-words")
        yield OptionList(id="chats-list")

    def on_mount(self) -> None:
        """All of them."""
        self.query_one(Input).focus()
        self._look("")

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._look(event.value)

    def _look(self, words: str) -> None:
        try:
            self._found = self._memory.chats(words)
        except MemoryFileError as error:
            self.services.show_error(error)
            self._found = []
        menu = self.query_one(OptionList)
        menu.clear_options()
        menu.add_options([Option(_line(chat)) for chat in self._found])
        if self._found:
            menu.highlighted = 0
        self.query_one("#dialog").border_subtitle = Content(plural(len(self._found), "chat"))

    def action_to_list(self) -> None:
        """The next chat."""
        self.query_one(OptionList).action_cursor_down()

    def action_up(self) -> None:
        """The chat before."""
        self.query_one(OptionList).action_cursor_up()

    def action_forget(self) -> None:
        """Take the chat under the cursor away."""
        at = self.query_one(OptionList).highlighted
        if at is not None and at < len(self._found):
            chat = self._found[at]
            try:
                turns = self._memory.turns(chat.id)
                self._memory.forget_chat(chat.id)
                self._forgotten.append((chat, turns))
            except MemoryFileError as error:
                self.services.show_error(error)
            self._look(self.query_one(Input).value)

    def action_undo(self) -> None:
        """Put back the chat that was taken away last."""
        if self._forgotten:
            try:
                self._memory.restore_chat(*self._forgotten.pop())
            except MemoryFileError as error:
                self.services.show_error(error)
            self._look(self.query_one(Input).value)

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def _chosen(self) -> None:
        at = self.query_one(OptionList).highlighted
        if at is not None and at < len(self._found):
            self.dismiss(self._found[at])


def _line(chat: Chat) -> Content:
    facts = f"  {plural(chat.turns, 'turn')} · {one_line(chat.model, 24)} · {age(chat.changed)}"
    parts: list[tuple[str, str]] = [(one_line(chat.title, 60), "bold"), (facts, "$text-muted")]
    if chat.hit:
        parts.append((f"\n  {one_line(chat.hit, 80)}", "$text-muted"))
    return Content.assemble(*parts)
