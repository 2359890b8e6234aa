"""The MLX engine's row in the table of engines; imports no mlx."""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path

from batch.engines.places import read_config
from batch.engines.registry import EngineOption, EngineRow
from batch.options import PRECISIONS, TRUNCATE


def suits(place: Path | str) -> bool:
    """On Apple silicon, where mlx-lm is installed and knows the model."""
    if isinstance(place, str) or (platform.system(), platform.machine()) != ("Darwin", "arm64"):
        return False
    found = importlib.util.find_spec("mlx_lm")
    if found is None or not found.submodule_search_locations or not any(place.glob("model*.safetensors")):
        return False
    model_type = read_config(place / "config.json")[0].get("model_type")
    if not isinstance(model_type, str) or not model_type.isidentifier():
        return False
    # Looked up as a file: to ask the library for it would import the library.
    return any((Path(root) / "models" / f"{model_type}.py").is_file() for root in found.submodule_search_locations)


ROW = EngineRow(
    "mlx",
    "local",
    "mlx-lm's models, on Apple silicon; quantised checkpoints of MLX",
    core="batch.engines.mlx.engine:open_core",
    extra="mlx",
    modules=("mlx_lm",),
    forms=("folder",),
    options={
        "precision": EngineOption("numbers the model computes in", choices=PRECISIONS),
        "truncate": EngineOption("the end at which a prompt that is too long is cut", choices=TRUNCATE),
        "cache_gb": EngineOption("most memory for keys and values, in GiB", float, minimum=0.001),
    },
    suits=suits,
)
