"""Lists written as text."""

from __future__ import annotations


def words(text: str) -> tuple[str, ...]:
    """What stands between white space."""
    return tuple(text.split())


def lines(text: str) -> tuple[str, ...]:
    """The lines of a text."""
    return tuple(text.split("\n"))


def items(text: str) -> tuple[str, ...]:
    """What stands between bars or line ends."""
    return tuple(text.replace("\n", "|").split("|"))
