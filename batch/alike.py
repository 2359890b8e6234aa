"""Messages that say the same of different things: "prompt 7 is too long" and "prompt 8 is too long" are one kind."""

from __future__ import annotations

import re
from collections.abc import Iterable

# A number or an id in a message. A code behind a bracket, as in `refused the request (400)`, or behind its name says
# what happened; digits within a word, as in gpt4, belong to it.
_VARYING = re.compile(
    r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F-]{22,}\b|\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{16,}\b"
    r"|(?<![\w(.-])(?<!HTTP )(?<!status )(?<!code )\d+(?:[.,:]\d+)*\b"
)
OTHERS = "…"  # stands where the messages of a kind differ


class Alike:
    """Counts texts that differ in nothing but numbers and ids as one. Counts may be read while another thread adds."""

    def __init__(self, counts: Iterable[tuple[str, int]] = ()) -> None:
        self._kinds: dict[tuple[str, ...], tuple[tuple[str, ...], int]] = {}  # what is fixed: what varies, how many
        for text, number in counts:
            self.add(text, number)

    def add(self, text: str, number: int = 1) -> None:
        """Count a text so many times."""
        fixed, varying = tuple(_VARYING.split(text)), tuple(_VARYING.findall(text))
        before, many = self._kinds.get(fixed, (varying, 0))
        if before != varying:
            varying = tuple(one if one == other else OTHERS for one, other in zip(before, varying, strict=True))
        self._kinds[fixed] = varying, many + number

    def most_common(self, limit: int | None = None) -> list[tuple[str, int]]:
        """The kinds, most first, each as its texts have it, with `…` for what differs among them."""
        kinds = sorted(self._kinds.copy().items(), key=lambda kind: -kind[1][1])
        return [(_text(fixed, varying), number) for fixed, (varying, number) in kinds[:limit]]


def _text(fixed: tuple[str, ...], varying: tuple[str, ...]) -> str:
    return "".join(part for pair in zip(fixed, (*varying, ""), strict=True) for part in pair)
