"""A model's folder, as every engine that loads one looks at it: its config, its weights; libraries kept off the net."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from batch.engines.places import open_file
from batch.errors import FatalError

NEEDS_CODE = "the model needs code of its own, which is never run"
NOT_CAUSAL = "not a causal language model"
# In the names of classes that continue a text; the last kind may take pictures beside it.
_CAUSAL = ("CausalLM", "LMHead", "DoubleHeads", "GenerationDecoder", "ForConditionalGeneration")
NO_TEMPLATE = "no chat template: it continues the text of a prompt"


def read_config(folder: Path, weights: Iterable[str], what: str) -> dict[str, Any]:
    """config.json of a folder that has weights (by patterns; `what` names them). Raises FatalError."""
    if not folder.is_dir():
        raise FatalError(f"{folder}: there is no such model folder")
    try:
        with open_file(folder / "config.json") as file:
            config = json.loads(file.read())
    except FileNotFoundError:
        raise FatalError(f"{folder}: not a model folder, it has no config.json") from None
    except (OSError, ValueError) as error:
        raise FatalError(f"{folder}: config.json cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise FatalError(f"{folder}: config.json does not hold an object")
    if not any(next(folder.glob(pattern), None) for pattern in weights):
        raise FatalError(f"{folder}: no weights{what}")
    return config


def not_causal(config: Mapping[str, Any]) -> str:
    """Why a model of this config.json continues no text by itself, as a clause; "" where it may.

    An encoder, a classifier or the decoder of a translator would load as a language model, and answer nonsense.
    """
    named = config.get("architectures") or []
    names = [one for one in named if isinstance(one, str)] if isinstance(named, list) else []
    kind = names[0] if names else str(config.get("model_type") or "a translator")
    if config.get("is_encoder_decoder") is True:
        return f"{NOT_CAUSAL}, but an encoder with a decoder ({kind})"
    if names and not any(part in one for one in names for part in _CAUSAL):
        return f"{NOT_CAUSAL} ({kind})"
    return ""


def stay_offline() -> None:
    """Before transformers is imported: it is to fetch nothing and say nothing."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
