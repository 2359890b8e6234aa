"""What becomes of an answer in a table: the new columns, and their values for a row."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from batch.errors import ExportError
from batch.export.records import said
from batch.job import BatchResult
from batch.sources.tables import cell_text

PENDING = "no answer yet"
TEXT, WHOLE, NUMBER, TRUTH = "text", "whole", "number", "truth"
_SCHEMA_TYPES = {"string": TEXT, "integer": WHOLE, "number": NUMBER, "boolean": TRUTH}
_DOLLAR = 1_000_000_000
_WHOLE = 2**63


@dataclass(frozen=True, slots=True)
class MergeNames:
    """What the new columns are called: the answer's, with `_error`, `_tokens_in`, … behind it for the rest.

    `field` names the columns that the properties of a JSON schema spread into, {} standing for the property.
    """

    answer: str = "answer_llm"
    field: str = "{}_llm"


@dataclass(slots=True)
class Cell:
    """What is known of one row's answer. `fields` are the values of a JSON answer, where a schema was asked for."""

    result: BatchResult | None
    pending: bool = False
    fields: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None

    @property
    def answered(self) -> bool:
        """Whether there is an answer."""
        return self.result is not None and bool(self.result.success)


class Column(NamedTuple):
    """A new column: its name, what it holds, and its value for a result; `empty` for a row without one."""

    name: str
    kind: str
    value: Callable[[Cell], Any]


class AnswerColumns:
    """The new columns of a job, and their values for each row, in the order of the table."""

    def __init__(self, schema: Any, model: str, names: MergeNames, taken: Sequence[str]) -> None:
        """`schema` is the job's JSON schema or None, `model` the job's, `taken` the table's own columns."""
        self._model = model
        self._properties = _properties(schema)
        if "{}" not in names.field:
            raise ExportError(f"{names.field!r} does not say where a property's name goes: {{}}_llm")
        self.columns = self._made(names)
        seen = set(taken)
        for column in self.columns:
            if column.name in seen:
                raise ExportError(
                    f"There would be two columns {column.name}; give the new ones another name "
                    "(--merge-column, --merge-field)"
                )
            seen.add(column.name)

    def _made(self, names: MergeNames) -> list[Column]:
        name, model = names.answer, self._model
        spread = [
            Column(names.field.replace("{}", key), kind, partial(_field, key=key))
            for key, kind in self._properties.items()
        ]
        return [
            Column(name, TEXT, lambda c: c.result.response_text if c.result and c.answered else None),
            *spread,
            Column(f"{name}_error", TEXT, _error),
            Column(f"{name}_tokens_in", WHOLE, lambda c: c.result.tokens_input if c.result else None),
            Column(f"{name}_tokens_out", WHOLE, lambda c: c.result.tokens_output if c.result else None),
            Column(f"{name}_finish_reason", TEXT, lambda c: said(c.result, "finish_reason") if c.result else None),
            Column(f"{name}_model", TEXT, lambda c: (c.result.model or model) if c.result and c.answered else None),
            Column(f"{name}_cost", NUMBER, _cost),
        ]

    def cells(self, result: BatchResult | None, *, pending: bool = False) -> list[Any]:
        """The values for one row; of one that was not sent, nothing."""
        cell = Cell(result, pending)
        if self._properties and cell.answered:
            self._spread(cell)
        return [column.value(cell) for column in self.columns]

    def _spread(self, cell: Cell) -> None:
        assert cell.result is not None
        try:
            found = json.loads(cell.result.response_text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            cell.problem = "the answer is no JSON object"
            return
        wrong = []
        for key, kind in self._properties.items():
            fits, cell.fields[key] = _fitting(found.get(key), kind)
            if not fits:
                wrong.append(key)
        if wrong:
            cell.problem = f"the answer does not fit the schema: {', '.join(wrong)}"


def _field(cell: Cell, key: str) -> Any:
    return cell.fields.get(key)


def _error(cell: Cell) -> str | None:
    if cell.result is None:
        return PENDING if cell.pending else None
    if cell.answered:
        return cell.problem
    return cell.result.error_message or "failed"


def _cost(cell: Cell) -> float | None:
    """Dollars; None where it is not known."""
    if cell.result is None or cell.result.cost is None:
        return None
    return cell.result.cost / _DOLLAR


def _properties(schema: Any) -> dict[str, str]:
    """The properties of a schema's object, and what their columns hold; lists and objects are kept as JSON."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return {}
    found = {}
    for key, about in properties.items():
        wanted = about.get("type") if isinstance(about, dict) else None
        if isinstance(wanted, list) and len(rest := [t for t in wanted if t != "null"]) == 1:
            wanted = rest[0]
        found[str(key)] = _SCHEMA_TYPES.get(wanted, TEXT) if isinstance(wanted, str) else TEXT
    return found


def _fitting(value: Any, kind: str) -> tuple[bool, Any]:
    """Whether a value fits its column, and the value; a missing one is no fault."""
    if value is None:
        return True, None
    if kind == TEXT:
        return True, cell_text(value)
    if kind == TRUTH:
        return isinstance(value, bool), value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False, None
    if kind == NUMBER:
        try:
            return True, float(value)
        except OverflowError:
            return False, None
    fits = value == value and abs(value) < _WHOLE and value == int(value)
    return (True, int(value)) if fits else (False, None)
