"""Memory a model may take on this machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # version 2, as a container sees it
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
PART, MOST_KEPT = 2**18, 2**25  # bytes from which on a piece of memory is one of its own; the second is glibc's most
UNKNOWN = 8 * 2**30  # systems that do not say it without a library


def available() -> int:
    """Bytes that can be taken without pushing others out, a container's limit counted."""
    try:
        with open("/proc/meminfo", "rb") as lines:
            line = next(line for line in lines if line.startswith(b"MemAvailable:"))
        free = int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return total() // 2
    with contextlib.suppress(OSError, ValueError):  # what meminfo does not know; "max" where there is none
        most, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, max(most - used, 0))
    return free


def total() -> int:
    """Bytes that there are at all, or a container's limit."""
    try:
        most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return UNKNOWN
    with contextlib.suppress(OSError, ValueError):
        most = min(most, int((CGROUP / "memory.max").read_text()))
    return most


@contextlib.contextmanager
def given_back() -> Iterator[None]:
    """While it lasts, and at its end, memory that is freed goes back to the system at once.

    glibc keeps much of it otherwise, by threads, which a model that is read in parts leaves full of holes. Afterwards
    it keeps as much as it would have come to by itself; other allocators are left alone.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(M_MMAP_THRESHOLD, PART)
    try:
        yield
    finally:
        libc.malloc_trim(0)
        libc.mallopt(M_MMAP_THRESHOLD, MOST_KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * MOST_KEPT)


def trim() -> None:
    """Give what was freed by now back to the system: glibc keeps it by threads, each of which leaves some unused."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    found = ctypes.CDLL(None)
    return found if hasattr(found, "gnu_get_libc_version") else None
