"""Which items of a job meet some conditions, and in which order: what a list of results is filtered and sorted by."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from batch.checkpoint.rows import FROM, WHERE, Part
from batch.checkpoint.store import CheckpointStore

Operator = Literal["=", "!=", ">", ">=", "<", "<=", "~"]
# What can be asked of a row, and where it stands. A price is asked for in dollars and kept in billionths of one.
NUMBERS = {
    "id": "i.id + 1",
    "in": "r.tokens_input",
    "tokens": "r.tokens_output",
    "cached": "r.tokens_cached",
    "reasoning": "r.tokens_reasoning",
    "time": "r.duration",
    "tries": "r.attempts",
    "cost": "r.cost / 1e9",
}
OF_RESULTS = {
    **{name: sql for name, sql in NUMBERS.items() if sql.startswith("r.")},
    **{"cost": "r.cost", "class": "r.error_class", "model": "m.name"},
}
TEXTS = {"model": "m.name", "class": "r.error_class", "for": "g.name", "error": "a.error"}
PIECE = 1 << 16  # characters of a long list of ids that are read at once


@dataclass(frozen=True, slots=True)
class Condition:
    """`field operator value`; `~` and a text's `=` ask whether the value is a part of it, whatever the case."""

    field: str
    operator: Operator
    value: str | float

    def sql(self) -> tuple[str, str | float]:
        """As SQL, with its parameter."""
        if self.field in NUMBERS:
            return f"{NUMBERS[self.field]} {'=' if self.operator == '~' else self.operator} ?", self.value
        part = f"instr(lower(coalesce({TEXTS[self.field]}, '')), lower(?))"
        return (f"{part} = 0" if self.operator == "!=" else f"{part} > 0"), self.value


def select_ids(
    store: CheckpointStore,
    part: Part = "all",
    conditions: tuple[Condition, ...] = (),
    *,
    by: str = "id",
    descending: bool = False,
    within: Sequence[tuple[int, int]] | None = None,
) -> array[int]:
    """The ids of a part that meet all conditions, by a field; what has no value comes last. 8 MB a million.

    With `within`, of those alone whose id lies in one of these ranges (first and last, a few hundred at most).
    """
    direction = "DESC" if descending else "ASC"
    whole = not conditions and within is None
    if whole and by == "id" and part == "failed":  # through the index
        return _ids(store, f"SELECT id FROM results WHERE success = 0 ORDER BY id {direction}")
    if whole and by in OF_RESULTS and part != "pending":
        return _by_result(store, part, OF_RESULTS[by], direction)
    asked = [condition.sql() for condition in conditions]
    where = " AND ".join([WHERE[part], *(sql for sql, _ in asked)])
    if within is not None:
        where += f" AND ({' OR '.join(f'i.id BETWEEN {a:d} AND {b:d}' for a, b in within) or '0'})"
    order = {**NUMBERS, **TEXTS}[by]
    ordering = f"i.id {direction}" if by == "id" else f"{order} IS NULL, {order} {direction}, i.id"
    return _ids(store, f"SELECT i.id {FROM} WHERE {where} ORDER BY {ordering}", [value for _, value in asked])


def _by_result(store: CheckpointStore, part: Part, field: str, direction: str) -> array[int]:
    """Those with a value, from the results alone, which are a tenth of a file; then the others."""
    source = f"FROM results r {'LEFT JOIN models m ON m.id = r.model' if field.startswith('m.') else ''}"
    where, order = f"WHERE {WHERE[part]} AND {field}", f"ORDER BY {field} {direction}, r.id"
    found = _ids(store, f"SELECT r.id {source} {where} IS NOT NULL {order}")
    if part != "all":
        found += _ids(store, f"SELECT r.id {source} {where} IS NULL ORDER BY r.id")
    elif len(found) < store.job().total_prompts:
        found += _ids(store, f"SELECT i.id {FROM} {where} IS NULL ORDER BY i.id")
    return found


def _ids(store: CheckpointStore, query: str, values: Sequence[str | float] = ()) -> array[int]:
    """The one column of a query that has an order, as one text made by SQLite: other threads go on meanwhile.

    Its `group_concat` keeps the order of a subquery (SQLite does not leave that out for it, and a test holds this).
    """
    ((text,),) = store.rows(f"SELECT group_concat(id) FROM ({query})", values)
    found, start = array("q"), 0
    while text and start < len(text):
        stop = text.find(",", start + PIECE)
        stop = len(text) if stop < 0 else stop
        found.extend(map(int, text[start:stop].split(",")))
        start = stop + 1
    return found
