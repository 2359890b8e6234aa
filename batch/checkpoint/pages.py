"""A page of items that are nothing but texts, read in one step.

Python's sqlite3 gives up the interpreter's lock and takes it back for every row that it reads, which beside a thread
that writes costs more than the reading. Here SQLite makes one value of the whole page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from batch.errors import CheckpointError

LARGEST = 2**20  # bytes of a page. Of longer texts it is the texts that take time, and here they are held twice

_SOME = """
SELECT count(*), CAST(json_group_array(text) AS BLOB), sum(typeof(text) <> 'text')
FROM (SELECT text FROM items WHERE id IN ({}) ORDER BY id)
"""
_PAGE = """
SELECT count(*), CAST(json_group_array(text) AS BLOB), sum(typeof(text) <> 'text' OR extra IS NOT NULL
    OR model IS NOT NULL OR reason IS NOT NULL OR columns IS NOT NULL)
FROM (SELECT * FROM items WHERE id BETWEEN ? AND ? ORDER BY id)
"""


class TextPages:
    """Reads pages with `rows`, which runs a query, until one of a kind is not for it: then those come row by row."""

    def __init__(self, rows: Callable[[str, Sequence[Any]], list[Any]]) -> None:
        self._rows = rows
        self._unfit: set[str] = set()  # kinds of pages

    def read(self, first: int, last: int) -> list[str] | None:
        """The texts of the items from `first` to `last`; None where they are to be read row by row."""
        return self._read("all", _PAGE, (first, last), last - first + 1)

    def read_some(self, ids: Sequence[int]) -> list[str] | None:
        """The texts of a few hundred items, by ascending ids, each of them once, whatever else these have."""
        return self._read("some", _SOME.format(",".join("?" * len(ids))), ids, len(ids))

    def _read(self, kind: str, query: str, parameters: Sequence[Any], wanted: int) -> list[str] | None:
        if kind in self._unfit:
            return None
        try:
            count, page, others = self._rows(query, parameters)[0]
            texts = orjson.loads(page) if count == wanted and not others else None
            fit = texts is not None and len(page) <= LARGEST
        except (CheckpointError, ValueError):  # damage, of which reading by row says what it is; or SQLite without JSON
            fit, texts = False, None
        if not fit:
            self._unfit.add(kind)
        return texts
