"""The columns of results as a person wants them: which, in what order, how wide; remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ai_router.memory import Memory
from ai_router.tui.results.data import COLUMNS, TITLES
from ai_router.tui.widgets.columns import Column
from ai_router.tui.widgets.text import count

KEY, OLD_KEY = "results.columns", "results.hidden"
ALWAYS = ("#", "Status")
NEVER_FITS = 1 << 20
LEAST, MOST = 3, 200  # cells of a column that was given a width


@dataclass(frozen=True, slots=True)
class Layout:
    """Titles in their order, those that are hidden, and the widths that were given."""

    order: tuple[str, ...] = TITLES
    hidden: frozenset[str] = frozenset()
    widths: Mapping[str, int] = field(default_factory=dict)

    def columns(self, total: int) -> list[Column]:
        """The columns of a job of so many items, as a row has them; a hidden one is folded away at every width."""
        return [self._column(column, total) for column, _ in COLUMNS]

    def _column(self, column: Column, total: int) -> Column:
        if column.title in self.hidden:
            return replace(column, from_width=NEVER_FITS)
        if width := self.widths.get(column.title):
            return replace(column, width=width, from_width=0)
        return replace(column, width=max(2, len(count(total)))) if column.title == "#" else column

    @property
    def places(self) -> list[int]:
        """The order, by places in a row."""
        return [TITLES.index(title) for title in self.order]

    def toggled(self, title: str) -> Layout:
        """With a column shown, or hidden."""
        return self if title in ALWAYS else replace(self, hidden=self.hidden ^ {title})

    def moved(self, title: str, step: int) -> Layout:
        """With a column so many places on."""
        order = list(self.order)
        at = order.index(title)
        order.insert(max(0, min(len(order) - 1, at + step)), order.pop(at))
        return replace(self, order=tuple(order))

    def widened(self, title: str, width: int) -> Layout:
        """With a column of another width; 0 gives it back its own."""
        widths = {name: cells for name, cells in self.widths.items() if name != title}
        return replace(self, widths={**widths, title: max(LEAST, min(MOST, width))} if width else widths)

    def keep(self, memory: Memory) -> None:
        """Remember it. Raises MemoryFileError."""
        memory.keep(KEY, {"order": list(self.order), "hidden": sorted(self.hidden), "widths": dict(self.widths)})


def kept_layout(memory: Memory) -> Layout:
    """What was remembered, as far as it is about columns that there are."""
    said = memory.recall(KEY)
    if not isinstance(said, dict):
        said = {"hidden": memory.recall(OLD_KEY, [])}
    order = _titles(said.get("order"))
    widths = said.get("widths")
    return Layout(
        (*dict.fromkeys(order), *(title for title in TITLES if title not in order)),
        frozenset(title for title in _titles(said.get("hidden")) if title not in ALWAYS),
        {title: cells for title, cells in (widths if isinstance(widths, dict) else {}).items()
         if title in TITLES and isinstance(cells, int) and LEAST <= cells <= MOST},
    )  # fmt: skip


def _titles(said: object) -> Sequence[str]:
    return [title for title in said if title in TITLES] if isinstance(said, list) else []
