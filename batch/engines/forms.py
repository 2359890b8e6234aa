"""JSON written once for all that differ in nothing but a text or two."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import orjson

TEXT = "\ue000the text\ue001"  # of private use: where a text goes; one that is in there otherwise is seen
NAME = "\ue000the name\ue001"


class Form:
    """What stands around some texts in a JSON document that was written with marks in their places, in this order."""

    def __init__(self, written: bytes, *marks: str) -> None:
        self._written, self._marks = written, marks

    @cached_property
    def parts(self) -> Sequence[bytes] | None:
        """What stands before, between and after them; None where a mark is not there exactly once, in its place."""
        parts, rest = [], self._written
        for mark in self._marks:
            found = rest.split(inner(mark))
            if len(found) != 2:
                return None
            parts.append(found[0])
            rest = found[1]
        return [*parts, rest]


def inner(text: str) -> bytes:
    """A text as it stands between the quotation marks of JSON."""
    return orjson.dumps(text)[1:-1]
