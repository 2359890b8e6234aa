"""What a lane is: one model of a job with several, its limits, and who takes over when it cannot answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch.errors import BatchError
from batch.items import Answer, Request

if TYPE_CHECKING:
    from batch.engines.base import Engine


class LaneError(BatchError, ValueError):
    """Lanes that cannot be run as they are; the text names the lane."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One model of a job, and how it is used.

    `name` is the model's as items have it. `make` makes its engine, when there is an item for it. `fallback` names the
    lanes that an item goes on to, in this order, when this one cannot answer it. `budget` and `spent` are billionths of
    a dollar: what the lane may cost in all, and what it has cost before; `price` is the most that a request may cost.
    """

    name: str
    make: Callable[[], Engine[Request, Answer]]
    workers: int | None = None  # most in flight; None: as many as its engine has room for
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    retries: int = 2  # further tries after a transient failure, before the next lane
    fallback: tuple[str, ...] = ()
    budget: int | None = None
    spent: int = 0
    price: Callable[[Request], int] | None = None
    local: bool = False  # it needs this machine's memory
    pass_filtered: bool = False  # whether another lane may have what a content filter of this one holds back
    model: str = ""  # who answers, where that is not what the lane is called, as of a chain
    adaptive: bool = False  # without `workers`: find out how many the other side can take


@dataclass(frozen=True, slots=True)
class LaneSnapshot:
    """A lane at one moment. `state` is idle, running, resting (after failures in a row), down or spent."""

    name: str
    state: str
    done: int = 0
    failed: int = 0  # tries
    in_flight: int = 0
    waiting: int = 0  # items that are held for it
    concurrency: int | None = None  # None: as many as its engine has room for
    items_per_second: float = 0.0
    cost: int | None = 0  # billionths of a dollar; None: not known of every answer
    note: str = ""  # why it is not running, for people to read


def chains(lanes: Sequence[Lane], default: str) -> dict[str, tuple[str, ...]]:
    """For each lane the lanes that an item of its may go through, itself first; LaneError where that cannot be."""
    if not lanes:
        raise LaneError("a job needs at least one lane")
    table: dict[str, Lane] = {}
    for lane in lanes:
        if lane.name in table:
            raise LaneError(f"two lanes are named {lane.name}")
        table[lane.name] = lane
    if default not in table:
        raise LaneError(f"the lane {default} that answers what names no model is none of {', '.join(table)}")
    for lane in lanes:
        if lane.name in lane.fallback:
            raise LaneError(f"lane {lane.name} names itself as its fallback")
        for name in lane.fallback:
            if name not in table:
                raise LaneError(f"lane {lane.name} names {name} as its fallback, which is none of {', '.join(table)}")
    return {name: tuple(_walk(name, table, ())) for name in table}


def _walk(name: str, table: Mapping[str, Lane], path: tuple[str, ...]) -> dict[str, None]:
    """The chain from a lane on, in order, each once."""
    if name in path:
        circle = " → ".join([*path[path.index(name) :], name])
        raise LaneError(f"the fallbacks of lane {name} go round in a circle: {circle}")
    found = {name: None}
    for other in table[name].fallback:
        found.update({step: None for step in _walk(other, table, (*path, name)) if step not in found})
    return found
