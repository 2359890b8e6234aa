"""Rows into a table by the thousand in one statement.

Python's `executemany` gives up the interpreter's lock and takes it back for every row, so that beside a busy thread it
waits the interpreter's switching time (5 ms) for each. A statement of many rows does so once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain

LARGEST = 512  # rows of a statement; a power of two. The program of a longer one does not stay in a processor's cache
MOST_TEXT = 2**22  # characters of a statement, which SQLite copies; rows of longer texts come in smaller groups


def insert(
    connection: sqlite3.Connection,
    table: str,
    rows: Sequence[Sequence[object]],
    conflict: str = "",
    *,
    shared: tuple[object, ...] = (),
    characters: int = 0,
) -> None:
    """Insert rows, all of one width. `table` is the statement's text up to VALUES, `conflict` what follows the rows.

    `shared` are the last values of each row, where they are the same in all: they are handed over once a statement.
    `characters` is about how many there are in all of the rows.
    """
    if not rows:
        return
    width = len(rows[0])
    most = min(LARGEST, (connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) - len(shared)) // width)
    if characters > MOST_TEXT:
        most = min(most, len(rows) * MOST_TEXT // characters)
    most = max(1, most)
    start = 0
    while left := len(rows) - start:
        count = 1 << (min(left, most).bit_length() - 1)  # powers of two: few statements, and each is compiled once
        part = rows[start : start + count]
        sql = _statement(table, width, count, conflict, len(shared))
        connection.execute(sql, (*shared, *chain.from_iterable(part)))
        start += count


@cache
def _statement(table: str, width: int, count: int, conflict: str, shared: int) -> str:
    same = [f"?{number}" for number in range(1, shared + 1)]
    first = [f"?{number}" for number in range(shared + 1, shared + 1 + width)]  # and from there on each has the next
    rows = [first + same, *[["?"] * width + same] * (count - 1)]
    values = ",".join(["(" + ",".join(row) + ")" for row in rows])
    return f"{table} VALUES {values} {conflict}"
