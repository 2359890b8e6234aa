"""What is wanted of a file, what is expected of it, and its plan: each item's lane with the reason."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from ai_router.routing.router import Chain, RoutingError
from batch.items import Request


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of a file. At most one of `budget` (dollars), `quality` (0 to 1) and `dial` (0 to 1) is said."""

    budget: float | None = None
    quality: float | None = None
    dial: float | None = None
    explore: float = 0.0  # the share of items that go to a random allowed model, so that the evidence stays honest
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What is expected of an assignment, with 95 % intervals. Score is the share right, None where nothing is known."""

    name: str
    score: tuple[float, float, float] | None
    cost: tuple[float, float, float] | None  # billionths of a dollar; None where a price is not known
    seconds: float | None
    known: int = 0  # items whose score is known
    model: str = ""  # where one model answers all
    dial: float | None = None  # where the dial stands there


@dataclass(slots=True)
class FilePlan:
    """The lanes of all items, in the file's order."""

    lanes: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    lane_of: array[int] = field(default_factory=lambda: array("H"))
    reason_of: array[int] = field(default_factory=lambda: array("I"))
    chains: dict[str, Chain] = field(default_factory=dict)
    categories: Counter[str] = field(default_factory=Counter)
    figures: Figures | None = None
    curve: list[Figures] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lane_of)

    def counts(self) -> list[tuple[str, int]]:
        """How many items each lane has, most first."""
        return Counter(self.lanes[n] for n in self.lane_of).most_common()

    def why(self) -> list[tuple[str, str, int]]:
        """Lanes with their reasons and how many items go there for each, most first."""
        pairs = Counter(zip(self.lane_of, self.reason_of, strict=True))
        return [(self.lanes[lane], self.reasons[reason], n) for (lane, reason), n in pairs.most_common()]

    def directed(self, requests: Iterable[Request | str]) -> Iterator[Request]:
        """The same requests, each with its model and the reason. Raises RoutingError where the file has changed."""
        count = 0
        for count, given in enumerate(requests, 1):
            request = Request(given) if isinstance(given, str) else given
            if count > len(self):
                break
            lane, reason = self.lane_of[count - 1], self.reason_of[count - 1]
            yield replace(request, model=self.lanes[lane], reason=self.reasons[reason])
        if count != len(self):
            raise RoutingError("The file has changed since its plan was made; begin again")

    def put(self, at: int | None, lane: str, reason: str) -> None:
        """Decide an item: the next one, or the one at a place."""
        lane_number, reason_number = _number(self.lanes, lane), self._reason(reason)
        if at is None:
            self.lane_of.append(lane_number)
            self.reason_of.append(reason_number)
        else:
            self.lane_of[at], self.reason_of[at] = lane_number, reason_number

    def _reason(self, reason: str) -> int:
        if reason not in self._known:
            self._known[reason] = len(self.reasons)
            self.reasons.append(reason)
        return self._known[reason]

    _known: dict[str, int] = field(default_factory=dict)


def _number(names: list[str], name: str) -> int:
    if name not in names:
        names.append(name)
    return names.index(name)
