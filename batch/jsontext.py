"""JSON as it is kept: what is written here is read back here, numbers exactly.

orjson is some ten times as fast as the standard library and serves nearly all; but it writes NaN and Infinity as null,
refuses integers of more than 64 bits and reads them as floats. A text that holds such begins with a space, so that
its reader knows.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence, Set
from datetime import date, datetime, time
from enum import Enum
from typing import Any

import orjson

_EXACT = " "  # before a text of the standard library
_SPACED = '": '  # only the standard library writes a space there; format 1 kept its texts without a mark


def clean(text: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate becomes U+FFFD."""
    if text.isascii():  # known without a look at the text
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def dump_json(value: Any) -> str | None:
    """JSON text that `load_json` reads, or None for nothing (an empty value).

    Keys become texts, lone surrogates U+FFFD, times ISO 8601, objects that JSON does not know their text. Raises
    ValueError for what holds itself, is nested too deep, or has an integer of more digits than Python reads.
    """
    if not value:
        return None
    try:
        data = orjson.dumps(value)
        if b"null" not in data:  # what it writes for NaN and Infinity too
            return data.decode()
    except (TypeError, RecursionError):  # big integers, lone surrogates, keys that are no texts, unknown objects
        pass
    try:
        return _EXACT + json.dumps(plain(value), ensure_ascii=False)
    except RecursionError:
        raise ValueError("nested too deep, or within itself") from None


def load_json(text: str) -> Any:
    """What `dump_json` was given, as plain JSON values. Raises ValueError for what is no JSON."""
    if text.startswith(_EXACT) or _SPACED in text:
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError("nested too deep") from None
    return orjson.loads(text)


def plain(value: Any) -> Any:
    """The same in dicts, lists, texts, numbers, booleans and None."""
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean(str(value))
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | Set) and not isinstance(value, bytes | bytearray | memoryview):
        return [plain(item) for item in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return clean(str(value))


def _key(key: Any) -> str:
    """A key as JSON has it: `true` and `null` for True and None, an Enum by its value."""
    if isinstance(key, Enum):
        key = key.value
    if key is None or isinstance(key, bool):
        return json.dumps(key)
    return clean(str(key))
