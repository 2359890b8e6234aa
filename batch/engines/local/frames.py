"""Messages between a process and the engine it hosts: a length, then JSON."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import orjson

LENGTH = struct.Struct(">I")  # bytes of the JSON that follows, big-endian

Frame = dict[str, Any]


def encode(frame: Frame) -> bytes:
    """A frame as bytes; raises TypeError for what JSON cannot hold, such as half a surrogate pair."""
    body = orjson.dumps(frame)
    return LENGTH.pack(len(body)) + body


def read(stream: BinaryIO) -> Frame | None:
    """The next frame, None where the stream ends, within a frame too: the other side is gone."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    body = stream.read(size)
    if len(body) < size:
        return None
    frame: Frame = orjson.loads(body)
    return frame
