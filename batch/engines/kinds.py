"""Which engine a model runs on where nobody says; imports nothing heavy."""

from __future__ import annotations

import importlib.util
import json
import platform
from pathlib import Path


def default_kind(folder: Path) -> str:
    """The kind of engine for a model's folder: mlx on Apple silicon, where it knows the model; torch elsewhere."""
    if (platform.system(), platform.machine()) != ("Darwin", "arm64"):
        return "torch"
    found = importlib.util.find_spec("mlx_lm")
    if found is None or not found.submodule_search_locations or not any(folder.glob("model*.safetensors")):
        return "torch"
    try:
        model_type = json.loads((folder / "config.json").read_bytes())["model_type"]
    except (OSError, ValueError, LookupError, TypeError):
        return "torch"
    # Looked up as a file: to ask the library for it would import the library.
    known = any((Path(place) / "models" / f"{model_type}.py").is_file() for place in found.submodule_search_locations)
    return "mlx" if known else "torch"
