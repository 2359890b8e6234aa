"""What stands beside a chat where there is room: the chats of before, and what this one is asked with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message

from ai_router.memory import Chat
from ai_router.tui.jobs.view import age
from ai_router.tui.panes.layout import Pane
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.text import count, harmless, one_line, plural
from batch.options import SamplingOptions

if TYPE_CHECKING:
    from ai_router.models import ModelSpec
    from ai_router.tui.ask.remembering import Conversation

CHATS, CHAT, ABOUT = "ask-chats", "ask-main", "ask-about"
PANES = (
    Pane(CHATS, "chats", 34, 2, 20, side_only=True),
    Pane(CHAT, "this chat", 70, 0, 30),
    Pane(ABOUT, "model and options", 36, 1, 24, side_only=True),
)
KEYS = ("ask.model", "ask.options", "ask.new_chat", "ask.chats", "ask.rendered", "ask.code", "ask.second", "ask.batch",
        "ask.thinking", "panes.mode", "app.jump")  # fmt: skip


class ChatsPane(Vertical):
    """The last chats; enter goes on with one."""

    class Chosen(Message):
        """A chat was chosen."""

        def __init__(self, chat: Chat) -> None:
            super().__init__()
            self.chat = chat

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.chats: list[Chat] = []

    def compose(self) -> ComposeResult:
        """The table."""
        columns = [Column("Asked first", flex=1), Column("Last", 11, right=True)]
        table = VirtualTable(columns, self._rows, empty="None yet.\n\nWhat is asked here\nis kept.", classes="panel")
        table.border_title = "Chats"
        yield table

    def _rows(self, start: int, stop: int) -> list[Row]:
        return [(one_line(chat.title, 80), (age(chat.changed), "muted")) for chat in self.chats[start:stop]]

    def show(self, chats: list[Chat], at_hand: int | None) -> None:
        """Take what was read; the cursor stands on the chat that is shown."""
        self.chats = chats
        table = self.query_one(VirtualTable)
        places = [place for place, chat in enumerate(chats) if chat.id == at_hand]
        if places and not table.has_focus:
            table.set_reactive(VirtualTable.cursor, places[0])
        table.set_count(len(chats))
        table.border_subtitle = Content(plural(len(chats), "chat") if chats else "")

    @on(VirtualTable.Selected)
    def _selected(self, event: VirtualTable.Selected) -> None:
        event.stop()
        if event.index < len(self.chats):
            self.post_message(self.Chosen(self.chats[event.index]))


def about(
    spec: ModelSpec | None,
    auto: str,
    options: Mapping[str, Any],
    conversation: Conversation,
    keys: Sequence[tuple[str, str]],
) -> Content:
    """The model, the options and the figures of a chat, and the keys that change them."""
    rows: list[tuple[str, str, str]] = []
    if auto:
        rows.append(("model", auto, "bold"))
    elif spec is not None:
        rows += [
            ("model", one_line(spec.id), "bold"),
            ("engine", spec.engine, ""),
            ("parameters", spec.parameters_text, ""),
            ("context", f"{count(spec.context)} tokens" if spec.context else "—", ""),
            ("ready", "✓ yes" if spec.ready else f"✗ {harmless(spec.why)}",
             "$text-success" if spec.ready else "$text-error"),
        ]  # fmt: skip
    rows.append(("", "", ""))
    names = [f.name for f in fields(SamplingOptions)]
    chosen = {name: options[name] for name in names if name in options}
    rows += [(name.replace("_", " "), one_line(str(value), 60), "") for name, value in chosen.items()]
    if not chosen:
        rows.append(("options", "its own", "$text-muted"))
    turns = conversation.turns
    if turns:
        seconds = sum(turn.seconds for turn in turns)
        out = sum(turn.tokens_output for turn in turns)
        rows += [
            ("", "", ""),
            ("turns", count(len(turns)), ""),
            ("tokens in", count(sum(turn.tokens_input for turn in turns)), ""),
            ("tokens out", count(out), ""),
            ("answering", f"{seconds:,.1f} s", ""),
        ]
    lines = [Content.assemble((f"{name:<11} ", "$text-muted"), (text, style)) for name, text, style in rows]
    lines.append(Content(""))
    lines += [Content.assemble((f"{key:<4}", "bold $accent"), (text, "$text-muted")) for key, text in keys]
    return Content("\n").join(lines)
