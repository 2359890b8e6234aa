"""A settings file with other values: only the lines of what changes are touched, comments and order stay."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any


def edited(text: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The YAML text with these values at its top level.

    A key that is there and in no `values` gets its default, as what is said about it and what follows it would go with
    it. Raises ValueError where the text holds no keys and values.
    """
    import yaml
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    editor = YAML()
    editor.allow_duplicate_keys = True
    editor.preserve_quotes = True
    editor.width = 4096
    try:
        held = editor.load(text)
        plain = yaml.safe_load(text)
    except (YAMLError, yaml.YAMLError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    if not isinstance(held, dict) or not isinstance(plain, dict):
        raise ValueError("it holds no keys and values")
    for name in plain:
        if name not in values and name in defaults and plain[name] != defaults[name]:
            held[name] = _quoted(defaults[name])
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(plain.get(name), dict):
            for key in [key for key in held[name] if str(key) not in value]:
                del held[name][key]
            for key, inner in value.items():
                if plain[name].get(key) != inner:
                    held[name][key] = _quoted(inner)
        elif name not in plain or plain[name] != value:
            held[name] = _quoted(value)
    out = StringIO()
    editor.dump(held, out)
    return out.getvalue()


def _quoted(value: Any) -> Any:
    """A text in quotes where a reader of YAML 1.1 would take it for something else."""
    import yaml
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    if isinstance(value, Mapping):
        return {str(_quoted(key)): _quoted(inner) for key, inner in value.items()}
    if not isinstance(value, str):
        return value
    try:
        same = yaml.safe_load(value) == value
    except yaml.YAMLError:
        same = False
    return value if same else DoubleQuotedScalarString(value)
