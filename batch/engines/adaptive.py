"""How many requests at once a server bears: found out while it answers, never by asking for more than it gives."""

from __future__ import annotations

import time
from collections.abc import Callable

START = 8
MOST = 512
SHRINK = 0.7  # of the limit, when the server says that it is too much
QUIET_SECONDS = 5.0  # without growth after a server error or a time-out
# Shares of the last answers up to which they say nothing about how many at once is too many: a server that is asked
# for too much says so to many, not to one in fifty (as BBR takes losses; Cardwell et al., 2022).
RARE_REFUSALS = 0.02
RARE_TROUBLE = 0.05
WINDOW = 100  # answers that are looked back at, or as many as are in flight
PATIENCE = 4  # rounds without a limit met until growth is one quicker


class AdaptiveLimit:
    """A limit of requests in flight that grows while answers come and shrinks when the server says "too many".

    Slow start: it doubles each round of answers until the first rate limit, then grows by one a round (AIMD, as TCP
    does; Chiu and Jain 1989), and by more the longer no limit is met. A rate limit shrinks it once an episode: what was
    sent before the shrinking cannot shrink it again. Server errors and time-outs say nothing about how much is too
    much, so they only pause growth. Either counts only where it is more than rare. It grows only where it is the limit,
    that is, while as many are in flight.
    """

    def __init__(
        self,
        start: int = START,
        most: int = MOST,
        least: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most, self.least = max(most, least), max(1, least)
        self.limit = min(max(start, self.least), self.most)
        self.in_flight = 0
        self._clock = clock
        self._doubling = True
        self._sent = 0  # tickets given so far
        self._episode = 0  # tickets up to here belong to the episode that shrank it last
        self._answered = 0  # since it last grew
        self._quiet_until = 0.0
        self._full_until = 0  # tickets up to here were sent while the limit was (nearly) reached
        self._rounds = 0  # without a limit met
        self._seen = self._refusals = self._troubles = 0  # of late: what came back, how often not well

    @property
    def room(self) -> bool:
        """Whether one more may be sent."""
        return self.in_flight < self.limit

    def sent(self) -> int:
        """One more is in flight; its ticket, to be given back with what became of it."""
        self._sent += 1
        self.in_flight += 1
        if self.in_flight >= self.limit:
            self._full_until = self._sent + self.limit
        return self._sent

    def answered(self, ticket: int) -> None:
        """It came back well."""
        self._came_back()
        if not self._episode < ticket <= self._full_until or self._clock() < self._quiet_until:
            return
        self._answered += 1
        if self._doubling:
            self.limit = min(self.most, self.limit + 1)  # one more for each answer doubles it in a round
        elif self._answered >= self.limit:
            self._answered = 0
            self._rounds += 1
            self.limit = min(self.most, self.limit + 1 + self._rounds // PATIENCE)

    def limited(self, ticket: int) -> bool | None:
        """The server said "too many" (429): whether this began an episode and shrank the limit; None: it was too rare.

        False: it belongs to the episode that shrank it last.
        """
        self._came_back()
        if ticket <= self._episode:
            return False
        self._refusals += 1
        if self._refusals <= RARE_REFUSALS * self._seen:
            return None
        self._episode = self._sent
        self._doubling = False
        self._answered = self._rounds = 0
        self._seen = self._refusals = self._troubles = 0
        self.limit = max(self.least, min(self.limit - 1, int(self.limit * SHRINK)))
        return True

    def troubled(self, ticket: int) -> None:
        """A server error or a time-out: growth waits."""
        self._came_back()
        self._troubles += 1
        if self._troubles > RARE_TROUBLE * self._seen:
            self._quiet_until = self._clock() + QUIET_SECONDS

    def _came_back(self) -> None:
        self.in_flight -= 1
        self._seen += 1
        if self._seen >= 2 * max(WINDOW, self.limit):  # what is older counts half
            self._seen, self._refusals, self._troubles = self._seen // 2, self._refusals // 2, self._troubles // 2

    def dropped(self, ticket: int) -> None:
        """It came to nothing that says anything (cancelled, never sent)."""
        self.in_flight -= 1
