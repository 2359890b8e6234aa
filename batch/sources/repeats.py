"""Which keys come more than once, however many there are: they are kept and sorted on disk, not in memory."""

from __future__ import annotations

import sqlite3
from hashlib import blake2b

_AT_ONCE = 4096
_WHOLE = 64  # characters up to which a key is kept as it is
_SETTINGS = (
    "journal_mode=OFF",  # nothing is ever rolled back
    "synchronous=OFF",
    "locking_mode=EXCLUSIVE",
    "temp_store=FILE",  # what is sorted, too
    "cache_size=-8192",  # KiB of memory, for the keys and again for sorting them
)


class Repeats:
    """Keys and the positions they stand at, in a temporary file of SQLite's: some 40 bytes of disk for each.

    Short keys are compared as they are, longer ones by 128 bits of BLAKE2b, of which no two texts are known to have the
    same. Texts of two `sort`s are never equal. Belongs to one thread; nothing is opened before the first few thousand.
    """

    def __init__(self) -> None:
        self.lost: str | None = None  # why keys could not be kept; `found` knows of none then
        self._waiting: list[tuple[str | bytes, int]] = []
        self._kept: sqlite3.Connection | None = None

    def add(self, text: str, position: int, sort: bytes = b"") -> None:
        """Note where a key stands; each position is after the one before. `sort` has at most 16 bytes."""
        if sort or len(text) > _WHOLE or not text.isascii():
            data = text.encode("utf-8", "surrogatepass")
            self._waiting.append((blake2b(data, digest_size=16, person=sort).digest(), position))
        else:
            self._waiting.append((text, position))
        if len(self._waiting) >= _AT_ONCE:
            self._keep()

    def found(self, limit: int) -> tuple[int, list[tuple[int, int]]]:
        """How many keys repeat an earlier one, and of the first few (where it stood first, where it stands again).

        Nothing can be added any more.
        """
        self._keep()
        if self._kept is None or self.lost:
            return 0, []
        count, pairs = 0, list[tuple[int, int]]()
        before: object = None
        first = 0
        try:
            for key, position in self._kept.execute("SELECT key, position FROM kept ORDER BY key, position"):
                if key != before:
                    before, first = key, position
                    continue
                count += 1
                pairs.append((first, position))
                if len(pairs) > 2 * limit + _AT_ONCE:
                    pairs = _earliest(pairs, limit)
        except sqlite3.Error as error:
            self.lost = str(error)
            return 0, []
        finally:
            self.close()
        return count, _earliest(pairs, limit)

    def close(self) -> None:
        """Let go of the file."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _keep(self) -> None:
        if self.lost is None:
            try:
                if self._kept is None:
                    self._kept = _opened()
                self._kept.executemany("INSERT INTO kept VALUES (?, ?)", self._waiting)
            except sqlite3.Error as error:  # the disk is full, as a rule
                self.lost = str(error)
                self.close()
        self._waiting.clear()


def _opened() -> sqlite3.Connection:
    """An empty table in a file that has no name, is in memory while it is small, and goes away with the connection."""
    connection = sqlite3.connect("", isolation_level=None)
    for setting in _SETTINGS:
        connection.execute(f"PRAGMA {setting}")
    connection.execute("CREATE TABLE kept (key, position INTEGER)")
    connection.execute("BEGIN")
    return connection


def _earliest(pairs: list[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """Those that stand again first."""
    return sorted(pairs, key=lambda pair: pair[1])[:limit]
