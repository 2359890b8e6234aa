"""YAML as people write it, read without surprises: the one reader of settings, models, templates and configurations.

Bare words mean what they say: only `true`, `false` and `null` (or nothing, or ~) are no texts, numbers are decimal (or
hexadecimal), and dates, `no`, `on`, `0777` and `12:30:00` are texts. Every key is a text, as it was written. What was
written as a number can be had as its text (`texts`), so that `name: 1.10` is "1.10"; where yes or no is meant,
`as_written` takes these words too. Mappings know the lines of their keys.

Size, depth and the number of values (aliases spelled out) are bounded. Whatever is wrong is a `YamlError` with file and
line; nothing else is raised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from batch.errors import BatchError
from batch.options import nearest, option_type

MAX_BYTES = 2 * 2**20
MAX_DEPTH = 50
MAX_VALUES = 100_000
MAX_DIGITS = 400
_CORE = "tag:yaml.org,2002:"
_TEXT, _NULL, _BOOL, _INT, _FLOAT, _MAP, _LIST = (
    _CORE + name for name in ("str", "null", "bool", "int", "float", "map", "seq")
)
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_HEX = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_REAL = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SURROGATE = re.compile(r"\\(?:u|U0000)[dD][89a-fA-F]")
_SPECIAL = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
_WORDS = {"yes": True, "on": True, "no": False, "off": False}  # where yes or no is meant
_TRUE, _FALSE, _EMPTY = ("true", "True", "TRUE"), ("false", "False", "FALSE"), ("", "~", "null", "Null", "NULL")


class YamlError(BatchError):
    """A YAML file cannot be used; the text names the file and, where there is one, the line."""


class YamlMap(dict[str, Any]):
    """A mapping that knows the line of each key, and how each single value was written."""

    def __init__(self) -> None:
        super().__init__()
        self.line = 0
        self.lines: dict[str, int] = {}
        self.texts: dict[str, str] = {}
        self.bare: set[str] = set()  # keys whose value is a word without quotes

    def put(self, key: str, value: Any, line: int, text: str | None, *, bare: bool = False) -> None:
        """Set a key, with its line and how it was written."""
        self[key], self.lines[key] = value, line
        if text is not None:
            self.texts[key] = text
        if bare:
            self.bare.add(key)

    def line_of(self, key: object) -> int:
        """The line of a key, else the mapping's own; counted from 1."""
        return self.lines.get(str(key), self.line)


