"""Finding a text among the items of a job: all texts read quickly, and an index beside the store for large ones.

The index holds, for each of 65,536 hashes of three and of four characters, which blocks of items they occur in: a few
dozen megabytes for a million items. It only says where nothing need be looked for; what stands in a block is always
read. Three alone would say little of numbers: 991 ends one in a thousand.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import mul
from pathlib import Path

from batch.checkpoint.rows import WHERE, Part
from batch.checkpoint.store import CheckpointStore

SUFFIX = ".find"
WORTH = 50_000  # items from which on an index is
HASHES = 1 << 16
BLOCK, MOST_BLOCKS = 256, 8192
_HEAD = 256  # bytes before the hashes
_FORMAT = 2
# Odd, of large primes: the high bits of the sum are mixed well.
_FACTORS = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F)
_RUNS = (3, 4)  # characters of which there is a hash

Texts = tuple[int, str, str, str]  # id, prompt, answer, error


def texts_between(store: CheckpointStore, part: Part, start: int, stop: int) -> list[Texts]:
    """The texts of a part's items with ids from `start` to before `stop`, in order; empty where there are none."""
    return [
        tuple(row) for row in store.rows(f"{_select(part)} AND i.id >= ? AND i.id < ? ORDER BY i.id", (start, stop))
    ]


def texts_of(store: CheckpointStore, ids: Sequence[int]) -> list[Texts]:
    """The texts of some items, in the order of the ids given; up to a few hundred."""
    marks = ",".join("?" * len(ids))
    found = {row[0]: tuple(row) for row in store.rows(f"{_select('all')} AND i.id IN ({marks})", list(ids))}
    return [found[item] for item in ids if item in found]


def _select(part: Part) -> str:
    results = "" if part == "all" else "LEFT JOIN results r ON r.id = i.id "
    return (
        "SELECT i.id, i.text, coalesce(a.text, ''), coalesce(a.error, '') FROM items i "
        f"{results}LEFT JOIN answers a ON a.id = i.id WHERE {WHERE[part]}"
    )


def index_path(checkpoint: Path) -> Path:
    """Where the index of a checkpoint stands."""
    return checkpoint.with_suffix(SUFFIX)


@dataclass(frozen=True, slots=True)
class TextIndex:
    """An index that is as old as its checkpoint: blocks of so many items each."""

    path: Path
    block: int
    blocks: int

    def candidates(self, words: Sequence[str]) -> Sequence[int] | None:
        """The blocks in which all of some casefolded texts may stand, in order; None where it cannot say."""
        hashes = {one for word in words for one in hashes_of(word)}
        if not hashes:
            return None
        wide = _width(self.blocks)
        there = (1 << 8 * wide) - 1
        try:
            with self.path.open("rb") as file:
                for one in hashes:
                    file.seek(_HEAD + one * wide)
                    there &= int.from_bytes(file.read(wide), "little")
        except OSError:
            return None
        return array("i", (at for at in range(self.blocks) if there >> at & 1)) if there else ()


def hashes_of(word: str) -> list[int]:
    """The hashes of a text's runs of three and of four characters; none of a shorter one."""
    codes = [ord(character) for character in word]
    runs = (codes[at : at + run] for run in _RUNS for at in range(len(codes) - run + 1))
    return [(sum(map(mul, run, _FACTORS)) & 0xFFFFFFFF) >> 16 for run in runs]


def open_index(checkpoint: Path) -> TextIndex | None:
    """The index of a checkpoint, where there is one and nothing was written since."""
    path = index_path(checkpoint)
    try:
        with path.open("rb") as file:
            head = json.loads(file.read(_HEAD))
        if head["format"] != _FORMAT or head["mark"] != mark_of(checkpoint):
            return None
        index = TextIndex(path, int(head["block"]), int(head["blocks"]))
        whole = index.block > 0 and path.stat().st_size == _HEAD + HASHES * _width(index.blocks)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return index if whole else None


def build_index(checkpoint: Path, stopped: Callable[[], bool] = lambda: False) -> bool:
    """Write the index of a checkpoint; False where it was stopped, cannot be written, or numpy is missing.

    Takes some ten seconds a million items. Raises CheckpointError where the checkpoint cannot be read.
    """
    try:
        import numpy as np
    except ImportError:
        return False
    mark = mark_of(checkpoint)
    with CheckpointStore(checkpoint) as store:
        total = store.job().total_prompts
        block = max(BLOCK, -(-total // MOST_BLOCKS))
        blocks = -(-total // block)
        made = np.zeros((HASHES, _width(blocks)), np.uint8)
        seen = np.zeros(HASHES, bool)
        for at in range(blocks):
            if stopped():
                return False
            rows = texts_between(store, "all", at * block, (at + 1) * block)
            text = "\n".join(part for row in rows for part in row[1:]).casefold()
            codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
            seen[:] = False
            mixed = codes * np.uint32(_FACTORS[0])
            for at_in_run in range(1, max(_RUNS)):
                mixed = mixed[:-1] + codes[at_in_run:] * np.uint32(_FACTORS[at_in_run])
                if at_in_run + 1 in _RUNS:
                    seen[mixed >> np.uint32(16)] = True
            made[seen, at >> 3] |= 1 << (at & 7)
    head = json.dumps({"format": _FORMAT, "mark": mark, "block": block, "blocks": blocks}).encode().ljust(_HEAD)
    return mark == mark_of(checkpoint) and _write(index_path(checkpoint), [head, made.tobytes()])


def _write(path: Path, parts: Sequence[bytes]) -> bool:
    from batch.errors import ExportError
    from batch.export.atomic import atomic_file

    try:
        with atomic_file(path) as file:
            for part in parts:
                file.write(part)
    except (ExportError, OSError):  # a full or read-only disk: it is found without an index, more slowly
        return False
    return True


def mark_of(checkpoint: Path) -> list[int]:
    """What changes when a checkpoint does: length and time of the file and of its log."""
    found: list[int] = []
    for name in (checkpoint, f"{checkpoint}-wal"):
        try:
            status = os.stat(name)
            # Who only reads may leave an empty log.
            found += [status.st_mtime_ns, status.st_size] if status.st_size else [0, 0]
        except OSError:
            found += [0, 0]
    return found


def _width(blocks: int) -> int:
    return -(-blocks // 8)


def pages(store: CheckpointStore, part: Part, total: int, index: Sequence[int] | None, block: int,
          page: int) -> Iterator[tuple[int, list[Texts]]]:  # fmt: skip
    """All texts of a part in order, a page at a time, each with how far in the job it ends.

    With an `index`, only those of its blocks of so many items each.
    """
    if index is None:
        for start in range(0, total, page):
            yield min(total, start + page), texts_between(store, part, start, start + page)
        return
    for at in index:
        yield min(total, (at + 1) * block), texts_between(store, part, at * block, (at + 1) * block)
