"""Keys in their turn: one that is typed ahead goes to the screen that the one before it opens, when that has its rows.

Textual hands out a key as it comes: to what has the focus at that moment, though what an earlier key asked for is
still on its way through the queues, its screen without a focus, or its list not read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Any

from textual import events
from textual.dom import DOMNode
from textual.message_pump import MessagePump

from ai_router.tui.collecting import CollectingApp

AT_ONCE = frozenset({"escape", "ctrl+c", "ctrl+q"})  # the ways out: they take back what waits for a list
LOOK_SECONDS = 0.01
MOST_ROUND = 0.5  # seconds for a key to be seen to: one whose widget went with its queue is not waited for
MOST_READING = 3.0  # seconds for a list to be read; after that keys are taken as on any other screen
ROUNDS = 2  # through the queues: a key on its way up, then the message that it became

Typed = events.Key | events.Paste


class KeysInTurn(CollectingApp):
    """An app that gives a key out when the one before it has been seen to, and the screen can take it.

    A screen says with `waits_for(key)` that it cannot take a key yet.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._typed: deque[Typed] = deque()
        self._rounds = 0  # still to go
        self._round_number, self._round_ends = 0, 0.0
        self._settled: tuple[object, object] = (None, None)  # screen and focus that the last round came back to
        self._reading_since: float | None = None
        self._looks_again = False

    async def on_event(self, event: events.Event) -> None:
        """Keys and pastes wait for their turn; all else is Textual's."""
        if not isinstance(event, Typed) or event.is_forwarded:
            await super().on_event(event)
            return
        if self._reading_since is not None and _key(event) in AT_ONCE:
            self._typed.clear()
        self._typed.append(event)
        await self._give_out()

    async def _give_out(self) -> None:
        """All that can be taken now; the rest is looked at again in a moment."""
        while self._typed and self._can_take(_key(self._typed[0])):
            await super().on_event(self._typed.popleft())
            self._begin_round(ROUNDS)
        if self._typed and not self._looks_again:
            self._looks_again = True
            self.set_timer(LOOK_SECONDS, self._look_again)

    async def _look_again(self) -> None:
        self._looks_again = False
        await self._give_out()

    def _can_take(self, key: str) -> bool:
        if not self._screen_stack:
            return False
        if self._rounds:
            if monotonic() < self._round_ends:
                return False
            self._rounds = 0
        elif self._here() != self._settled:  # a screen came by itself
            self._begin_round(1)
            return False
        return not self._waits(key)

    def _waits(self, key: str) -> bool:
        """Whether the screen waits for what it needs for this key, and not for too long yet."""
        waits_for = getattr(self.screen, "waits_for", None)
        if waits_for is None or key in AT_ONCE or not waits_for(key):
            self._reading_since = None
            return False
        if self._reading_since is None:
            self._reading_since = monotonic()
        return monotonic() - self._reading_since < MOST_READING

    # -- through the queues ---------------------------------------------------------------------------------------

    def _here(self) -> tuple[object, object]:
        return (self.screen, self.screen.focused) if self._screen_stack else (None, None)

    def _begin_round(self, rounds: int) -> None:
        """Go behind what was given out, from the focus up to here, until neither screen nor focus change by it."""
        self._round_number += 1
        self._rounds, self._round_ends = rounds, monotonic() + MOST_ROUND
        self._go_round()

    def _go_round(self) -> None:
        here = self._here()
        focus = here[1] or here[0]
        nodes: Sequence[MessagePump] = focus.ancestors_with_self if isinstance(focus, DOMNode) else [self]
        self._pass_on(self._round_number, here, nodes)

    def _pass_on(self, number: int, start: tuple[object, object], nodes: Sequence[MessagePump]) -> None:
        """To the end of the next queue; one that is closed is passed over."""
        if number != self._round_number:
            return
        for at, node in enumerate(nodes, 1):
            if node.call_later(self._pass_on, number, start, nodes[at:]):
                return
        self._rounds -= 1
        if self._here() != start:
            self._rounds = max(1, self._rounds)
        if self._rounds:
            self._go_round()
            return
        self._settled = start
        if self._typed:
            self.call_later(self._give_out)


def _key(event: Typed) -> str:
    return event.key if isinstance(event, events.Key) else ""
