"""What to do about failures and limits: error strategies, retries, rate limits."""

from __future__ import annotations

import random
import time
from collections import deque
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


MINUTE = 60.0
MERGED = 0.01  # seconds within which takings that nobody settles count as one


@dataclass(slots=True, eq=False)
class Taking:
    """So much of an allowance, taken at a time (seconds of the limit's own clock)."""

    time: float
    amount: float


class _Allowance:
    """A minute's allowance: it flows evenly, a second's worth of it at once, and no minute ever sees more than all.

    The even flow alone would let a first minute take what was saved up on top. It may go into debt, where a taking
    turns out dearer than it was taken for.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        self._limit = per_minute
        self._rate = per_minute / MINUTE
        self._capacity = self._level = max(1.0, self._rate)
        self._clock, self._seen = clock, clock()
        self._now = 0.0  # stands still while the clock goes back
        self._minute: deque[Taking] = deque()  # of the last minute, oldest first
        self._sum = 0.0

    def wait(self, amount: float) -> float:
        """Seconds until `amount` may be taken; more than ever fits is allowed when nothing else is in the minute."""
        self._pass_time()
        flow = (min(amount, self._capacity) - self._level) / self._rate
        too_much = self._sum + min(amount, self._limit) - self._limit
        rest = 0.0
        if too_much > 1e-9:
            for taking in self._minute:
                rest = taking.time + MINUTE - self._now
                too_much -= taking.amount
                if too_much <= 1e-9:
                    break
        return max(0.0, flow, rest)

    def take(self, amount: float, *, settled_later: bool) -> Taking:
        """Take it, whether there is so much or not."""
        self._level -= amount
        self._sum += amount
        last = self._minute[-1] if self._minute else None
        if last is not None and not settled_later and self._now - last.time < MERGED:
            last.time, last.amount = self._now, last.amount + amount
            return last
        taking = Taking(self._now, amount)
        self._minute.append(taking)
        return taking

    def settle(self, taking: Taking, amount: float) -> None:
        """It was so much, as is known now."""
        difference = amount - taking.amount
        self._pass_time()
        self._level -= difference
        if taking.time > self._now - MINUTE:
            self._sum += difference
        taking.amount = amount

    def _pass_time(self) -> None:
        now = self._clock()
        passed, self._seen = max(0.0, now - self._seen), now
        self._now += passed
        self._level = min(self._capacity, self._level + passed * self._rate)
        while self._minute and self._minute[0].time <= self._now - MINUTE:
            self._sum -= self._minute.popleft().amount
        if not self._minute:
            self._sum = 0.0  # whatever rounding has left


class RateLimit:
    """Requests and tokens a minute: in no 60 seconds more than that.

    Tokens are reserved by the running mean of what items cost and settled when an answer says what it did cost.
    `reserved` is what the last `take` reserved; it comes back with `settle`.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests = _Allowance(requests_per_minute, clock) if requests_per_minute else None
        self._tokens = _Allowance(tokens_per_minute, clock) if tokens_per_minute else None
        self.reserved: Taking | None = None
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
            self._requests.take(1, settled_later=False)
        self.reserved = self._tokens.take(estimate, settled_later=True) if self._tokens else None
        return 0.0

    def settle(self, reserved: Taking | None, tokens: int) -> None:
        """Replace the reservation of an answered item by what it cost; one that cost nothing gets all of it back."""
        if self._tokens and reserved is not None:
            self._tokens.settle(reserved, tokens)
        if tokens > 0:  # a refusal says nothing about what answers cost
            self._settled += 1
            self._mean_cost += (tokens - self._mean_cost) / min(self._settled, 100)
