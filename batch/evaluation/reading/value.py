"""The JSON value that an answer is, alone or in a fence, and its parts as texts that can be compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from batch.evaluation.normalise import Normalisation

_OPENS = re.compile(r"[ \t]*(?:>[ \t]?)?(`{3,}|~{3,})[ \t]*([^\s`{\[]*)[ \t]*(.*)")
_JSON_TAGS = ("json", "jsonc", "json5", "jsonl", "application/json")


def json_in(text: str) -> Any:
    """The JSON value a text is, or the one in its last fenced block that holds one; blocks tagged json come first.

    Numbers with a point or an exponent are Decimal. Raises ValueError where there is none.
    """
    text = text.lstrip("\ufeff")
    try:
        return loads(text)
    except ValueError as error:
        untagged: list[Any] = []
        tagged: list[Any] = []
        for tag, block in _blocks(text):
            try:
                (tagged if tag.lower() in _JSON_TAGS else untagged).append(loads(block))
            except ValueError:
                continue
        if found := tagged or untagged:
            return found[-1]
        raise error


def loads(text: str) -> Any:
    """A JSON text as a value, floats as Decimal. Raises ValueError, also for NaN and what is nested too deeply."""
    try:
        return json.loads(text, parse_constant=_refused, parse_float=_decimal)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def fields_of(value: Any, normalise: Normalisation) -> dict[tuple[str | int, ...], str]:
    """The leaves of a JSON value by their path, each as JSON text; what field accuracy compares."""
    found: dict[tuple[str | int, ...], str] = {}
    left: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while left:
        path, item = left.pop()
        if isinstance(item, (dict, list)) and item:
            inside = item.items() if isinstance(item, dict) else enumerate(item)
            left += [((*path, key), part) for key, part in inside]
            continue
        if isinstance(item, str):
            item = normalise(item)
        found[path] = _number(Decimal(repr(item)) if isinstance(item, float) else item)
    return found


def _number(item: Any) -> str:
    """A leaf as text; numbers are the same however they are written: 1, 1.0 and 10e-1."""
    if not isinstance(item, Decimal):
        return json.dumps(item, ensure_ascii=False)
    sign, digits, exponent = item.as_tuple()
    assert isinstance(exponent, int)  # NaN and Infinity are refused when they are read
    plain = "".join(map(str, digits)).lstrip("0")
    bare = plain.rstrip("0")
    exponent += len(plain) - len(bare)
    if not bare:
        return "0"
    text = "-" * sign + bare
    # As whole numbers are written; one with thousands of zeros stays short.
    return text + "0" * exponent if 0 <= exponent <= 4_300 else f"{text}e{exponent}"


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text[:40]} is no number that can be read") from None


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a text with their tags; one that is not closed goes to the end."""
    fence = tag = ""
    block: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        bare = line.strip().removeprefix(">").strip()
        if fence:
            if bare.startswith(fence) and not bare.strip(fence[0]):
                yield tag, "\n".join(block)
                fence = ""
            else:
                block.append(line)
        elif opened := _OPENS.match(line):
            mark, tag, rest = opened.groups()
            if (end := rest.rfind(mark)) >= 0:
                yield tag, rest[:end]  # all on one line
            else:
                fence, block = mark, [rest]
    if fence:
        yield tag, "\n".join(block)
