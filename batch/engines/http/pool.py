"""Several addresses of one model as one: the least loaded that is up gets the next request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from batch.errors import FatalError

DOWN_AFTER = 3  # failures in a row
FIRST_PAUSE = 0.5  # seconds before an address that is down is tried again; doubles
LONGEST_PAUSE = 15.0


class Endpoint:
    """One address and how it is doing."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self.url = url.rstrip("/")
        self.in_flight = 0
        self.answered = 0
        self.trouble = 0  # failures in a row
        self.last_error = ""
        self._clock = clock
        self._down_until = 0.0
        self._pause = FIRST_PAUSE
        self._probing = False

    @property
    def up(self) -> bool:
        """Whether requests may go there: it works, or it is time for one to find out."""
        if self.trouble < DOWN_AFTER:
            return True
        return not self._probing and self._clock() >= self._down_until

    @property
    def wait(self) -> float:
        """Seconds until it may be tried."""
        return max(0.0, self._down_until - self._clock()) if self.trouble >= DOWN_AFTER else 0.0

    def begin(self) -> None:
        """A request goes there."""
        self.in_flight += 1
        if self.trouble >= DOWN_AFTER:
            self._probing = True  # one alone, until it is known

    def worked(self) -> None:
        """It answered, be it with an error of the request's own."""
        self.in_flight -= 1
        self.answered += 1
        self.trouble, self._pause, self._probing = 0, FIRST_PAUSE, False

    def failed(self, error: str, *, unreachable: bool) -> None:
        """It did not answer, or with a failure of its own; where it cannot be reached it is down at once."""
        self.in_flight -= 1
        self._probing = False
        self.last_error = error
        self.trouble = max(self.trouble + 1, DOWN_AFTER if unreachable else 0)
        if self.trouble >= DOWN_AFTER:
            self._down_until = self._clock() + self._pause
            self._pause = min(LONGEST_PAUSE, self._pause * 2)

    def left(self) -> None:
        """A request was given up from this side: that says nothing."""
        self.in_flight -= 1
        self._probing = False


class Pool:
    """The endpoints of a model; all of it belongs to one event loop."""

    def __init__(self, urls: Sequence[str], patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.endpoints = [Endpoint(url, clock) for url in dict.fromkeys(urls)]
        self._patience = patience
        self._clock = clock
        self._down_since: float | None = None

    def ready(self) -> Endpoint | None:
        """The endpoint where there is but one, and nothing ails it."""
        endpoint = self.endpoints[0]
        if endpoint.trouble or len(self.endpoints) > 1:
            return None
        endpoint.in_flight += 1
        return endpoint

    async def take(self) -> Endpoint:
        """The least loaded endpoint that is up; waits while none is.

        Raises FatalError when none could be reached for `patience` seconds.
        """
        while True:
            up = [endpoint for endpoint in self.endpoints if endpoint.up]
            if up:
                best = min(up, key=lambda endpoint: (endpoint.trouble, endpoint.in_flight))
                best.begin()
                return best
            now = self._clock()
            self._down_since = self._down_since or now
            if now - self._down_since >= self._patience:
                names = ", ".join(endpoint.url for endpoint in self.endpoints)
                raise FatalError(f"{names} cannot be reached: {self.endpoints[0].last_error}")
            await asyncio.sleep(min(0.5, max(0.02, min(endpoint.wait for endpoint in self.endpoints))))

    def heard(self) -> None:
        """Something answered: the time without any begins anew."""
        self._down_since = None

    @property
    def waiting(self) -> str:
        """`server unreachable, trying again…` while none is up, else nothing."""
        return "" if any(endpoint.up for endpoint in self.endpoints) else "server unreachable, trying again…"
