"""Garbage is collected while nobody waits: to look through what a new screen has made takes as long as to draw it."""

from __future__ import annotations

import gc
import time

from textual import events

from ai_router.tui.styles import StyledApp

EVERY = 0.5  # seconds between two looks at whether there is something to do
YOUNG, YOUNG_REST = 2_000, 0.1  # so many new objects are looked through so many seconds after the last key
MANY = 50_000  # new objects that are looked through whatever is pressed: later they would take longer
OLD, OLD_REST = 40_000, 1.0  # so many since all was looked through: it is again, so many seconds after the last key
TOO_OLD = 200_000  # so many: whatever is pressed
WORTH = 0.1  # of what was looked through; where less was garbage, as beside a fast run, the next time is put off
LONGEST = 60.0  # seconds it is put off


class CollectingApp(StyledApp):
    """Takes the place of Python's own times to collect, which come with every so many new objects: at a key.

    A screen is some ten thousand objects, and one that has been left is in cycles with its widgets.
    """

    _pressed = 0.0  # when a key came last, on the clock of `time.monotonic`
    _seen_young = 0  # objects looked through as new ones since all were looked through
    _collect_after, _put_off = 0.0, 0.0  # not before, on the same clock; the seconds of that
    _collects = False

    def begin_collecting(self) -> None:
        """Leave it to Python no longer."""
        self._collects = True
        gc.disable()
        self.set_interval(EVERY, self.collect)

    def end_collecting(self) -> None:
        """Leave it to Python again."""
        if self._collects:
            self._collects = False
            gc.enable()

    def collect(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if now < self._collect_after:
            return
        young, rest = gc.get_count()[0], now - self._pressed
        made = self._seen_young + young
        if made >= TOO_OLD or (made >= OLD and rest >= OLD_REST):
            garbage, looked, self._seen_young = gc.collect(), made, 0
        elif young >= MANY or (young >= YOUNG and rest >= YOUNG_REST):
            garbage, looked, self._seen_young = gc.collect(0), young, made
        else:
            return
        self._put_off = 0.0 if garbage >= looked * WORTH else min(LONGEST, max(EVERY, self._put_off) * 2)
        self._collect_after = now + self._put_off

    async def on_event(self, event: events.Event) -> None:
        """Remember when somebody was last at work; screens come and go by that."""
        if isinstance(event, events.InputEvent):
            self._pressed, self._collect_after, self._put_off = time.monotonic(), 0.0, 0.0
        await super().on_event(event)
