"""An adapter's tensors by the module they belong to and by what they are; what is none of them is refused by feature.

mlx-lm   X.lora_a [in, rank], X.lora_b [rank, out], X.m [out]; X.weight where it was trained as a whole
PEFT     base_model.model.X.lora_A.weight [rank, in], .lora_B.weight [out, rank], .lora_B.bias [out],
         .lora_embedding_A [rank, vocabulary], .lora_embedding_B [width, rank], .lora_magnitude_vector [out],
         .token_adapter.trainable_tokens_delta [tokens, width]; .weight and .bias of what was trained as a whole
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batch.engines.adapters.settings import MERGED, Settings
from batch.errors import FatalError

PREFIX = "base_model.model."
ROWS = "rows"  # of an embedding, replaced
# The first that matches says what a tensor is; the name in front of it is the module.
PARTS: tuple[tuple[str, str], ...] = (
    (r"lora_A(\.default)?\.weight", "down"),
    (r"lora_B(\.default)?\.weight", "up"),
    (r"lora_B(\.default)?\.bias", "up_bias"),
    (r"lora_embedding_A(\.default)?", "down"),
    (r"lora_embedding_B(\.default)?", "up"),
    (r"lora_magnitude_vector(\.default)?(\.weight)?", "magnitude"),
    (r"(token_adapter\.)?trainable_tokens_delta(\.default)?", ROWS),
    (r"lora_a", "down_t"),
    (r"lora_b", "up_t"),
    (r"m", "magnitude"),
)
# Nothing to a forward pass: VeLoRA's projection of the backward pass, and the model's own beside what takes its place.
IDLE = re.compile(r"\.lora_velora_embed|\.original_module\.")
# Tensors of other kinds of adapters: refused by the name of the kind.
OTHERS: tuple[tuple[str, str], ...] = (
    (r"lora_E|ranknum", "AdaLoRA"),
    (r"lora_diag", "KaSA"),
    (r"lora_arrow|prototypes", "Arrow routing"),
    (r"monteclora", "MonteCLoRA"),
    (r"hada_w", "LoHa"),
    (r"lokr_w", "LoKr"),
    (r"ia3_l", "IA3"),
    (r"vera_", "VeRA"),
    (r"oft_|boft_", "OFT"),
    (r"prompt_embeddings|prompt_encoder", "prompt tuning"),
    (r"lora_", "a kind of LoRA that is not known here"),
)


@dataclass(slots=True)
class Tensors:
    """What is in an adapter's file."""

    # module -> part ("down" [rank, in], "up" [out, rank], "up_bias", "magnitude", "rows") -> tensor
    modules: dict[str, dict[str, Any]] = field(default_factory=dict)
    whole: dict[str, Any] = field(default_factory=dict)  # a parameter's name -> the tensor that takes its place
    shared: set[str] = field(default_factory=set)  # of `whole`: also for what is tied to it


def sort_tensors(settings: Settings, tensors: Mapping[str, Any]) -> Tensors:
    """Sort an adapter's tensors, whatever library they are of; raises FatalError for what cannot be applied."""
    found = sort_names(settings, tensors)
    for module, parts in found.modules.items():
        _check(settings, module, parts)
    return found


def sort_names(settings: Settings, tensors: Mapping[str, Any]) -> Tensors:
    """`sort_tensors` by names alone: nothing is said yet of parts that are missing or do not fit together."""
    found = Tensors()
    for name, tensor in tensors.items():
        _sort(settings, found, name.removeprefix(PREFIX), tensor)
    if not found.modules and not found.whole:
        raise FatalError(f"{settings.folder}: the adapter has no tensors")
    if settings.method == "full" and found.modules:
        raise FatalError(f"{settings.folder}: the adapter says that it holds whole weights, and holds LoRA's halves")
    return found


def _sort(settings: Settings, found: Tensors, name: str, tensor: Any) -> None:
    if IDLE.search(name):
        return
    for ending, part in PARTS:
        match = re.fullmatch(rf"(.+?)\.{ending}", name)
        if match:
            if part.endswith("_t"):
                part, tensor = part.removesuffix("_t"), tensor.T if len(tensor.shape) == 2 else tensor
            found.modules.setdefault(match[1], {})[part] = tensor
            return
    for sign, kind in OTHERS:
        if re.search(rf"(^|\.)({sign})", name):
            raise FatalError(
                f"{settings.folder}: the adapter holds tensors of {kind}, which cannot be applied; {MERGED}"
            )
    saved = re.fullmatch(r"(.+)\.modules_to_save(?:\.default)?\.([^.]+)", name)
    if saved:
        name = f"{saved[1]}.{saved[2]}"
    module, _, parameter = name.rpartition(".")
    found.whole[f"{module.removesuffix('.base_layer')}.{parameter}"] = tensor
    if saved is None and not settings.saves(module):
        found.shared.add(name.replace(".base_layer.", "."))


def _check(settings: Settings, module: str, parts: Mapping[str, Any]) -> None:
    folder = settings.folder
    if ROWS in parts:
        if len(parts) > 1:
            raise FatalError(f"{folder}: {module} has trained tokens and LoRA at once; that cannot be honoured")
        return
    if not {"down", "up"} <= parts.keys():
        there = ", ".join(sorted(parts))
        raise FatalError(f"{folder}: {module} needs both halves of its LoRA; there is only {there}")
    if any(len(parts[half].shape) != 2 for half in ("down", "up")):
        raise FatalError(
            f"{folder}: the adapter's {module} has the shapes {tuple(parts['down'].shape)} and "
            f"{tuple(parts['up'].shape)}; LoRA over experts or convolutions cannot be applied"
        )
    if ("magnitude" in parts) != (settings.method == "dora"):
        there = (
            "has no magnitudes" if settings.method == "dora" else "has magnitudes of DoRA, and its settings say LoRA"
        )
        raise FatalError(f"{folder}: the adapter's {module} {there}")
    if "up_bias" in parts and not settings.config.get("lora_bias"):
        raise FatalError(f"{folder}: the adapter's {module} has a bias, and its settings say no lora_bias")
    left_out = settings.leaves_out(module)
    if left_out:
        raise FatalError(f"{folder}: the adapter has tensors for {module}, which its settings leave out ({left_out})")


def token_rows(settings: Settings, module: str, is_input: bool) -> list[int]:
    """The rows of an embedding that were trained (trainable_token_indices)."""
    said = settings.config.get("trainable_token_indices")
    if isinstance(said, dict):
        said = next((rows for name, rows in said.items() if module == name or module.endswith(f".{name}")), None)
    elif not is_input:
        said = None
    if not isinstance(said, list) or not all(isinstance(row, int) and row >= 0 for row in said):
        raise FatalError(f"{settings.folder}: {module} has trained tokens, and trainable_token_indices names none")
    return said
