"""An item with its result as one row: the columns that are read, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from batch.job import BatchResult
from batch.jsontext import load_json

Part = Literal["all", "done", "failed", "pending"]

_NAMES = "LEFT JOIN models m ON m.id = r.model LEFT JOIN models g ON g.id = i.model"
FROM = f"FROM items i LEFT JOIN results r ON r.id = i.id LEFT JOIN answers a ON a.id = i.id {_NAMES}"
FROM_FAILED = f"FROM results r JOIN items i ON i.id = r.id LEFT JOIN answers a ON a.id = r.id {_NAMES}"
# Of all tries. One that used tokens at no known price makes the sum unknown; one that used none counts as nothing.
_COST = """r.cost + (
    SELECT CASE WHEN max(t.cost IS NULL AND t.tokens_input + t.tokens_output > 0) THEN NULL
    ELSE coalesce(sum(t.cost), 0) END FROM attempts t WHERE t.item = r.id
)"""
WHERE: dict[str, str] = {
    "all": "1",
    "done": "r.success = 1",
    "failed": "r.success = 0",
    "pending": "r.id IS NULL",
}


def columns(preview: int | None = None) -> str:
    """What `result_of` reads; with `preview` only so many characters of each text."""
    prompt, answer, error = "i.text", "a.text", "a.error"
    if preview is not None:
        # As bytes: SQLite ends a text at its first NUL. Up to four of them are one character.
        prompt, answer, error = (
            f"substr(CAST({text} AS BLOB), 1, {4 * preview:d})" for text in (prompt, answer, error)
        )
        prompt = f"coalesce({prompt}, '')"  # what it makes of no bytes is NULL
    extras = "a.extra, i.extra, i.columns" if preview is None else "NULL, NULL, NULL"
    return (
        f"i.id, {prompt}, coalesce({answer}, ''), coalesce(r.tokens_input, 0), coalesce(r.tokens_output, 0),"
        f" coalesce(r.duration, 0), r.success, {error}, r.error_class, coalesce(r.attempts, 0), {extras},"
        f" m.name, {_COST}, coalesce(r.tokens_cached, 0), coalesce(r.tokens_reasoning, 0), coalesce(r.units, 1),"
        " g.name, i.reason"
    )


def result_of(row: Sequence[Any], preview: int | None = None) -> BatchResult:
    """A result from one row of `columns(preview)`; raises ValueError or TypeError where the row is damaged."""
    if preview is not None:
        row = [v.decode("utf-8", "ignore")[:preview] if isinstance(v, bytes) else v for v in row]
    extra = load_json(row[11]) if row[11] else {}
    if not (isinstance(row[1], str) and isinstance(row[2], str)):
        raise TypeError(f"the text of item {row[0]} is not a text")
    return BatchResult(
        prompt_index=row[0],
        prompt=row[1],
        response_text=row[2],
        tokens_input=int(row[3]),
        tokens_output=int(row[4]),
        duration=float(row[5]),
        success=bool(row[6]),
        error_message=row[7],
        error_class=row[8],
        attempts=int(row[9]),
        extra=load_json(row[10]) if row[10] else None,
        custom_id=extra.get("custom_id") if isinstance(extra, dict) else None,
        endpoint=extra.get("endpoint") if isinstance(extra, dict) else None,
        columns=load_json(row[12]) if row[12] else None,
        model=row[13],
        cost=None if row[14] is None else int(row[14]),
        tokens_cached=int(row[15]),
        tokens_reasoning=int(row[16]),
        units=int(row[17]),
        meant_for=row[18],
        meant_why=row[19],
    )
