"""An item with its result as one row: the columns that are read, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import orjson

from batch.job import BatchResult

Kind = Literal["all", "done", "failed", "pending"]

FROM = "FROM items i LEFT JOIN results r ON r.id = i.id LEFT JOIN answers a ON a.id = i.id"
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
    extras = "a.extra, i.extra" if preview is None else "NULL, NULL"
    return (
        f"i.id, {prompt}, coalesce({answer}, ''), coalesce(r.tokens_input, 0), coalesce(r.tokens_output, 0),"
        f" coalesce(r.duration, 0), r.success, {error}, r.error_class, coalesce(r.attempts, 0), {extras}"
    )


def result_of(row: Sequence[Any], preview: int | None = None) -> BatchResult:
    """A result from one row of `columns(preview)`; raises ValueError or TypeError where the row is damaged."""
    if preview is not None:
        row = [v.decode("utf-8", "ignore")[:preview] if isinstance(v, bytes) else v for v in row]
    extra = orjson.loads(row[11]) if row[11] else {}
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
        extra=orjson.loads(row[10]) if row[10] else None,
        custom_id=extra.get("custom_id") if isinstance(extra, dict) else None,
        endpoint=extra.get("endpoint") if isinstance(extra, dict) else None,
    )
