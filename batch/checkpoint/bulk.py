"""Rows into a table by the thousand in one statement.

Python's `executemany` gives up the interpreter's lock and takes it back for every row, so that beside a busy thread it
waits the interpreter's switching time (5 ms) for each. A statement of many rows does so once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain

LARGEST = 2048  # rows of a statement; a power of two
MOST_TEXT = 2**22  # characters of a statement, which SQLite copies; rows of longer texts come in smaller groups


def insert(
    connection: sqlite3.Connection,
    table: str,
    rows: Sequence[Sequence[object]],
    conflict: str = "",
    *,
    characters: int = 0,
) -> None:
    """Insert rows, all of one width. `table` is the statement's text up to VALUES, `conflict` what follows the rows.

    `characters` is about how many there are in all of them.
    """
    if not rows:
        return
    width = len(rows[0])
    most = min(LARGEST, connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // width)
    if characters > MOST_TEXT:
        most = min(most, len(rows) * MOST_TEXT // characters)
    most = max(1, most)
    start = 0
    while left := len(rows) - start:
        count = 1 << (min(left, most).bit_length() - 1)  # powers of two: few statements, and each is compiled once
        part = rows[start : start + count]
        connection.execute(_statement(table, width, count, conflict), tuple(chain.from_iterable(part)))
        start += count


@cache
def _statement(table: str, width: int, count: int, conflict: str) -> str:
    row = f"({','.join('?' * width)})"
    return f"{table} VALUES {','.join([row] * count)} {conflict}"
