"""The prompts of a job as a sequence that is never in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from batch.checkpoint import schema

PAGE = 512


class Prompts(Sequence[str]):
    """The texts of a checkpoint's items, read a page at a time; equals any sequence of the same texts."""

    def __init__(self, path: Path, total: int) -> None:
        self._path = path
        self._total = total
        self._connection: sqlite3.Connection | None = None
        self._start = 0
        self._page: list[str] = []

    def __len__(self) -> int:
        return self._total

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._total))]
        if index < 0:
            index += self._total
        if not 0 <= index < self._total:
            raise IndexError(index)
        if not self._start <= index < self._start + len(self._page):
            self._start = index - index % PAGE
            self._page = self._read(self._start, self._start + PAGE)
        return self._page[index - self._start]

    def _read(self, start: int, stop: int) -> list[str]:
        if self._connection is None:
            self._connection = schema.connect(self._path)
        sql = "SELECT text FROM items WHERE id >= ? AND id < ? ORDER BY id"
        try:
            rows = self._connection.execute(sql, (start, stop)).fetchall()
        except schema.FAULTS as error:
            raise schema.damaged(self._path, error) from error
        return [row[0] for row in rows]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{self._total} prompts in {self._path.name}>"
