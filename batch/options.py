"""Every option of a run, declared once: CLI flags, form fields and YAML keys are made from these fields."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from batch.errors import BatchError
from batch.slo import parse_slo

O = TypeVar("O")  # noqa: E741 - "O" for options

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8", "int4")
KV_CACHE = ("auto", "int8")
TRUNCATE = ("never", "left", "right")
AS_MODEL = "model"  # the choice that leaves it to the model's entry in models.yaml


class OptionError(BatchError, ValueError):
    """An option has a value it cannot have; the text names the option, the value and what is allowed."""


def parse_cluster(value: object) -> str:
    """Where a cluster is: `auto`, `local`, `HOST:PORT` or `ray://HOST:PORT`; ValueError for what cannot be one."""
    text = str(value).strip()
    host, _, port = text.removeprefix("ray://").rpartition(":")
    known = text in ("auto", "local")
    if not known and not (host and port.isascii() and port.isdigit() and 0 < int(port[:9]) < 65536):
        raise ValueError(f"{text} is no cluster; say auto, local, HOST:PORT or ray://HOST:10001")
    return text


def nearest(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The name that somebody may have meant, or ""."""
    import difflib

    near = difflib.get_close_matches(str(name), list(known), 1, cutoff)
    return near[0] if near else ""


def option(
    default: Any,
    help: str,  # noqa: A002 - the field's usual word
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
    metavar: str = "",
    advanced: bool = False,
    parse: Callable[[Any], Any] | None = None,
) -> Any:
    """A dataclass field with its help, range and how it is shown (`advanced` ones fold away).

    `parse` reads a value that is more than a text or a number; it raises ValueError with what is wrong.
    """
    metadata = {
        "help": help,
        "minimum": minimum,
        "maximum": maximum,
        "choices": tuple(choices),
        "metavar": metavar,
        "advanced": advanced,
        "parse": parse,
    }
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def parse_schema(value: Any) -> dict[str, Any]:
    """A JSON schema as an object: given as one, as its JSON, or as the name of a file that holds it."""
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        try:
            value = Path(value).expanduser().read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError, ValueError, RuntimeError) as error:
            raise ValueError(f"cannot read {value}: {getattr(error, 'strerror', None) or error}") from None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("a schema is a JSON object")
    return value


@dataclass(slots=True)
class SamplingOptions:
    """How a model picks its next token. None means: as the model's own generation config says."""

    system: str | None = option(None, "system prompt put before every chat that has none", metavar="TEXT")
    max_tokens: int = option(256, "most tokens an answer may have", minimum=1, metavar="N")
    temperature: float = option(0.0, "0 picks the likeliest token, higher is more varied", minimum=0, maximum=2)
    top_p: float = option(1.0, "keep the smallest set of tokens with this much probability", minimum=0, maximum=1)
    top_k: int = option(0, "keep the K likeliest tokens; 0 keeps all", minimum=0, metavar="K", advanced=True)
    min_p: float = option(0.0, "drop tokens below this share of the likeliest one", minimum=0, maximum=1, advanced=True)
    repetition_penalty: float | None = option(
        None,
        "above 1 discourages tokens that were used already; 1 switches off what the model's own configuration asks for",
        minimum=0.01,
        maximum=10,
        advanced=True,
    )
    seed: int | None = option(None, "same seed, same answers at temperature above 0", minimum=0, metavar="N")
    stop: list[str] = option([], "end the answer before this text (may be repeated)", metavar="TEXT", advanced=True)
    json_schema: dict[str, Any] | None = option(
        None,
        "answers are JSON that fits this schema, a file or the schema itself",
        metavar="FILE",
        advanced=True,
        parse=parse_schema,
    )


