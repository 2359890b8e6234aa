"""When a lane may begin its next item: concurrency, rates, budget, and a rest after failures in a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from batch.engines.adaptive import AdaptiveLimit
from batch.engines.lane import Lane
from batch.errors import Cause, ErrorClass, Failure
from batch.items import Answer, BatchResponse, ItemId, Request
from batch.running.policy import RateLimit, Taking

FAILURES = 8  # in a row, of the lane and not of its items, after which it rests
REST = 15.0  # seconds; doubled each time it rests again without an answer in between
LONGEST_REST = 240.0
RESTS = 5  # in a row, after which it is down


@dataclass(slots=True)
class _Begun:
    number: int  # of the adaptive concurrency
    reserved: Taking | None  # tokens
    cost: int  # the most it may cost, billionths of a dollar


class Gate:
    """A lane's limits. `wait` says when the next item may begin, `begin` and `end` are told of each one."""

    def __init__(self, lane: Lane, clock: Callable[[], float] = time.monotonic) -> None:
        self.spent = lane.spent
        self.down = ""  # why nothing more may begin, ever
        self._lane, self._clock = lane, clock
        self._limit = RateLimit(lane.requests_per_minute, lane.tokens_per_minute, clock)
        self._adaptive = AdaptiveLimit() if lane.adaptive and lane.workers is None else None
        self._begun: dict[ItemId, _Begun] = {}
        self._dearest: int | None = None  # of the answers so far, billionths of a dollar
        self._not_before = 0.0
        self._failures = 0  # in a row
        self._rests = 0  # in a row
        self.cost_known = True

    @property
    def in_flight(self) -> int:
        """Items that began and have not ended."""
        return len(self._begun)

    @property
    def begun(self) -> Collection[ItemId]:
        """Their ids; from any thread."""
        return self._begun.copy()

    @property
    def concurrency(self) -> int | None:
        """Most of them at once."""
        return self._adaptive.limit if self._adaptive else self._lane.workers

    @property
    def resting(self) -> float:
        """Seconds until it may begin something again, after failures in a row; 0 where it does not rest."""
        return max(0.0, self._not_before - self._clock()) if self._rests else 0.0

    def wait(self, request: Request) -> float | None:
        """Seconds until this request may begin; 0: now, and its rates are taken; None: not before another one ends.

        Where the budget is spent, `down` says so.
        """
        if self.down or (self.concurrency is not None and self.in_flight >= self.concurrency):
            return None
        rest = self._not_before - self._clock()
        if rest > 0:
            return rest
        if self._rests and self.in_flight:
            return None  # one at a time, until one has an answer
        if not self._affords(request):
            return None
        return self._limit.take(len(request.text)) if self._limit.active else 0.0

    def _affords(self, request: Request) -> bool:
        """Whether the budget holds whatever is in flight and this costs."""
        budget = self._lane.budget
        if budget is None:
            return True
        reserved = sum(begun.cost for begun in self._begun.values())
        if self._lane.price is None and self._dearest is None and self._begun:
            return False  # the first answer says what one costs
        if self.spent + reserved + self._most(request) <= budget and self.spent < budget:
            return True
        if not self._begun:
            self.down = f"its budget of {dollars(budget)} is spent" if self.spent else "its budget is too small"
        return False

    def _most(self, request: Request) -> int:
        return self._lane.price(request) if self._lane.price else self._dearest or 0

    def begin(self, item_id: ItemId, request: Request) -> None:
        """It is sent, after `wait` has said 0."""
        number = self._adaptive.sent() if self._adaptive else 0
        most = self._most(request) if self._lane.budget is not None else 0
        self._begun[item_id] = _Begun(number, self._limit.reserved, most)

    @property
    def flying(self) -> Iterable[ItemId]:
        """The items that began and have not ended, oldest first."""
        return self._begun.keys()

    def holds(self, item_id: ItemId) -> bool:
        """Whether the item began and has not ended."""
        return item_id in self._begun

    def forget(self, item_id: ItemId) -> None:
        """It is in flight no more, though it has no answer: given up, or handed to somebody far away."""
        begun = self._begun.pop(item_id, None)
        if begun is not None and self._adaptive:
            self._adaptive.dropped(begun.number)

    def end(self, response: BatchResponse[Answer]) -> None:
        """It came back."""
        begun = self._begun.pop(response.id, None)
        tokens = response.tokens_input + response.tokens_output
        if begun is not None:
            self._limit.settle(begun.reserved, tokens)
        self._pay(response, tokens)
        if begun is not None and self._adaptive:
            _feed_back(self._adaptive, begun.number, response.error)
        self._judge(response.error)

    def _pay(self, response: BatchResponse[Answer], tokens: int) -> None:
        if response.cost is not None:
            self.spent += response.cost
            if response.error is None:
                self._dearest = max(self._dearest or 0, response.cost)
        elif tokens or response.error is None:
            self.cost_known = False
            if self._lane.budget is not None:
                self.down = "it does not say what its answers cost, so its budget cannot be kept"

    def _judge(self, error: Failure | None) -> None:
        """What it says about how soon to go on, and whether at all."""
        if error is None or error.error_class is ErrorClass.PERMANENT:
            self._failures = self._rests = 0  # it is there, and answers
            return
        if error.retry_after:
            self._not_before = max(self._not_before, self._clock() + error.retry_after)
        if error.cause is Cause.RATE:
            return  # it is there, and wants to be asked more slowly
        self._failures += 1
        if self._failures >= FAILURES or (self._rests and self.resting == 0.0):
            self._rest(error.message)

    def _rest(self, why: str) -> None:
        self._failures = 0
        self._rests += 1
        if self._rests > RESTS:
            self.down = f"it has failed again and again: {why}"
        self._not_before = max(self._not_before, self._clock() + min(LONGEST_REST, REST * 2 ** (self._rests - 1)))


def _feed_back(limit: AdaptiveLimit, number: int, error: Failure | None) -> None:
    """What an answer says about how many at once the other side bears."""
    if error is None:
        limit.answered(number)
    elif error.cause is Cause.RATE:
        limit.limited(number)
    elif error.cause is Cause.SERVER:
        limit.troubled(number)
    else:
        limit.dropped(number)


def dollars(billionths: int) -> str:
    """`$1.50`; small sums with as many digits as they need."""
    text = f"{billionths / 1e9:.9f}".rstrip("0")
    whole, _, part = text.partition(".")
    return f"${whole}.{part.ljust(2, '0')}"
