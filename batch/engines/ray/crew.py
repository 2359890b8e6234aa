"""The driver's view of its actors: what each holds, how fast it is, and what becomes of what a dead one held."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from batch.items import BatchItem, ItemId, Request

AHEAD_SECONDS = 2.0  # of work beyond what an actor's engine runs at once, as it is measured
AHEAD_PART = 4  # of what it runs at once, that part at least: what it has no item for between two exchanges is idle
MOST_HELD = 1024  # items an actor holds at most
SUSPECT = 2  # actors that died over an item, after which it runs alone, so that only the one at fault is given up
ALONE = 2  # actors that may die while they have an item alone
CALLS = 2  # exchanges under way: while one is on the network the other computes
RATE_SECONDS = 5.0
SHOWN = 100  # characters of the prompt that an actor has had the longest


@dataclass(slots=True, eq=False)
class Held:
    """An item somewhere between the driver and an actor."""

    item: BatchItem[Request]
    deaths: int = 0  # actors that died while they had it
    alone: int = 0  # of them, with nothing but it


@dataclass(slots=True, eq=False)
class Member:
    """One actor. `state` is starting, ready, leaving (its node is about to go) or unseen (it may be dead).

    `blamed` is what one that is unseen held, which runs elsewhere by now: the reason is not known yet. `most` is how
    many items it is handed at once.
    """

    number: int
    handle: Any
    state: str = "starting"
    node: str = ""
    node_id: str = ""
    room: int = 0
    most: int = MOST_HELD
    blamed: list[Held] = field(default_factory=list)
    held: dict[ItemId, Held] = field(default_factory=dict)
    calls: int = 0
    done: int = 0
    cancelled: list[ItemId] = field(default_factory=list)
    partials: dict[ItemId, str] = field(default_factory=dict)
    _recent: deque[tuple[float, int]] = field(default_factory=deque)  # when, how many

    def answered(self, count: int) -> None:
        """So many more items are done."""
        now = time.monotonic()
        self.done += count
        self._recent.append((now, count))
        while self._recent and now - self._recent[0][0] > RATE_SECONDS:
            self._recent.popleft()

    @property
    def rate(self) -> float:
        """Items per second, lately."""
        if not self._recent:
            return 0.0
        span = time.monotonic() - self._recent[0][0]
        return sum(count for _, count in self._recent) / max(span, 0.5) if span < 2 * RATE_SECONDS else 0.0

    @property
    def target(self) -> int:
        """How many items it should hold: what its engine runs at once, and some ahead, by how fast that goes."""
        return min(self.room + max(-(-self.room // AHEAD_PART), int(self.rate * AHEAD_SECONDS)), self.most)

    @property
    def full(self) -> bool:
        """Whether it holds more than its engine runs at once."""
        return len(self.held) > self.room

    @property
    def load(self) -> float:
        """What it holds as a part of what its engine runs at once."""
        return len(self.held) / (self.room or 1)

    @property
    def alone(self) -> bool:
        """Whether what it holds is a single item under suspicion."""
        return len(self.held) == 1 and next(iter(self.held.values())).deaths >= SUSPECT

    def said(self) -> dict[str, Any]:
        """Its line for display, JSON."""
        oldest = next(iter(self.held.values()), None)
        return {
            "actor": self.number, "node": self.node, "state": self.state, "held": len(self.held), "done": self.done,
            "items_per_second": round(self.rate, 2), "on": "" if oldest is None else oldest.item.data.text[:SHOWN],
        }  # fmt: skip


class Queue:
    """Items that no actor has, those first that were with one that died."""

    def __init__(self) -> None:
        self._waiting: deque[Held] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: BatchItem[Request]) -> None:
        """One item more."""
        self._waiting.append(Held(item))

    def back(self, held: Iterable[Held]) -> None:
        """Items that have to run again, to the front."""
        self._waiting.extendleft(reversed(list(held)))

    def remove(self, item_id: ItemId) -> bool:
        """Whether it was here."""
        for held in self._waiting:
            if held.item.id == item_id:
                self._waiting.remove(held)
                return True
        return False

    def take(self, member: Member, share: int = MOST_HELD) -> list[Held]:
        """What an actor is to be handed now, its share at most; an item under suspicion alone, to one that has none."""
        if not self._waiting or member.alone:
            return []
        if self._waiting[0].deaths >= SUSPECT:
            if member.held:
                # Those behind it need not wait for an idle actor.
                return self._take(member, share, [held for held in self._waiting if held.deaths < SUSPECT])
            return [self._waiting.popleft()]
        return self._take(member, share, None)

    def _take(self, member: Member, share: int, among: list[Held] | None) -> list[Held]:
        count = min(member.target - len(member.held), share)
        if count <= 0:
            return []
        if among is not None:
            taken = among[:count]
            for held in taken:
                self._waiting.remove(held)
            return taken
        taken = []
        while self._waiting and len(taken) < count and self._waiting[0].deaths < SUSPECT:
            taken.append(self._waiting.popleft())
        return taken
