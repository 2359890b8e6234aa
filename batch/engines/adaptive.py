"""How many requests a server is sent at once, where nobody says: found out as TCP finds out its window."""

from __future__ import annotations

from batch.errors import Cause

START = 4
MOST = 512
SHRINK = 0.5


class AdaptiveConcurrency:
    """A limit that begins low, doubles a round until the server asks to go slower, and then feels its way.

    A round is as many answers as the limit. Being asked to go slower halves the limit, once an episode: what was begun
    before the limit was halved says nothing new. A server's errors and time-outs only put off growth for a round, as
    they say little of the load. The limit grows only while it is what holds requests back.
    """

    def __init__(self, start: int = START, most: int = MOST) -> None:
        self.limit = max(1, min(start, most))
        self._most = most
        self._slow_start = True
        self._credit = 0.0  # parts of one more at once, after the slow start
        self._rest = 0  # answers until the limit may grow again
        self._begun = 0
        self._episode = 0  # requests up to this number were begun before the limit was last halved

    def begin(self) -> int:
        """A request is sent; the number goes to `end`."""
        self._begun += 1
        return self._begun

    def end(self, number: int, cause: Cause | None, in_flight: int) -> None:
        """It came back: with an answer (None), or with a failure of this cause; `in_flight` counts it."""
        if cause is Cause.RATE:
            if number > self._episode:
                self.limit = max(1, int(self.limit * SHRINK))
                self._episode = self._begun
                self._slow_start, self._credit, self._rest = False, 0.0, 0
        elif cause is Cause.SERVER:
            self._rest = self.limit
        elif cause is None:
            self._grow(in_flight)

    def _grow(self, in_flight: int) -> None:
        if self._rest:
            self._rest -= 1
            return
        # While it doubles, requests of the round before are all that can be in flight yet.
        full = self.limit < 2 * in_flight if self._slow_start else self.limit <= in_flight
        if not full or self.limit >= self._most:
            return
        self._credit += 1.0 if self._slow_start else 1.0 / self.limit
        if self._credit >= 1.0 - 1e-9:
            self.limit, self._credit = self.limit + 1, 0.0
