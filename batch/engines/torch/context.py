"""How many tokens a model takes, prompt and answer together, as its config has it."""

from __future__ import annotations

from typing import Any

# Kinds of rotary embeddings whose factor may stand beside a `max_position_embeddings` that knows nothing of it.
STRETCHED = ("yarn", "dynamic", "longrope")


def context_of(config: Any) -> int | None:
    """The most tokens; None where the config names no limit.

    YaRN, dynamic NTK and LongRoPE reach `factor` times what the model was first trained for (Peng 2023, Ding 2024).
    Configs write either that or the stretched length into `max_position_embeddings`: the larger one is meant.
    """
    written = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    parts = [part for part in rope.values() if isinstance(part, dict)] or [rope]
    reached = [written] if isinstance(written, int) else []
    for part in parts:
        factor = part.get("factor")
        first = part.get("original_max_position_embeddings")
        first = first or getattr(config, "original_max_position_embeddings", None) or written
        kind = part.get("rope_type") or part.get("type")
        if kind in STRETCHED and isinstance(factor, (int, float)) and isinstance(first, int):
            reached.append(int(factor * first))
    return max(reached, default=None)