@dataclass(slots=True)
class RunOptions:
    """How a job is run."""

    workers: int | None = option(
        None,
        "items in flight at once; without it as many as the engine has room for",
        minimum=1,
        maximum=100_000,
        metavar="N",
    )
    on_error: str = option(
        "continue",
        "continue | stop | threshold:N (stop after N failures; what is in flight is finished and counts)",
        metavar="STRATEGY",
    )
    retries: int = option(2, "further tries after a transient failure", minimum=0, maximum=100, metavar="N")
    timeout: float | None = option(None, "seconds one item may take", minimum=0.001, metavar="S", advanced=True)
    requests_per_minute: int | None = option(None, "rate limit, requests", minimum=1, metavar="N", advanced=True)
    tokens_per_minute: int | None = option(None, "rate limit, tokens", minimum=1, metavar="N", advanced=True)
    budget: float | None = option(
        None,
        "dollars that the job may cost in all; it stops, resumable, before it could pass them",
        minimum=0,
        metavar="DOLLARS",
    )
    reuse: str = option(
        "job",
        "answer equal requests at temperature 0 once: in this job, in all jobs of the workspace (jobs), or not at all",
        choices=("job", "jobs", "off"),
        advanced=True,
    )
    slo: list[str] = option(
        [],
        "service level to be reported as met or missed, as in p95_ms=500 (may be repeated)",
        metavar="NAME=N",
        advanced=True,
        parse=parse_slo,
    )
    lane: str = option(
        AS_MODEL,
        "of a provider's model: batch waits for half the price, now asks at once, auto asks at once for what is not "
        "there near the deadline; model: as models.yaml has it, else batch",
        choices=(AS_MODEL, "batch", "now", "auto"),
        advanced=True,
    )
    deadline: str | None = option(
        None, "with lane auto, when every answer has to be there, as in 6h", metavar="TIME", advanced=True
    )
    precision: str = option(
        AS_MODEL,
        "numbers a local model computes in; model: as models.yaml has it, else auto: as the hardware has it",
        choices=(AS_MODEL, *PRECISIONS),
        advanced=True,
    )
    truncate: str = option(
        AS_MODEL,
        "cut a prompt that a local model's context cannot hold at this end, instead of failing it; model: as "
        "models.yaml has it, else never",
        choices=(AS_MODEL, *TRUNCATE),
        advanced=True,
    )
    cluster: str | None = option(
        None,
        "run local models on a Ray cluster: auto (one that runs here), HOST:PORT, ray://HOST:10001, or local",
        metavar="ADDRESS",
        advanced=True,
        parse=parse_cluster,
    )
    ship_model: bool = option(
        False, "send the model's folder to the cluster's nodes, where they have no path in common", advanced=True
    )


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def option_type(cls: type, name: str) -> type:
    """The plain type of an option: int, float, str, bool, list or dict."""
    hint = _hints(cls)[name]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    kind: type = typing.get_origin(hint) or hint
    return kind


def option_default(spec: Field[Any]) -> Any:
    """The default of an option's field."""
    if spec.default_factory is not MISSING:
        return spec.default_factory()
    return spec.default


def parse_option(cls: type, name: str, value: Any) -> Any:
    """A value from a flag, a form or a file as the option's type, checked against its range."""
    spec = {f.name: f for f in fields(cls)}.get(name)
    if spec is None:
        raise OptionError(f"unknown option {name!r}; known: {', '.join(f.name for f in fields(cls))}")
    if value is None or (isinstance(value, str) and not value.strip() and spec.default is None):
        return option_default(spec)
    kind = option_type(cls, name)
    label = name.replace("_", "-")
    if read := spec.metadata["parse"]:
        try:
            return read(value)
        except ValueError as error:
            raise OptionError(f"{label}: {error}") from None
    if kind is list:
        return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]
    if isinstance(value, bool) and kind is not bool:
        raise OptionError(f"{label}: {value!r} is not {'a number' if kind in (int, float) else 'a text'}")
    try:
        parsed = kind(value)
        if kind is int and isinstance(value, float) and value != parsed:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise OptionError(f"{label}: {value!r} is not {'a whole number' if kind is int else 'a number'}") from None
    low, high, choices = (spec.metadata[k] for k in ("minimum", "maximum", "choices"))
    if low is not None and not parsed >= low:
        raise OptionError(f"{label}: {parsed} is below the least allowed, {low:g}")
    if high is not None and not parsed <= high:
        raise OptionError(f"{label}: {parsed} is above the most allowed, {high:g}")
    if choices and parsed not in choices:
        raise OptionError(f"{label}: {parsed!r} is none of {', '.join(choices)}")
    return parsed


def build_options(cls: type[O], values: Mapping[str, Any]) -> O:
    """An options object from plain values, each parsed and checked; unknown names are an error."""
    return cls(**{name: parse_option(cls, name, value) for name, value in values.items()})


def options_dict(options: Any) -> dict[str, Any]:
    """Only what differs from the defaults, for YAML and checkpoints."""
    return {f.name: getattr(options, f.name) for f in fields(options) if getattr(options, f.name) != option_default(f)}
