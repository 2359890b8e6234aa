"""Batch templates: the configuration of a job as a YAML file that a person can read, change and run again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from batch.errors import BatchError
from batch.notify import NotifyOptions, check_options
from batch.options import OptionError, RunOptions, SamplingOptions, build_options, option, options_dict
from batch.sources.paths import user_path
from batch.yamlfile import YamlError, YamlMap, as_written, read_yaml, text_of, unknown_key

O = TypeVar("O")  # noqa: E741 - "O" for options

HEADER = "# A batch of ai-router. Paths are relative to this file; what is not here has its default.\n"


class JobFileError(BatchError):
    """A batch template cannot be used; the text names the file and the key or the line."""


@dataclass(slots=True)
class SourceOptions:
    """Where prompts come from."""

    path: str | None = option(None, "the prompts file, or - for standard input", metavar="PATH")
    format: str | None = option(
        None, "txt, json, jsonl, csv, tsv, parquet or arrow; the suffix decides without it", metavar="FORMAT"
    )
    column: str | None = option(None, "the column or key that holds the prompt", metavar="NAME")
    template: str | None = option(None, "a Jinja template over a table's columns that gives the prompt", metavar="FILE")
    per_row: list[str] = option(
        [],
        "a column that sets something for each row: a sampling option, model or id, as in max_tokens=limit "
        "(may be repeated)",
        metavar="NAME=COLUMN",
        advanced=True,
    )
    skip_invalid: bool = option(False, "leave out empty and malformed entries instead of refusing the file")


@dataclass(slots=True)
class ExportOptions:
    """Where answers go."""

    format: str | None = option(None, "json, csv, jsonl, openai or html", metavar="FORMAT")
    path: str | None = option(None, "the file to write when the job ends", metavar="PATH")
    clip: int | None = option(None, "cut the texts of a CSV to so many characters", minimum=1, metavar="N")
    inert_csv: bool = option(True, "put an apostrophe before CSV cells that look like a formula")
    stream: str | None = option(None, "also append each result to this JSONL file as it comes", metavar="PATH")
    merge: str | None = option(
        None,
        "write the table with the answers as new columns: .parquet, .arrow, .csv, .tsv or .jsonl",
        metavar="PATH",
    )
    merge_column: str = option(
        "answer_llm", "the answers' column in it; NAME_error and others go beside", metavar="NAME"
    )
    merge_field: str = option("{}_llm", "the columns that answers to a JSON schema spread into", metavar="PATTERN")


@dataclass(slots=True)
class JobFile:
    """A job's configuration. `folder` is where the file lies, for the relative paths in it."""

    name: str | None = None
    description: str | None = None
    model: str | None = None
    source: SourceOptions = field(default_factory=SourceOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    run: RunOptions = field(default_factory=RunOptions)
    export: ExportOptions = field(default_factory=ExportOptions)
    notify: NotifyOptions = field(default_factory=NotifyOptions)
    folder: Path | None = None

    def resolve(self, path: str) -> str:
        """A path of this file as one from here; "-" stays."""
        if path == "-" or self.folder is None:
            return path
        return str(self.folder / user_path(path))

    def as_dict(self) -> dict[str, Any]:
        """Only what differs from the defaults, as YAML and checkpoints have it."""
        values: dict[str, Any] = {key: getattr(self, key) for key in _TEXTS if getattr(self, key) is not None}
        for key in _SECTIONS:
            if section := options_dict(getattr(self, key)):
                values[key] = section
        return values


_TEXTS = ("name", "description", "model")
_MAPPINGS = ("json_schema", "slo")  # options that may be keys with values
_SECTIONS: Mapping[str, type] = {
    "source": SourceOptions,
    "sampling": SamplingOptions,
    "run": RunOptions,
    "export": ExportOptions,
    "notify": NotifyOptions,
}


def load_jobfile(path: Path | str) -> JobFile:
    """A batch template, every key and value checked. Raises JobFileError, and FileNotFoundError."""
    path = Path(path)
    try:
        data = read_yaml(path, what="batch file")
    except FileNotFoundError:
        raise FileNotFoundError(f"Batch file not found: {path}") from None
    except YamlError as error:
        raise JobFileError(str(error)) from None
    if data is None:
        raise JobFileError(f"{path} is empty")
    if not isinstance(data, YamlMap):
        raise JobFileError(f"{path} is not a list of keys with values")
    try:
        jobfile = jobfile_from(_with_schema(data, path.parent))
    except OptionError as error:
        raise JobFileError(f"{path}{_line_of(data, str(error))}: {error}") from None
    jobfile.folder = path.parent
    return jobfile


def jobfile_from(values: Mapping[str, Any]) -> JobFile:
    """A batch template from plain values. `source: FILE` is short for `source: {path: FILE}`. Raises OptionError."""
    _check_keys(values, (*_TEXTS, *_SECTIONS), "")
    parsed: dict[str, Any] = {}
    for key in _TEXTS:
        value = values.get(key)
        if isinstance(value, list | dict):
            raise OptionError(f"{key}: {value!r} is not a text")
        parsed[key] = text_of(values, key)
    for key, cls in _SECTIONS.items():
        parsed[key] = _section(key, cls, values.get(key))
    check_options(parsed["notify"])
    return JobFile(**parsed)


def save_jobfile(path: Path | str, jobfile: JobFile) -> None:
    """Write a batch template, whole or not at all; only what differs from the defaults. Raises ExportError."""
    from batch.export.atomic import atomic_file

    values = jobfile.as_dict()
    body = _dump(values) if values else "{}\n"
    # A webhook's address and a command's arguments may be secrets.
    with atomic_file(Path(path), private=bool(jobfile.notify.webhook or jobfile.notify.command)) as file:
        file.write((HEADER + body).encode("utf-8"))


def _line_of(data: YamlMap, problem: str) -> str:
    """Where the key stands that a problem begins with, as `, line N`."""
    said = problem.removeprefix("unknown key ").split(" ")[0].rstrip(":")
    section, _, key = said.partition(".")
    inner = data.get(section)
    line = inner.line_of(key) if key and isinstance(inner, YamlMap) else data.lines.get(section, 0)
    if key and isinstance(inner, YamlMap) and key not in inner:
        line = inner.line_of(key.replace("_", "-"))
    return f", line {line}" if line else ""


def _with_schema(values: YamlMap, folder: Path) -> YamlMap:
    """The values with the schema that a file beside this one holds read from there, not from where someone stands."""
    sampling = values.get("sampling")
    if isinstance(sampling, YamlMap):
        for key in ("json_schema", "json-schema"):
            named = sampling.get(key)
            if isinstance(named, str) and not named.lstrip().startswith("{"):
                sampling.put(key, str(folder / user_path(named)), sampling.line_of(key), None)
    return values


def _section(key: str, cls: type[O], value: Any) -> O:
    if key == "source" and isinstance(value, str):
        value = {"path": value}
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise OptionError(f"{key}: {value!r} is not a list of keys with values")
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    # Flags are written with hyphens, so a file may have them too.
    value = as_written({str(name): item for name, item in value.items()} if type(value) is dict else value, cls)
    _check_keys(value, names, f"{key}.")
    for name, item in value.items():
        default = getattr(cls(), name)
        if name not in _MAPPINGS and (
            isinstance(item, dict) or (isinstance(item, list) and not isinstance(default, list))
        ):
            raise OptionError(f"{key}.{name}: {item!r} is not one value")
        if isinstance(default, bool) and not isinstance(item, bool):
            raise OptionError(f"{key}.{name}: {item!r} is neither true nor false")
    try:
        return build_options(cls, value)
    except OptionError as error:
        raise OptionError(f"{key}.{error}") from None


def _check_keys(values: Mapping[Any, Any], known: Iterable[str], prefix: str) -> None:
    names = list(known)
    for key in values:
        if key not in names:
            raise OptionError(unknown_key(key, names, prefix))


def _dump(values: dict[str, Any]) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        # Left to itself, PyYAML writes U+0085 and its like in quotes that lose them; in double ones they are escaped.
        style = None
        if not value.isprintable():
            style = "|" if all(line.isprintable() for line in value.split("\n")) else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)

    Dumper.add_representer(str, text)
    return yaml.dump(values, Dumper=Dumper, allow_unicode=True, sort_keys=False, width=110)
