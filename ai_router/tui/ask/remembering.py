"""What a chat remembers: its turns, the draft of the next one, the chats before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ai_router.memory import Chat, Memory, MemoryFileError, Turn
from ai_router.tui.widgets.wrapping import Block, thinking_blocks
from batch.options import OptionError, SamplingOptions, build_options, options_dict
from batch.thinking import thinking_apart

if TYPE_CHECKING:
    from ai_router.asking import Asking

DRAFT = "ask.draft"
LAST = "ask.last"  # what Ask was left with


def apart(before: Sequence[Block]) -> list[Block]:
    """The empty line between what stands there and a further turn."""
    return [Block("")] if before else []


def answer_blocks(text: str, *, unfolded: bool, markdown: bool = False) -> list[Block]:
    """An answer; what was thought before it is one line, or all of it where it is unfolded."""
    thought, rest = thinking_apart(text)
    answer = Block(rest, markdown=markdown)
    return [*thinking_blocks(thought, "" if unfolded else "^t shows it"), answer] if thought else [answer]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is asked with: a model and, where it is not asked with its own, options.

    `default` is the model of the settings at that time: where another one stands there since, that is the later choice.
    """

    model: str
    default: str
    options: SamplingOptions | None = None

    def keep(self, memory: Memory) -> None:
        """Remember it for the next session; raises MemoryFileError."""
        options = None if self.options is None else options_dict(self.options)
        wanted = {"model": self.model, "default": self.default, "options": options}
        if memory.recall(LAST) != wanted:
            memory.keep(LAST, wanted)

    @classmethod
    def last(cls, memory: Memory, default: str) -> Choice:
        """That of last time, else the settings' model with its own options."""
        kept = memory.recall(LAST)
        kept = kept if isinstance(kept, dict) else {}
        model, options = kept.get("model"), kept.get("options")
        try:
            chosen = build_options(SamplingOptions, options) if isinstance(options, dict) else None
        except OptionError:  # of another version
            chosen = None
        if not isinstance(model, str) or not model or kept.get("default") != default:
            model = default
        return cls(model, default, chosen)


@dataclass(slots=True)
class Conversation:
    """The turns of a chat that have ended, and where they are kept. What cannot be kept is said once."""

    memory: Memory
    complain: Callable[[BaseException], object]
    chat: int | None = None  # None before its first turn
    title: str = ""
    turns: list[Turn] = field(default_factory=list)
    whys: dict[int, str] = field(default_factory=dict)  # why a turn of this session had its model, by its place
    _told: bool = False

    def take(self, asking: Asking, options: Mapping[str, Any], why: str = "") -> None:
        """Add what was asked and answered, on disk too."""
        turn = Turn(
            asking.prompt, asking.text, asking.model, asking.error or None, asking.tokens_input, asking.tokens_output,
            asking.duration or 0.0,
        )  # fmt: skip
        if why:
            self.whys[len(self.turns)] = why
        self.turns.append(turn)
        try:
            if self.chat is None:
                self.chat = self.memory.begin_chat(asking.prompt, asking.model, options)
                self.title = asking.prompt
            self.memory.add_turn(self.chat, turn, options)
        except MemoryFileError as error:
            self._say(error)

    def context(self, prompt: str, *, again: bool = False) -> list[tuple[str, str]]:
        """What goes before the next question: questions and answers so far, those that failed left out.

        `again`: the same was asked just now, of another model; that answer is no part of it.
        """
        turns = list(self.turns)
        while again and turns and turns[-1].prompt == prompt:
            turns.pop()
        answers = [(turn.prompt, thinking_apart(turn.answer)[1]) for turn in turns if not turn.error]
        return [(question, answer) for question, answer in answers if answer.strip()]

    def begin(self) -> None:
        """A new chat."""
        self.chat, self.title, self.turns, self.whys = None, "", [], {}

    def open(self, chat: Chat, turns: Sequence[Turn]) -> None:
        """Go on with one of before."""
        self.chat, self.title, self.turns = chat.id, chat.title, list(turns)

    def keep_draft(self, text: str) -> None:
        """What is typed and not sent."""
        try:
            if text or self.memory.recall(DRAFT):
                self.memory.keep(DRAFT, text or None)
        except MemoryFileError as error:
            self._say(error)

    def draft(self) -> str:
        """What was typed and not sent."""
        text = self.memory.recall(DRAFT, "")
        return text if isinstance(text, str) else ""

    def older(self, at: int) -> str | None:
        """A prompt of before: 0 is the last one, of any chat."""
        try:
            prompts = self.memory.prompts()
        except MemoryFileError:
            prompts = []
        own = [turn.prompt for turn in reversed(self.turns)]
        known = list(dict.fromkeys([*own, *prompts]))
        return known[at] if 0 <= at < len(known) else None

    def blocks(self, *, unfolded: bool, markdown: bool = False) -> list[Block]:
        """The turns as they are shown, an empty line between two; none after the last, where a box is a line high."""
        blocks: list[Block] = []
        several = len({turn.model for turn in self.turns}) > 1
        for place, turn in enumerate(self.turns):
            why = [Block(f"→ {self.whys[place]}", "muted")] if place in self.whys else []
            if several and not why:
                why = [Block(f"→ {turn.model}", "muted")]
            blocks += [*apart(blocks), Block(f"❯ {turn.prompt}", "accent"), *why, Block("")]
            blocks += answer_blocks(turn.answer, unfolded=unfolded, markdown=markdown) if turn.answer else []
            if turn.error:
                blocks.append(Block(f"✗ {turn.error}", "error"))
        return blocks

    def _say(self, error: BaseException) -> None:
        if not self._told:
            self._told = True
            self.complain(error)
