"""A second model that is asked the same, beside the first: with an engine, a context and a chat of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from ai_router.asking import EnginePool
from ai_router.memory import Memory
from ai_router.tui.ask.remembering import Conversation, answer_blocks, apart
from ai_router.tui.services import Served
from ai_router.tui.widgets.text import harmless, one_line, plural
from ai_router.tui.widgets.text_view import TextView
from ai_router.tui.widgets.wrapping import Block
from batch.options import SamplingOptions, options_dict
from batch.thinking import thinking_apart

if TYPE_CHECKING:
    from ai_router.asking import Asking
    from ai_router.models import ModelSpec

HINT = "Asked the same from the next prompt on."


class SecondModel(Served, Vertical):
    """Its answers, how it goes on their lower edge, and a line of what went wrong; the screen asks and polls it."""

    DEFAULT_CSS = """
    SecondModel { width: 1fr; height: 1fr; }
    SecondModel TextView { height: 1fr; min-height: 3; }
    SecondModel Static { display: none; height: auto; max-height: 3; padding: 0 2; color: $text-error; }
    """

    def __init__(
        self, spec: ModelSpec, pool: EnginePool, memory: Memory, complain: Callable[[BaseException], object]
    ) -> None:
        super().__init__(id="ask-second")
        self.spec, self.pool = spec, pool
        self.conversation = Conversation(memory, complain)
        self.asking: Asking | None = None
        self._options: SamplingOptions | None = None
        self._shown = ""

    def compose(self) -> ComposeResult:
        """Answers above, what went wrong below."""
        view = TextView(Block(HINT, "muted"), classes="panel")
        view.border_title = Content(self.spec.id)
        yield view
        yield Static(markup=False)

    def on_unmount(self) -> None:
        """Its engine is of no use any more; closing it may take a moment, which the program waits for at its end."""
        threading.Thread(target=self.pool.shutdown, name="second-model").start()

    @property
    def answering(self) -> bool:
        """Whether an answer is on its way."""
        return self.asking is not None and not self.asking.over

    def ask(self, prompt: str, options: SamplingOptions) -> None:
        """Begin to answer."""
        self._options = options
        self.asking = self.pool.ask(self.spec, prompt, options, self.conversation.context(prompt))
        self._shown = ""
        self.show(unfolded=False)

    def stop(self) -> None:
        """Stop the answer; what has come stays."""
        self.pool.stop()

    def begin(self) -> None:
        """A new chat."""
        self.stop()
        self.asking = None
        self.conversation.begin()
        self.show(unfolded=False)
        self._say("")

    def poll(self, *, unfolded: bool) -> None:
        """Show what has come."""
        asking = self.asking
        if asking is None or self._shown == "over" or not self.query(TextView):  # it may be on its way out
            return
        text = self.pool.partial(asking)
        if asking.over:
            self.conversation.take(asking, options_dict(self._options or SamplingOptions()))
            self._shown = "over"
            self.show(unfolded=unfolded)
            self._say_end(asking)
            return
        if text != self._shown and self.show(unfolded=unfolded, last=False):
            self._shown = text
        written = "writing" if thinking_apart(text)[1] else "thinking"
        what = written if text else self.pool.status or "starting"
        self._say(f"{one_line(what)}   {asking.seconds:.1f} s")

    def show(self, *, unfolded: bool, last: bool = True) -> bool:
        """The chat so far; returns whether it was shown, which what is not the `last` of it may have to wait for."""
        view, asking = self.query_one(TextView), self.asking
        markdown = self.services.markdown
        blocks = self.conversation.blocks(unfolded=unfolded, markdown=markdown)
        if asking is not None and self._shown != "over":
            blocks += [*apart(blocks), Block(f"❯ {asking.prompt}", "accent"), Block("")]
            blocks += answer_blocks(asking.text, unfolded=unfolded, markdown=markdown)
        return view.follow(*(blocks or [Block(HINT, "muted")]), last=last)

    def _say_end(self, asking: Asking) -> None:
        if asking.error:
            self._say("", wrong=f"✗ {harmless(asking.error)}")
            return
        parts = [plural(asking.tokens_output, "token")] if asking.tokens_output else []
        parts.append(f"{asking.seconds if asking.duration is None else asking.duration:.2f} s")
        self._say(("‖ stopped   " if asking.stopped else "✓ done   ") + " · ".join(parts))

    def _say(self, text: str, wrong: str = "") -> None:
        self.query_one(TextView).border_subtitle = Content(text)
        line = self.query_one(Static)
        line.update(wrong)
        line.display = bool(wrong)
