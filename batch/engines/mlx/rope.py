"""How positions are turned (RoPE): what config.json says, in the keys that mlx-lm's model files read.

transformers 5 writes `rope_parameters`; most of mlx-lm's files read `rope_theta` and `rope_scaling` beside them, and
take their own defaults where these are not there. What cannot be said in their keys is refused, and what a loaded model
computes with is held against transformers' own numbers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from batch.errors import FatalError

BASES = ("rope_theta", "rotary_emb_base")  # what mlx-lm's files call it
SHARES = ("partial_rotary_factor", "rotary_pct")
OTHER = "the torch engine can run it"


def translate(config: Mapping[str, Any], fields: Collection[str]) -> tuple[dict[str, Any], int | None]:
    """Keys to put into a language model's config, and the most tokens that they are right for (None: no limit).

    `fields` are what the model's file of mlx-lm reads. Raises FatalError for what it cannot be told.
    """
    said = config.get("rope_parameters") or {}
    if "rope_parameters" in fields and said:
        if any(isinstance(rope, Mapping) for rope in said.values()):
            return {}, None
        scaling, limit = _scaling(config, said)
        return {"rope_parameters": {**said, **(scaling or {"type": "default", "rope_type": "default"})}}, limit
    found: dict[str, Any] = {}
    layers = {kind: rope for kind, rope in said.items() if isinstance(rope, Mapping)}
    if layers:
        said = layers.get("full_attention") or next(iter(layers.values()))
        found = _local(config, layers, said, fields)
    base = said.get("rope_theta")
    if base is not None:
        _put(found, config, fields, BASES, base, "rope_theta")
    share = said.get("partial_rotary_factor")
    if share is not None:
        _put(found, config, fields, SHARES, share, "partial_rotary_factor", default=1.0)
    rope = said or config.get("rope_scaling")
    if not isinstance(rope, Mapping):
        return found, None
    scaling, limit = _scaling(config, rope)
    if scaling is not None and "rope_scaling" not in fields:
        raise FatalError(f"mlx-lm's {config.get('model_type')} knows no {scaling['rope_type']} RoPE; {OTHER}")
    if scaling != config.get("rope_scaling"):
        found["rope_scaling"] = scaling
    return found, limit


def _local(
    config: Mapping[str, Any], layers: Mapping[str, Any], full: Mapping[str, Any], fields: Collection[str]
) -> dict[str, Any]:
    """The keys for layers that see a window only, where those turn otherwise."""
    found: dict[str, Any] = {}
    for kind, rope in layers.items():
        if rope is full or rope == full:
            continue
        plain = rope.get("rope_type", "default") == "default"
        if kind == "sliding_attention" and plain and "rope_local_base_freq" in fields:
            found["rope_local_base_freq"] = rope.get("rope_theta")
        elif not plain or rope.get("rope_theta") != full.get("rope_theta"):
            raise FatalError(f"mlx-lm's {config.get('model_type')} knows one RoPE for all layers; {OTHER}")
    return found


def _put(
    found: dict[str, Any],
    config: Mapping[str, Any],
    fields: Collection[str],
    names: tuple[str, str],
    value: Any,
    what: str,
    default: Any = None,
) -> None:
    known = [name for name in names if name in fields]
    if not known and value != default and not any("rope" in field for field in fields):
        raise FatalError(f"mlx-lm's {config.get('model_type')} cannot be told its {what}; {OTHER}")
    for name in known:
        if config.get(name) is None:
            found[name] = value


def _scaling(config: Mapping[str, Any], rope: Mapping[str, Any]) -> tuple[dict[str, Any] | None, int | None]:
    """`rope_scaling` as mlx-lm reads it, and the most tokens it is right for."""
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    if kind == "su":
        kind = "longrope"
    scaling = {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}
    scaling |= {"type": kind, "rope_type": kind}
    longest = config.get("max_position_embeddings")
    original = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    if kind == "default":
        return (scaling if "mrope_section" in rope else None), None
    if kind == "mrope" or kind in ("linear", "llama3"):
        return scaling, None
    if kind == "dynamic" and "alpha" not in rope:  # differs only beyond the length that is the limit anyway
        return None, longest
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = original or longest
        _check_yarn(rope)
        return scaling, None
    if kind == "longrope":
        # mlx-lm has the long factors only. Within the first length the short ones are right, and beyond it neither is:
        # a chat that crosses it needs the long ones from its first token on.
        if not original or not longest:
            raise FatalError(f"longrope without original_max_position_embeddings; {OTHER}")
        scaling |= {"long_factor": rope["short_factor"], "original_max_position_embeddings": original}
        _check_factor(
            rope, math.sqrt(1 + math.log(longest / original) / math.log(original)) if longest > original else 1
        )
        return scaling, int(original)
    if kind in ("deepseek_yarn", "telechat3-yarn", "proportional", "dynamic") or "rope_parameters" not in config:
        return scaling, None  # of a model's own file
    raise FatalError(f"mlx-lm knows no {kind} RoPE; {OTHER}")


def _check_yarn(rope: Mapping[str, Any]) -> None:
    if rope.get("truncate") is False:
        raise FatalError(f"mlx-lm knows no YaRN without truncation; {OTHER}")
    if "mscale" not in rope and "mscale_all_dim" not in rope:
        _check_factor(rope, 0.1 * math.log(rope["factor"]) + 1 if rope["factor"] > 1 else 1)


def _check_factor(rope: Mapping[str, Any], ours: float) -> None:
    given = rope.get("attention_factor")
    if given is not None and not math.isclose(given, ours, rel_tol=1e-3):
        raise FatalError(f"mlx-lm cannot be told RoPE's attention_factor {given}; {OTHER}")


def check(model: Any, config: Any) -> None:
    """Hold the angles that a loaded model turns by against those of transformers' config; raises FatalError.

    Modules of other sizes than the config's heads, and of kinds that a model's file has for itself, are left alone.
    """
    expected = list(_expected(config))
    for name, module in model.named_modules():
        found = _angles(module)
        if found is None:
            continue
        alike = [one for one in expected if len(one[0]) == len(found[0])]
        if alike and not any(_near(found, one) for one in alike):
            raise FatalError(f"mlx-lm turns positions otherwise than config.json says ({name}); {OTHER}")


def _expected(config: Any) -> list[tuple[list[float], float]]:
    """Inverse frequencies and the factor on them, of each kind of layer."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    said = getattr(config, "rope_parameters", None) or {}
    kinds = [kind for kind, rope in said.items() if isinstance(rope, Mapping)] or [None]
    found = []
    for kind in kinds:
        rope = said[kind] if kind else said
        if "rope_theta" not in rope:
            continue
        how = rope.get("rope_type", "default")
        if how in ("default", "mrope"):
            head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
            size = int(head * rope.get("partial_rotary_factor", 1.0))
            found.append(([rope["rope_theta"] ** (-2 * i / size) for i in range(size // 2)], 1.0))
        elif how in ROPE_INIT_FUNCTIONS:
            angles, factor = ROPE_INIT_FUNCTIONS[how](config, "cpu", **({"layer_type": kind} if kind else {}))
            found.append((angles.tolist(), float(factor)))
    return found


def _angles(module: Any) -> tuple[list[float], float] | None:
    """What a module of mlx or of mlx-lm turns by; None for other modules."""
    import mlx.nn as nn
    from mlx_lm.models import rope_utils

    if isinstance(module, nn.RoPE):
        size = module.dims
        return [module.scale * module.base ** (-2 * i / size) for i in range(size // 2)], 1.0
    for kind, factor in (("Llama3RoPE", None), ("YarnRoPE", "mscale"), ("SuScaledRoPE", "_scale")):
        known = getattr(rope_utils, kind, None)
        if known is not None and isinstance(module, known):
            return (1 / module._freqs).tolist(), float(getattr(module, factor) if factor else 1.0)
    return None


def _near(a: tuple[list[float], float], b: tuple[list[float], float]) -> bool:
    pairs = zip(a[0], b[0], strict=True)
    return math.isclose(a[1], b[1], rel_tol=1e-3) and all(math.isclose(x, y, rel_tol=2e-3) for x, y in pairs)


def read_by(config: Mapping[str, Any], classes: Any) -> set[str]:
    """What mlx-lm's file for a model reads of its config; its usual keys where that is not known."""
    import dataclasses

    try:
        _, arguments = classes(config)
        return {field.name for field in dataclasses.fields(arguments)}
    except Exception:  # no such model, which loading says, or one within another's file
        return {"rope_theta", "rope_scaling"}