class YamlList(list[Any]):
    """A list that knows how its single values were written."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[int, str] = {}


def read_yaml(path: Path, *, what: str = "file") -> Any:
    """What a file holds: `YamlMap`, `YamlList`, text, number, bool or None. Raises YamlError, and FileNotFoundError."""
    return parse_yaml(read_text(path, what=what), str(path))


def read_text(path: Path, *, what: str = "file") -> str:
    """The text of a file of YAML, in bounds. Raises YamlError, and FileNotFoundError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except IsADirectoryError:
        raise YamlError(f"{path} is a folder, not a {what}") from None
    except PermissionError:
        raise YamlError(f"No permission to read {path}") from None
    except (OSError, ValueError) as error:
        raise YamlError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise YamlError(f"{path} is longer than {MAX_BYTES >> 20} MiB, too long for a {what}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise YamlError(f"{path}, line {line}: not UTF-8") from None


def parse_yaml(text: str, name: str) -> Any:
    """What a text holds; `name` stands in errors. Raises YamlError alone."""
    import yaml

    try:
        if bad := yaml.reader.Reader.NON_PRINTABLE.search(text):
            line = text.count("\n", 0, bad.start()) + 1
            raise YamlError(f"{name}, line {line}: special characters are not allowed")
        return _Composer(text, name).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise YamlError(f"{name}{where}: {_one_line(error.problem or error.context or 'not YAML')}") from None
    except yaml.YAMLError as error:
        raise YamlError(f"{name}: {_one_line(error)}") from None
    except (ValueError, OverflowError, RecursionError, AttributeError, LookupError, TypeError) as error:
        raise YamlError(f"{name} is no usable YAML: {_one_line(error) or type(error).__name__}") from None


def as_mapping(value: Any, name: str, *, empty: bool = True) -> YamlMap:
    """The mapping a file holds; nothing at all is an empty one where that may be. Raises YamlError."""
    if value is None and empty:
        return YamlMap()
    if not isinstance(value, YamlMap):
        held = "nothing" if value is None else _called(value)
        raise YamlError(f"{name} must hold keys and values, not {held}")
    return value


def as_written(values: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """Values for an options class: where the option is a text, or a list of them, numbers as they were written."""
    names = {spec.name for spec in fields(cls)}
    written = values if isinstance(values, YamlMap) else YamlMap()
    made: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        kind = option_type(cls, name) if name in names else None
        if value is not None and kind in (str, list):
            value = written.texts.get(key, value)
        if kind is list and isinstance(value, YamlList):
            value = [value.texts.get(n, item) for n, item in enumerate(value)]
        if kind is bool and key in written.bare:
            value = _WORDS.get(str(value).lower(), value)
        made[name] = plain(value)
    return made


def plain(value: Any) -> Any:
    """The value as ordinary mappings and lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def text_of(values: Mapping[str, Any], key: str) -> str | None:
    """A single value as it was written, or None where there is none. Raises YamlError for a list or a mapping."""
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, dict | list):
        raise YamlError(f"{key}: {_called(value)}, where one text is meant")
    return values.texts.get(key, str(value)) if isinstance(values, YamlMap) else str(value)


def unknown_key(key: object, known: Iterable[str], prefix: str = "") -> str:
    """The sentence about a key that is not known, with the nearest one."""
    names = list(known)
    near = nearest(key, names)
    hint = f"did you mean {prefix}{near}?" if near else f"known: {', '.join(names)}"
    return f"unknown key {prefix}{key} ({hint})"


def _called(value: Any) -> str:
    if isinstance(value, dict):
        return "keys and values"
    return "a list" if isinstance(value, list) else f"the text {str(value)[:40]!r}"


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _events(text: str) -> Iterator[Any]:
    """What the parser meets, by libyaml where PyYAML has it; it does not recurse, so nothing can be too deep for it."""
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    if _SURROGATE.search(text):  # part of a name of a file that is not UTF-8; libyaml refuses it
        loader = yaml.BaseLoader
    events: Iterator[Any] = yaml.parse(text, Loader=loader)
    return events


@dataclass(frozen=True, slots=True)
class _Built:
    """A value, how it was written if it is a single one, how many values it is, how deep it goes."""

    value: Any
    text: str | None = None
    size: int = 1
    height: int = 0


class _Composer:
    """From events to values. An alias is the value itself once more, counted as if it were spelled out."""

    def __init__(self, text: str, name: str) -> None:
        self._events = _events(text)
        self._name = name
        self._anchors: dict[str, _Built | None] = {}  # None: not yet at its end
        self._count = 0

    def document(self) -> Any:
        """The only document; None where there is none."""
        import yaml

        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        built = self._value(next(self._events), 0)
        next(self._events)  # the document's end
        if not isinstance(event := next(self._events), yaml.StreamEndEvent):
            raise self._error(event, "another document begins, and one is meant")
        return built.value

    def _value(self, event: Any, depth: int) -> _Built:
        import yaml

        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        self._check(event, 1, depth)
        if event.anchor is not None:
            if event.anchor in self._anchors:
                raise self._error(event, f"the anchor &{event.anchor} stands here for the second time")
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            event.value = _paired(str(event.value))
            built = _Built(self._scalar(event), event.value)
        elif event.tag not in (None, "!", _MAP if isinstance(event, yaml.MappingStartEvent) else _LIST):
            raise self._error(event, f"could not determine a constructor for the tag {event.tag!r}")
        else:
            build = self._mapping if isinstance(event, yaml.MappingStartEvent) else self._list
            before = self._count
            value, height = build(event, depth)
            built = _Built(value, None, 1 + self._count - before, height + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = built
        return built

    def _alias(self, event: Any, depth: int) -> _Built:
        if event.anchor not in self._anchors:
            raise self._error(event, f"there is no anchor &{event.anchor} before this alias")
        built = self._anchors[event.anchor]
        if built is None:
            raise self._error(event, "an alias within what it stands for")
        self._check(event, built.size, depth + built.height)
        return built

    def _check(self, event: Any, size: int, depth: int) -> None:
        self._count += size
        if self._count > MAX_VALUES:
            raise self._error(event, f"more than {MAX_VALUES:,} values, aliases spelled out")
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested more than {MAX_DEPTH} deep")

    def _mapping(self, start: Any, depth: int) -> tuple[YamlMap, int]:
        import yaml

        made, merged, height = YamlMap(), list[YamlMap](), 0
        made.line = start.start_mark.line + 1
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            named = self._value(event, depth + 1)
            if named.text is None:
                raise self._error(event, "a key is a text, not a list or a mapping")
            key, item = named.text, next(self._events)
            built = self._value(item, depth + 1)
            height = max(height, built.height)
            if key == "<<" and _is_bare(event):
                merged += self._merged(built.value, item)
                continue
            if key in made:
                first = made.lines[key]
                raise self._error(event, f"the key {key!r} stands here for the second time (first in line {first})")
            made.put(key, built.value, event.start_mark.line + 1, built.text, bare=_is_bare(item))
        for other in merged:
            for key, value in other.items():
                if key not in made:
                    made.put(key, value, other.lines[key], other.texts.get(key), bare=key in other.bare)
        return made, height

    def _merged(self, value: Any, event: Any) -> list[YamlMap]:
        several = value if isinstance(value, YamlList) else [value]
        if not all(isinstance(one, YamlMap) for one in several):
            raise self._error(event, "<< takes a mapping, or a list of them")
        return list(several)

    def _list(self, start: Any, depth: int) -> tuple[YamlList, int]:
        import yaml

        made, height = YamlList(), 0
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            built = self._value(event, depth + 1)
            height = max(height, built.height)
            if built.text is not None:
                made.texts[len(made)] = built.text
            made.append(built.value)
        return made, height

    def _scalar(self, event: Any) -> Any:
        text, tag = str(event.value), event.tag
        if tag in (_TEXT, "!") or (tag is None and not event.implicit[0]):
            return text
        if len(text) > MAX_DIGITS and _is_number(text):
            raise self._error(event, f"a number of more than {MAX_DIGITS} digits")
        value = _plain(text)
        if tag is None:
            return value
        wanted = {_NULL: type(None), _BOOL: bool, _INT: int, _FLOAT: float}.get(tag)
        if wanted is None:
            raise self._error(event, f"could not determine a constructor for the tag {tag!r}")
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            raise self._error(event, f"{text[:40]!r} is no {tag.removeprefix(_CORE)}")
        return value

    def _error(self, event: Any, problem: str) -> YamlError:
        mark = event.start_mark
        return YamlError(f"{self._name}, line {mark.line + 1}, column {mark.column + 1}: {problem}")


def _paired(text: str) -> str:
    """JSON writes what lies beyond 16 bits as two surrogates; they are one character."""
    if not any("\ud800" <= c <= "\udfff" for c in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _is_bare(event: Any) -> bool:
    implicit = getattr(event, "implicit", False)
    return isinstance(implicit, tuple) and bool(implicit[0])


def _is_number(text: str) -> bool:
    return any(form.fullmatch(text) for form in (_DECIMAL, _HEX, _REAL))


def _plain(text: str) -> Any:
    """A plain word's value."""
    if text in _EMPTY:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 0)
    if _REAL.fullmatch(text):
        return float(text)
    if text.lower() in _SPECIAL:
        return float(_SPECIAL[text.lower()])
    return text
