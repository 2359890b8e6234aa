"""What a generation_config.json may ask for, and what of it is honoured; knows nothing of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from batch.engines.places import open_file

# Each with the value at which it does nothing; None is that for all of them.
HONOURED: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "sequence_bias": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "min_length": 0,
    "min_new_tokens": None,
    "exponential_decay_length_penalty": None,
    "remove_invalid_values": False,
}
NOT_HONOURED: dict[str, Any] = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "guidance_scale": 1.0,
    "penalty_alpha": None,
    "dola_layers": None,
    "watermarking_config": None,
    "stop_strings": None,
    "constraints": None,
    "force_words_ids": None,
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}
GENERATION = "generation_config.json"
SAMPLING = ("temperature", "top_p", "top_k", "min_p")


def asks(config: Any, name: str, nothing: Any) -> bool:
    """Whether a generation config has an entry that does something."""
    value = getattr(config, name, None)
    return value is not None and value != nothing and value != [] and value != {}


def said(config: Any, names: list[str]) -> str:
    """Entries of a generation config in words."""
    found = {name: getattr(config, name) for name in names}
    shown = {name: value if isinstance(value, (int, float, str)) else "" for name, value in found.items()}
    return ", ".join(f"{name} {value}".strip() for name, value in shown.items())


def sampled(config: Any) -> list[str]:
    """What is to be said of a model that asks for sampling."""
    if not getattr(config, "do_sample", False):
        return []
    values = [name for name in SAMPLING if getattr(config, name, None) is not None]
    shown = f" ({said(config, values)})" if values else ""
    return [f"the model asks for sampling{shown}; at temperature 0 answers are greedy"]


def sampled_in_gguf(values: Mapping[str, Any]) -> list[str]:
    """What is to be said of a GGUF file whose header asks for sampling (`general.sampling.temp`, `.top_k` …)."""
    prefix = "general.sampling."
    found = {key.removeprefix(prefix): value for key, value in sorted(values.items()) if key.startswith(prefix)}
    shown = [f"{name} {value:g}" for name, value in found.items() if isinstance(value, int | float)]
    asked = f" ({', '.join(shown)})" if shown else ""
    return [f"the file asks for sampling{asked}; at temperature 0 answers are greedy"] if found else []


def generation_of(folder: Path) -> SimpleNamespace:
    """What the generation_config.json of a folder, or beside a GGUF file, says; nothing where it cannot be read."""
    try:
        with open_file(folder / GENERATION) as file:
            found = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        found = None
    return SimpleNamespace(**found) if isinstance(found, dict) else SimpleNamespace()


def penalty_alone(folder: Path) -> tuple[float, list[str]]:
    """For an engine that does the repetition penalty and nothing else: the model's own, and what is to be said."""
    config = generation_of(folder)
    asked = [name for name, nothing in {**HONOURED, **NOT_HONOURED}.items() if asks(config, name, nothing)]
    found = getattr(config, "repetition_penalty", None)
    number = float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) and found > 0 else 1.0
    notes = [f"as the model asks: repetition_penalty {found}"] if number != 1 else []
    if lost := [name for name in asked if number == 1 or name != "repetition_penalty"]:
        notes.append(f"not done though the model asks: {said(config, lost)}")
    return number, notes + sampled(config)
