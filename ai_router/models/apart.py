"""`models.yaml` read entry by entry where it cannot be read whole: a mistake in YAML spoils the entry it stands in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batch.yamlfile import YamlError, YamlMap, as_mapping, parse_yaml, read_text

MODELS = "models"
MOST = 500  # parts of a file that are read by themselves
_KEY = re.compile(r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<plain>[^\s#'"\[\]{},][^#]*?))\s*:(?:\s|$)""")


@dataclass(frozen=True, slots=True)
class Spoiled:
    """A section, or an entry of the models, that is no YAML; `why` names file and line."""

    name: str
    line: int
    why: str
    is_model: bool


def read_apart(file: Path) -> tuple[YamlMap, list[Spoiled]]:
    """All of a file that can be read, and what cannot. Raises YamlError where that is all, and FileNotFoundError."""
    text = read_text(file, what="list of models")
    try:
        return as_mapping(parse_yaml(text, str(file)), str(file)), []
    except YamlError as error:
        lines = text.splitlines()
        parts = list(_parts(lines))
        if not any(part.is_model for part in parts) or len(parts) > MOST:
            raise
        whole = error
    # Each is read with what was sound before it, so that lines, anchors and names used twice are what they are.
    sound, spoiled = [""] * len(lines), list[Spoiled]()
    data = YamlMap()
    for part in parts:
        tried = [*sound[: part.first], *lines[part.first : part.last]]
        try:
            data = as_mapping(parse_yaml("\n".join(tried), str(file)), str(file))
        except YamlError as error:
            spoiled.append(Spoiled(part.name, part.first + 1, str(error), part.is_model))
        else:
            sound[part.first : part.last] = lines[part.first : part.last]
    if not spoiled:  # it is wrong in a way that its parts are not
        raise whole
    return data, spoiled


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    first: int
    last: int
    is_model: bool


def _parts(lines: list[str]) -> Iterator[_Part]:
    """Sections, and the line `models:` and each entry below it, by how far their lines are indented."""
    starts: list[tuple[int, str, bool]] = []
    within, indent = False, 0
    for number, line in enumerate(lines):
        deep = len(line) - len(line.lstrip(" "))
        if not line.strip() or line.lstrip().startswith("#") or line.lstrip(" ").startswith("\t"):
            continue
        if deep == 0:
            name = _name(line)
            within, indent = name == MODELS and line.split("#")[0].rstrip().endswith(":"), 0
            starts.append((number, name, False))
        elif within and (not indent or deep <= indent):
            indent = indent or deep
            starts.append((number, _name(line), True))
    for (first, name, is_model), (last, _, _) in zip(starts, [*starts[1:], (len(lines), "", False)], strict=True):
        yield _Part(name or f"line {first + 1}", first, last, is_model)


def _name(line: str) -> str:
    found = _KEY.match(line)
    return next((text for text in found.groups() if text is not None), "") if found else ""
