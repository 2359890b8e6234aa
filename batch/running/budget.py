"""What a job may cost in all: nothing is given out that could take it past that, with all that is in flight."""

from __future__ import annotations

from collections.abc import Callable

from batch.items import Answer, BatchResponse, Request
from batch.prices import NANOS, dollars


class Budget:
    """Reserves the most that each item may cost until its answer says what it did cost; billionths of a dollar.

    What an item may cost is what its engine says (`open`), else as much as the dearest answer so far; before there is
    one, items go one at a time. `limit` None: there is no budget. `over` says why no more may be spent.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = None if limit is None else round(limit * NANOS)
        self.over = ""
        self._spent = 0
        self._dearest: int | None = None
        self._reserved: dict[int, int] = {}
        self._sum = 0
        self._most: Callable[[Request], int | None] | None = None

    def open(self, spent: int, most: Callable[[Request], int | None] | None) -> None:
        """What the job has cost before, and how to know the most that a request may cost."""
        self._spent, self._most = spent, most

    def affords(self, request: Request) -> bool:
        """Whether this may be given out beside what is in flight; where it never may, `over` says why."""
        if self.limit is None:
            return True
        if self.over:
            return False
        most = self._of(request)
        if most is None:
            if not self._reserved:
                most = 0  # the first, which tells
            else:
                return False
        if self._spent < self.limit and self._spent + self._sum + most <= self.limit:
            return True
        if not self._reserved:
            one = f" and one more may cost {dollars(most)}" if most else ""
            self.over = (
                f"the budget of {dollars(self.limit)} is used up: {dollars(self._spent)} spent{one}; "
                "a larger --budget goes on"
            )
        return False

    def _of(self, request: Request) -> int | None:
        most = self._most(request) if self._most is not None else None
        return self._dearest if most is None else most

    def reserve(self, index: int, request: Request) -> None:
        """It is given out."""
        most = self._of(request) or 0
        self._reserved[index] = most
        self._sum += most

    def settle(self, response: BatchResponse[Answer]) -> None:
        """It came back: what it cost is spent, what was reserved for it is free."""
        if self.limit is None:
            return
        self._sum -= self._reserved.pop(int(response.id), 0)
        if response.cost is not None:
            self._spent += response.cost
            if response.error is None:
                self._dearest = max(self._dearest or 0, response.cost)
        elif response.error is None or response.tokens_input + response.tokens_output:
            self.over = self.over or (
                "it is not known what the answers cost, so a budget cannot be kept; give the model its price in "
                "models.yaml, price: {input: …, output: …}"
            )
