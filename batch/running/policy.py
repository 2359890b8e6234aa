"""What to do about failures and limits: error strategies, retries, rate limits."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from batch.errors import ErrorClass, Failure
from batch.options import OptionError


@dataclass(frozen=True, slots=True)
class ErrorStrategy:
    """When failures end a job: never (`continue`), at the first (`stop`), at the Nth (`threshold:N`)."""

    limit: int | None  # failures of this run at which it stops; None never

    @classmethod
    def parse(cls, text: str) -> ErrorStrategy:
        """`continue`, `stop` or `threshold:N` with N ≥ 1; anything else is an error."""
        name, _, number = text.strip().lower().partition(":")
        if name == "continue" and not number:
            return cls(None)
        if name == "stop" and not number:
            return cls(1)
        if name == "threshold" and number.strip().isascii() and number.strip().isdigit() and int(number) > 0:
            return cls(int(number))
        raise OptionError(
            f"bad error strategy {text!r}: use continue, stop or threshold:N with N a whole number above 0"
        )

    def stops(self, failures: int) -> bool:
        """Whether this many failures end the run."""
        return self.limit is not None and failures >= self.limit


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Full-jitter exponential back-off for transient failures; times are seconds.

    The delay before try n+1 is uniform in [0, min(cap, base · 2ⁿ⁻¹)] (AWS "full jitter"); a time named by the other
    side (`Retry-After`) is the least that is waited.
    """

    retries: int = 2
    base: float = 0.5
    cap: float = 30.0

    def delay(self, failure: Failure, attempt: int) -> float | None:
        """Seconds to wait before trying again, or None when this failure is final. `attempt` counts from 1."""
        if failure.error_class is not ErrorClass.TRANSIENT or attempt > self.retries:
            return None
        jitter = random.uniform(0, min(self.cap, self.base * 2 ** min(attempt - 1, 30)))
        return jitter + (failure.retry_after or 0.0)


class _Bucket:
    """A token bucket of a minute's allowance that may go into debt."""

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        self.rate = per_minute / 60
        # A tenth of a minute's allowance may be spent at once, the rest flows evenly.
        self.capacity = max(1.0, per_minute / 10)
        self.level = self.capacity
        self.clock = clock
        self.updated = clock()

    def wait(self, amount: float) -> float:
        """Seconds until `amount` may be taken; more than fits is allowed when the bucket is full."""
        now = self.clock()
        self.level = min(self.capacity, self.level + max(0.0, now - self.updated) * self.rate)
        self.updated = now
        return max(0.0, (min(amount, self.capacity) - self.level) / self.rate)


class RateLimit:
    """Requests and tokens a minute, for one run.

    Tokens are reserved by the running mean of what items cost and settled when an answer says what it did cost.
    `reserved` is what the last `take` reserved; it comes back with `settle`.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests = _Bucket(requests_per_minute, clock) if requests_per_minute else None
        self._tokens = _Bucket(tokens_per_minute, clock) if tokens_per_minute else None
        self.reserved = 0.0
        self._mean_cost = 0.0
        self._settled = 0

    @property
    def active(self) -> bool:
        """Whether there is any limit."""
        return self._requests is not None or self._tokens is not None

    def _estimate(self, characters: int) -> float:
        # Four characters a token, as a first guess for text that no answer has priced yet.
        return self._mean_cost if self._settled else characters / 4 + 1

    def take(self, characters: int) -> float:
        """Reserve one request of this length, or say how many seconds to wait before asking again."""
        estimate = self._estimate(characters)
        wait = max(
            self._requests.wait(1) if self._requests else 0.0,
            self._tokens.wait(estimate) if self._tokens else 0.0,
        )
        if wait > 0:
            return wait
        if self._requests:
            self._requests.level -= 1
        if self._tokens:
            self._tokens.level -= estimate
        self.reserved = estimate
        return 0.0

    def settle(self, reserved: float, tokens: int) -> None:
        """Replace the reservation of an answered item by what it cost."""
        if self._tokens:
            self._tokens.level += reserved - tokens
        self._settled += 1
        self._mean_cost += (tokens - self._mean_cost) / min(self._settled, 100)
