"""A model's folder, as every engine that loads one looks at it: its config, its weights; libraries kept off the net."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from batch.errors import FatalError

NEEDS_CODE = "the model needs code of its own, which is never run"
NO_TEMPLATE = "no chat template: it continues the text of a prompt"


def read_config(folder: Path, weights: Iterable[str], what: str) -> dict[str, Any]:
    """config.json of a folder that has weights (by patterns; `what` names them). Raises FatalError."""
    if not folder.is_dir():
        raise FatalError(f"{folder}: there is no such model folder")
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError:
        raise FatalError(f"{folder}: not a model folder, it has no config.json") from None
    except (OSError, ValueError) as error:
        raise FatalError(f"{folder}: config.json cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise FatalError(f"{folder}: config.json does not hold an object")
    if not any(next(folder.glob(pattern), None) for pattern in weights):
        raise FatalError(f"{folder}: no weights{what}")
    return config


def stay_offline() -> None:
    """Before transformers is imported: it is to fetch nothing and say nothing."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
