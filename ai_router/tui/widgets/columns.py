"""The columns of a table: which are shown in a width, and how wide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GAP = 2  # cells between two columns
LEAST_FLEX = 8


@dataclass(frozen=True, slots=True)
class Column:
    """`width` cells, or a share `flex` of what is left. Folded away where the table is narrower than `from_width`."""

    title: str
    width: int = 0
    flex: int = 1
    right: bool = False
    from_width: int = 0


def laid_out(columns: Sequence[Column], width: int) -> list[tuple[int, Column, int]]:
    """Index, column and cells of each column that is shown in a table of this width."""
    shown = [(index, column) for index, column in enumerate(columns) if width >= column.from_width]
    # A column cut by the edge would show another number, and a name of no cells none: columns of a fixed width are
    # folded away from the last one on, until those that share what is left have something to share.
    while len(shown) > 1 and sum(c.width or LEAST_FLEX for _, c in shown) + GAP * (len(shown) - 1) > width:
        if not (fixed := [pair for pair in shown[1:] if pair[1].width]):
            break
        shown.remove(fixed[-1])
    while len(shown) > 1 and sum(c.width or 1 for _, c in shown) + GAP * (len(shown) - 1) > width:
        shown.pop()
    left = width - sum(column.width for _, column in shown) - GAP * (len(shown) - 1)
    flexible = [(index, column) for index, column in shown if not column.width]
    shares: dict[int, int] = {}
    # The narrowest share first, so that what it lacks is taken from the wider ones.
    for place, (index, column) in enumerate(sorted(flexible, key=lambda pair: pair[1].flex)):
        total = sum(other.flex for _, other in sorted(flexible, key=lambda pair: pair[1].flex)[place:])
        shares[index] = max(min(LEAST_FLEX, left), left * column.flex // total, 0)
        left -= shares[index]
    return [(index, column, min(column.width, max(1, width)) or shares[index]) for index, column in shown]
