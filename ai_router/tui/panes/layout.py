"""Which panes stand in a space, in which direction, and how many cells each of them gets; reckoned without a screen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Flow = Literal["side", "stacked"]

THREE_FROM, TWO_FROM = 120, 80  # cells of width
SIDE_FROM = 110  # cells from which two panes stand side by side, else one above the other
STACKED_FROM = 18  # lines from which two panes stand one above the other


@dataclass(frozen=True, slots=True)
class Pane:
    """A part of a screen: the id of its widget, what a person calls it, and its share of the room (`tall`: of the
    height, where panes stand one above the other; 0 for the same).

    With less room the panes of the highest `rank` go first; the one of rank 0 stays. `least` is in cells of width, of
    which a pane keeps that many where its edges are moved. One that is `side_only` never stands above or below another.
    One that is `low` stands below another on small screens too, without a border but for its title, on a third of the
    lines and at least so many.
    """

    id: str
    title: str
    share: int = 50
    rank: int = 0
    least: int = 16
    tall: int = 0
    low: int = 0
    side_only: bool = False


LEAST_LINES = 4


def flow_of(width: int, height: int, chosen: Flow | None = None) -> Flow:
    """The direction in which panes stand in a space of this size, where none was chosen."""
    if chosen is not None:
        return chosen
    return "side" if width >= SIDE_FROM or (width >= TWO_FROM and height < STACKED_FROM) else "stacked"


def is_low(pane: Pane, shown: Sequence[Pane], height: int, flow: Flow) -> bool:
    """Whether a pane stands below another on a screen of few lines."""
    return pane.low > 0 and len(shown) > 1 and flow == "stacked" and height < STACKED_FROM


def least_of(pane: Pane, room: int, flow: Flow) -> int:
    """Cells, or lines, below which a pane does not go while there is room."""
    if flow == "side":
        return pane.least
    return pane.low if pane.low and room < STACKED_FROM else LEAST_LINES


def shown_panes(
    panes: Sequence[Pane], hidden: Collection[str], width: int, height: int, flow: Flow, zoomed: str = ""
) -> list[Pane]:
    """The panes that stand in a space of this size, in their order; never none."""
    if zoomed and any(pane.id == zoomed for pane in panes):
        return [pane for pane in panes if pane.id == zoomed]
    most = 3 if width >= THREE_FROM else 2 if width >= TWO_FROM else 1
    if flow == "stacked":
        most = min(most, 2, max(1, height // (LEAST_LINES + 1)))
    there = [pane for pane in panes if pane.id not in hidden and not (flow == "stacked" and pane.side_only)]
    kept = sorted(there, key=lambda pane: pane.rank)[:most] or [min(panes, key=lambda pane: pane.rank)]
    if flow == "stacked" and len(kept) == 1 and height > LEAST_LINES + max(pane.low for pane in panes):
        kept += [pane for pane in there if pane.low and pane not in kept][:1]
    while len(kept) > 1 and flow == "side" and sum(pane.least for pane in kept) > width:
        kept.pop()
    return [pane for pane in panes if pane in kept]


def cells_of(panes: Sequence[Pane], shares: Mapping[str, int], room: int, flow: Flow) -> dict[str, int]:
    """Cells (or lines) of each pane of a space: all of it, by shares, none below its least while there is room."""
    least = {pane.id: least_of(pane, room, flow) for pane in panes}
    if any(is_low(pane, panes, room, flow) for pane in panes) and (room < 2 * (LEAST_LINES + 1) or not shares):
        lines = {pane.id: max(pane.low, room // 3) for pane in panes if pane.low}
        return {pane.id: lines.get(pane.id, room - sum(lines.values())) for pane in panes}
    usual = {pane.id: (flow == "stacked" and pane.tall) or pane.share for pane in panes}
    weights = {name: max(1, shares.get(name, share)) for name, share in usual.items()}
    cells: dict[str, int] = {}
    left, weight = room, sum(weights.values())
    # The one that its share leaves furthest below its least first: what it lacks is taken from the others.
    order = sorted(weights, key=lambda name: weights[name] / least[name])
    for place, name in enumerate(order):
        others = sum(least[other] for other in order[place + 1 :])
        cells[name] = max(min(least[name], left), min(left * weights[name] // max(1, weight), left - others), 0)
        left -= cells[name]
        weight -= weights[name]
    if order:
        cells[order[-1]] += left
    return {pane.id: cells[pane.id] for pane in panes}


def moved(panes: Sequence[Pane], cells: Mapping[str, int], left: str, step: int, flow: Flow) -> dict[str, int]:
    """Cells after the edge behind the pane `left` has moved by `step`; as far as the two panes beside it allow."""
    at = next(place for place, pane in enumerate(panes) if pane.id == left)
    one, other = panes[at], panes[at + 1]
    room = sum(cells.values())
    least = least_of(one, room, flow), least_of(other, room, flow)
    step = max(min(0, least[0] - cells[one.id]), min(step, max(0, cells[other.id] - least[1])))
    return {**cells, one.id: cells[one.id] + step, other.id: cells[other.id] - step}
