"""Memory that is taken from the system as it is written to, in large pages where it has them."""

from __future__ import annotations

import contextlib
import ctypes
import mmap

import torch

LARGE_PAGE = 2 * 2**20  # bytes


class Mapped:
    """So many bytes, zeros at first: `bytes`, uint8, from where a large page may begin. Raises MemoryError.

    `large`: whether large pages are asked for, which a part of a page that is never written to is as well. Private, as
    Linux gives none of those to shared memory, which Python asks for by itself.
    """

    def __init__(self, size: int, *, large: bool) -> None:
        try:
            self._memory = mmap.mmap(-1, size + LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(f"no memory for {size:,} bytes: {error}") from None
        # Neighbours become one mapping, so a small one could be given a large page too.
        if large and size >= LARGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without them
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._begin = -ctypes.addressof(ctypes.c_char.from_buffer(self._memory)) % LARGE_PAGE
        self.bytes = torch.frombuffer(self._memory, dtype=torch.uint8, count=size, offset=self._begin)

    def move_to(self, other: Mapped, count: int) -> None:
        """The first bytes to another; what was copied is let go, so that no more than a large page is there twice."""
        for first in range(0, count, LARGE_PAGE):
            last = min(first + LARGE_PAGE, count)
            other.bytes[first:last] = self.bytes[first:last]
            if hasattr(mmap, "MADV_DONTNEED") and last - first == LARGE_PAGE:
                self._memory.madvise(mmap.MADV_DONTNEED, self._begin + first, LARGE_PAGE)
