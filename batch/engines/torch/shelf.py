"""What earlier starts kept in the user's cache: packed weights, and tokenizers in a form that needs no transformers.

A cache is never the truth: an entry's name is made of all that it depends on (the model's files with size and time,
libraries, kernels, processor, this engine's own sources), its numbers have a sum that is looked at each time, and what
does not fit, or cannot be read, is as good as not there. Entries appear whole; the least used go where they are too
many. Nothing here needs torch, so that an entry is read while torch is imported.

An entry of weights is a folder: `index.json` (what the model is, and where each tensor lies) and `numbers` (those of
the packed products, then all others, each at a multiple of 64 bytes).
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import tempfile
import threading
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MOST_BYTES = 4 * 2**30  # of all entries together; one that is larger than half of it is not kept
STALE_SECONDS = 3600.0
CHUNK, CHUNK_OF_REST = 8 * 2**20, 2**16


class Entry:
    """An entry that was found: its numbers are read at once, beside whatever else the caller does until `numbers`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        read = json.loads((folder / "index.json").read_bytes())
        self.about: Mapping[str, Any] = read["index"]
        if read["sum"] != sum_of(self.about):
            raise ValueError("its index is not the one that was written")
        self._file = (folder / "numbers").open("rb")
        size = os.fstat(self._file.fileno()).st_size
        if size != self.about["size"] or not 0 < self.about["packed"] <= size:
            raise ValueError("it is not whole")
        # Read, and not mapped: large pages are quicker to look up in every step. Private, as Linux gives none of those
        # to shared memory, which Python asks for by itself.
        flags = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)
        self._packed = mmap.mmap(-1, self.about["packed"], **({"flags": flags} if flags else {}))
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without them
                self._packed.madvise(mmap.MADV_HUGEPAGE)
        self._sum = -1
        self._thread = threading.Thread(target=self._read, name="prepared", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        found, place = 0, memoryview(self._packed)
        with contextlib.suppress(OSError, ValueError):
            at = 0
            while at < len(place):
                count = self._file.readinto(place[at : at + CHUNK])
                if not count:
                    return
                found = zlib.crc32(place[at : at + count], found)
                at += count
            part = memoryview(bytearray(CHUNK_OF_REST))
            while count := self._file.readinto(part):
                found = zlib.crc32(part[:count], found)
            self._sum = found

    def numbers(self) -> tuple[mmap.mmap, mmap.mmap]:
        """Those of the packed products, in memory, and the whole file, mapped; ValueError where they are not sound."""
        # What is not packed is mapped: an embedding's rows are read as they are needed.
        whole = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._thread.join()
        if self._sum != self.about["sum"]:
            raise ValueError("its numbers are not those that were written")
        return self._packed, whole


def find(name: str) -> Entry | None:
    """The entry of that name; None where there is none, or it cannot be read now.

    One that is not sound at first sight is removed; one that a full table of files or memory keeps from being read is
    there the next time.
    """
    place = folder() if name else None
    entry = place / name if place else None
    if entry is None or not entry.is_dir():
        return None
    try:
        found = Entry(entry)
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        forget(name)
        return None
    except OSError:
        return None
    with contextlib.suppress(OSError):
        os.utime(entry)  # used: others go first
    return found


def forget(name: str) -> None:
    """Remove an entry that is not what it says."""
    if (place := folder()) is not None:
        shutil.rmtree(place / name, ignore_errors=True)


def sum_of(index: Mapping[str, Any]) -> int:
    """The sum of an index."""
    return zlib.crc32(json.dumps(index, sort_keys=True).encode())


def bound(place: Path) -> None:
    """Remove the entries that were used least lately, until the rest is small enough."""
    entries = sorted(
        (path for path in place.iterdir() if not path.name.startswith("tmp-")),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    total = 0
    for path in entries:
        total += sum(file.stat().st_size for file in path.iterdir())
        if total > MOST_BYTES:
            shutil.rmtree(path, ignore_errors=True)


def scratch(place: Path) -> Path:
    """A folder to write an entry in, which says who does."""
    return Path(tempfile.mkdtemp(prefix=f"tmp-{os.getpid()}-", dir=place))


def sweep(place: Path) -> None:
    """Remove what was left by those that were ended while they wrote."""
    for path in place.glob("tmp-*"):
        with contextlib.suppress(OSError):
            if _gone(path.name) or time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path)


def _gone(name: str) -> bool:
    """Whether the process that wrote there has ended, as far as that can be told."""
    number = name.split("-")[1]
    if os.name != "posix" or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # somebody else's
        return False
    return False


def folder() -> Path | None:
    """Where entries are kept; None where that cannot be, or where others could write."""
    import platformdirs

    try:
        place = platformdirs.user_cache_path("ai-router") / "weights"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.stat()
    except OSError:
        return None
    safe = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
    return place if safe else None
