"""How a model itself wants its tokens picked: what it is asked with where nobody says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batch.engines.gguf.header import GgufHeader
from batch.engines.places import read_config
from batch.options import OptionError, SamplingOptions, build_options

FILE = "generation_config.json"  # in a model's folder, or beside a GGUF file
_SAMPLED = ("temperature", "top_p", "top_k", "min_p")
# Of `general.sampling.` in a GGUF file; and of Ollama's parameters.
_GGUF = {"temp": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p"}
_GGUF |= {"penalty_repeat": "repetition_penalty"}
_KEYS = frozenset(f"general.sampling.{key}" for key in _GGUF)
_OLLAMA = {name: name for name in (*_SAMPLED, "seed", "stop")} | {"repeat_penalty": "repetition_penalty"}


def own_sampling(place: Path, header: GgufHeader | None = None) -> dict[str, Any]:
    """A model's own defaults of sampling, by its header and then by its generation_config.json; {} where it has none.

    Penalties of a generation config are the engine's to honour, and not among them.
    """
    said: dict[str, Any] = {}
    if header is not None:
        prefix = "general.sampling."
        said = {_GGUF[key.removeprefix(prefix)]: value for key, value in header.values.items() if key in _KEYS}
    config, why = read_config((place if place.is_dir() else place.parent) / FILE)
    if not why and config.get("do_sample") is True:
        said = {"temperature": 1.0, **{key: config[key] for key in _SAMPLED if config.get(key) is not None}, **said}
    return sound(said)


def of_ollama(params: Mapping[str, Any], system: str) -> dict[str, Any]:
    """What Ollama has beside a model's weights: parameters and a system prompt."""
    said = {_OLLAMA[key]: value for key, value in params.items() if key in _OLLAMA}
    return sound({**said, **({"system": system} if system.strip() else {})})


def sound(said: Mapping[str, Any]) -> dict[str, Any]:
    """What of it can be asked for at all: each by itself, so that one mistake in a model's files spoils nothing."""
    found: dict[str, Any] = {}
    for key, value in said.items():
        rounded = round(value, 6) if isinstance(value, float) else value  # a file has halves of a double
        try:
            build_options(SamplingOptions, {key: rounded})
        except OptionError:
            continue
        found[key] = rounded
    return found
