"""Options declared as dataclass fields, as flags of a command line."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from batch.evaluation.options import EvaluationOptions
from batch.jobfile import ExportOptions, SourceOptions
from batch.notify import NotifyOptions
from batch.options import RunOptions, SamplingOptions, option_default, option_type, parse_option

# Where a flag is not called as its field is: a field has a section around it, a flag stands alone.
NAMES: Mapping[type, Mapping[str, str]] = {
    SourceOptions: {"format": "input-format"},
    ExportOptions: {"path": "output"},
    NotifyOptions: {
        "desktop": "osc9",
        "command": "notify-command",
        "when": "notify-when",
        "timeout": "notify-timeout",
    },
}
TITLES: Mapping[type, str] = {
    SourceOptions: "prompts",
    SamplingOptions: "sampling",
    RunOptions: "run",
    ExportOptions: "output",
    NotifyOptions: "notification when the job ends",
    EvaluationOptions: "scoring",
}


def add_flags(
    parser: argparse.ArgumentParser, cls: type, *, skip: Collection[str] = (), defaults: bool = True, title: str = ""
) -> argparse._ArgumentGroup:
    """A flag for every field of an options class, in a group of its own. Values are checked by `given`, not here.

    `defaults` says each option's default in its help; not where something else than the default holds.
    """
    group = parser.add_argument_group(title or TITLES[cls])
    for spec in fields(cls):
        if spec.name in skip:
            continue
        flag, kind = f"--{flag_name(cls, spec.name)}", option_type(cls, spec.name)
        default = option_default(spec)
        text = spec.metadata["help"]
        common: dict[str, Any] = {"dest": _dest(cls, spec.name), "default": argparse.SUPPRESS}
        if kind is bool:
            if default is True and defaults:
                text += " (the default)"
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=_escaped(text), **common)
            continue
        if defaults and default not in (None, []):
            text += f" (default {default})"
        if choices := spec.metadata["choices"]:
            metavar = "{" + ",".join(choices) + "}"
        else:
            metavar = spec.metadata["metavar"] or ("N" if kind is int else "X" if kind is float else "TEXT")
        action = "append" if kind is list else "store"
        group.add_argument(flag, action=action, metavar=metavar, help=_escaped(text), **common)
    return group


def given(args: argparse.Namespace, cls: type) -> dict[str, Any]:
    """The options that stand on the command line, checked; raises OptionError that names flag, value and range."""
    values = vars(args)
    return {
        spec.name: parse_option(cls, spec.name, values[_dest(cls, spec.name)])
        for spec in fields(cls)
        if _dest(cls, spec.name) in values
    }


def flag_name(cls: type, name: str) -> str:
    """What the flag of a field is called, without its hyphens."""
    return NAMES.get(cls, {}).get(name, name.replace("_", "-"))


def as_arguments(cls: type, values: Mapping[str, Any]) -> list[str]:
    """Options as the flags that say the same."""
    words: list[str] = []
    for name, value in values.items():
        flag = flag_name(cls, name)
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            words += [f"--{flag}={item}" for item in value]
        elif isinstance(value, dict):
            words.append(f"--{flag}={json.dumps(value, ensure_ascii=False)}")
        elif value is not None:
            # In one word, so that a value may begin with a hyphen.
            words.append(f"--{flag}={value}")
    return words


def _dest(cls: type, name: str) -> str:
    return f"{cls.__name__}.{name}"


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
