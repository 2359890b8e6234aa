"""Memory a model may take on this machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # version 2, as a container sees it
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
