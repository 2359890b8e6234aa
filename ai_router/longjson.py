"""A JSON object that ends with a list too long to hold, in pieces that are together what `json.dumps` writes of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_END = "]\n}"


def beginning(head: Mapping[str, Any], key: str, *, ascii_only: bool = False) -> str:
    """What stands before the entries of the list; indented by two."""
    return json.dumps({**head, key: []}, indent=2, ensure_ascii=ascii_only, default=str).removesuffix(_END)


def entry(value: Any, *, first: bool, ascii_only: bool = False) -> str:
    """One of the entries, with what stands between it and the one before it."""
    text = json.dumps(value, indent=2, ensure_ascii=ascii_only, default=str)
    return ("\n    " if first else ",\n    ") + text.replace("\n", "\n    ")  # no text in JSON holds a line's end


def ending(*, empty: bool) -> str:
    """What stands after them."""
    return _END if empty else f"\n  {_END}"


def pieces(head: Mapping[str, Any], key: str, values: Iterable[Any], *, ascii_only: bool = False) -> Iterator[str]:
    """All of it, a value at a time."""
    yield beginning(head, key, ascii_only=ascii_only)
    first = True
    for value in values:
        yield entry(value, first=first, ascii_only=ascii_only)
        first = False
    yield ending(empty=first)
