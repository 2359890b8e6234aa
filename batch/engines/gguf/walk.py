"""Walking over the texts of an array in a GGUF header: a length of eight bytes, little-endian, then so many bytes each.

A vocabulary and its merges are three quarters of a million of them, which nobody needs to list a model. Python takes
0.2 s to go through their lengths; an expression that knows how each short text looks takes a quarter of that.
"""

from __future__ import annotations

import re
import struct
from functools import cache

BLOCK = 64  # texts that the expression takes at once, or none of them
WORTH = 4096  # texts from which on it is worth being compiled (5 ms)
_SPELT, _SHORT = 24, 128  # bytes of a text up to which it is spelt out, and up to which the expression knows it
_LENGTH = struct.Struct("<Q").unpack_from


def pass_texts(held: bytes, at: int, count: int) -> tuple[int, int]:
    """How many of `count` texts from `at` on lie whole in what is held, and where the last of those ends."""
    left, end = count, len(held)
    while left:
        if count >= WORTH and left >= BLOCK and (block := _block().match(held, at)):
            at, left = block.end(), left - BLOCK
            continue
        for _ in range(min(left, BLOCK)):
            if at + 8 > end:
                return count - left, at
            (length,) = _LENGTH(held, at)
            if at + 8 + length > end:
                return count - left, at
            at, left = at + 8 + length, left - 1
    return count, at


@cache
def _block() -> re.Pattern[bytes]:
    """BLOCK texts, each of fewer than _SHORT bytes; the first byte tells which of the ways it is, so none is undone."""
    zeros = rb"\x00" * 7
    texts = (b"." * size if size <= _SPELT else b".{%d}+" % size for size in range(1, _SHORT))
    ways = b"|".join(b"\\x%02x%b%b" % (size, zeros, text) for size, text in enumerate(texts, 1))
    return re.compile(b"(?s:%b){%d}+" % (ways, BLOCK))
