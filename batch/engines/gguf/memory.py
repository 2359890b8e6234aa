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
        return _half_of_all()
    with contextlib.suppress(OSError, ValueError):  # what meminfo does not know; "max" where there is none
        most, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, max(most - used, 0))
    return free


def _half_of_all() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return UNKNOWN
