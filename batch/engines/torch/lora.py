"""LoRA adapters, merged into a model's weights as it loads: mlx-lm's format and PEFT's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batch.errors import FatalError

# Where each format keeps its weights; both keep their settings in adapter_config.json.
FILES = ("adapters.safetensors", "adapter_model.safetensors")
# mlx-lm: model.layers.0.self_attn.q_proj.lora_a [in, rank], lora_b [rank, out]
# PEFT:   base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight [rank, in], lora_B.weight [out, rank]
NAME = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.(?P<part>lora_[abAB])(?:\.default)?(?:\.weight)?$")


def merge_adapter(model: Any, folder: Path) -> str:
    """Add scale · B · A to the weights it names; returns a line about it. A fault is a FatalError of one sentence."""
    from safetensors.torch import load_file

    config = read_config(folder)
    path = next((folder / name for name in FILES if (folder / name).exists()), None)
    if path is None:
        raise FatalError(f"{folder}: no weights, neither {FILES[0]} nor {FILES[1]}")
    try:
        weights = load_file(path)
    except Exception as error:  # safetensors and the system each raise their own
        raise FatalError(f"{path}: the adapter's weights cannot be read: {error}") from error
    pairs = pairs_of(folder, weights)
    modules = dict(model.named_modules())
    ranks: set[int] = set()
    for name, parts in pairs.items():
        target = modules.get(name)
        if target is None or getattr(target, "weight", None) is None or target.weight.dim() != 2:
            raise FatalError(f"{folder}: the adapter changes {name}, which the model has no matrix for")
        ranks.add(_merge(folder, config, name, target.weight, parts))
    return f"LoRA rank {'/'.join(map(str, sorted(ranks)))} on {len(pairs)} matrices"


def pairs_of(folder: Path, weights: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """An adapter's tensors by the module they belong to, and by which half they are ("lora_A", …)."""
    pairs: dict[str, dict[str, Any]] = {}
    for name, tensor in weights.items():
        found = NAME.match(name)
        if found is None:
            raise FatalError(f"{folder}: the tensor {name} is no part of a LoRA")
        pairs.setdefault(found["module"], {})[found["part"]] = tensor
    if not pairs:
        raise FatalError(f"{folder}: the adapter has no tensors")
    return pairs


def read_config(folder: Path) -> dict[str, Any]:
    """An adapter's settings; raises FatalError for what is no LoRA."""
    if not folder.is_dir():
        raise FatalError(f"{folder}: there is no such adapter folder")
    try:
        config = json.loads((folder / "adapter_config.json").read_bytes())
    except FileNotFoundError:
        raise FatalError(f"{folder}: not an adapter folder, it has no adapter_config.json") from None
    except (OSError, ValueError) as error:
        raise FatalError(f"{folder}: adapter_config.json cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise FatalError(f"{folder}: adapter_config.json does not hold an object")
    kind = str(config.get("fine_tune_type") or config.get("peft_type") or "lora").lower()
    if kind != "lora" or config.get("use_dora"):
        raise FatalError(f"{folder}: this is a {'dora' if kind == 'lora' else kind} adapter; only lora can be merged")
    return config


def _merge(folder: Path, config: dict[str, Any], name: str, weight: Any, parts: dict[str, Any]) -> int:
    """Merge one pair; its rank."""
    if set(parts) == {"lora_a", "lora_b"}:
        down, up = parts["lora_a"].float().T, parts["lora_b"].float().T
    elif set(parts) == {"lora_A", "lora_B"}:
        down, up = parts["lora_A"].float(), parts["lora_B"].float()
    else:
        raise FatalError(f"{folder}: {name} needs both halves of its LoRA; there is only {', '.join(sorted(parts))}")
    given = (up.shape[0], down.shape[-1])
    if down.dim() != 2 or up.dim() != 2 or down.shape[0] != up.shape[1] or given != tuple(weight.shape):
        first, second = (tuple(part.shape) for _, part in sorted(parts.items()))
        raise FatalError(
            f"{folder}: the adapter's {name} has the shapes {first} and {second}, "
            f"which do not fit the model's {tuple(weight.shape)}"
        )
    change = (up @ down) * scale_of(folder, config, name, down.shape[0])
    weight.data += change.to(weight.dtype).to(weight.device)
    return int(down.shape[0])


def scale_of(folder: Path, config: dict[str, Any], name: str, rank: int) -> float:
    """mlx-lm states the scale, or alpha in old files; PEFT states alpha, over the rank or its root."""
    parameters = config.get("lora_parameters")
    try:
        if isinstance(parameters, dict):
            if "scale" in parameters:
                return float(parameters["scale"])
            return float(parameters.get("alpha", 20.0 * rank)) / rank
        # A pattern names modules by their ending.
        last = [v for key, v in (config.get("alpha_pattern") or {}).items() if re.search(rf"(^|\.){key}$", name)]
        alpha = float(last[0] if last else config.get("lora_alpha", rank))
        return alpha / (rank**0.5 if config.get("use_rslora") else rank)
    except (TypeError, ValueError) as error:
        raise FatalError(f"{folder}: the adapter's scale cannot be read: {error}") from None
