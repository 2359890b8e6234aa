"""Weights that are stored in fewer bits: what can run them, where this engine cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

READ = ("mxfp4",)  # transformers widens these by itself while it loads


def check_quantised(config: Mapping[str, Any]) -> str:
    """Why a model of this config.json cannot run here, as a clause; "" where it can."""
    given = config.get("quantization_config") or config.get("compression_config") or {}
    method = str(given.get("quant_method") or "") if isinstance(given, dict) else ""
    if not method and isinstance(config.get("quantization"), dict):
        bits = config["quantization"].get("bits", "few")
        return f"MLX wrote it, in {bits} bits: it runs with `engine: mlx`, not with torch"
    if method and method not in READ:
        return (
            f"its weights are stored as {method}, which the torch engine cannot run; take the model's original weights "
            "(precision: int8 or int4 makes them small here), or ask a server that runs it"
        )
    return ""
