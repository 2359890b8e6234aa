"""A model's modules given the native kernels, where each one shows that it computes the same as before.

The model's own code stays as it is: only `forward` of single modules is replaced, after a trial against the original.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from batch.engines.torch.attention import attend, current_plan
from batch.engines.torch.linear import FusedPart
from batch.engines.torch.native import LARGEST_HEAD, Kernels

KNOWN_ATTENTION = ("Qwen3Attention", "Qwen2Attention", "LlamaAttention", "MistralAttention")


def use_kernels(model: nn.Module, kernels: Kernels) -> int:
    """Replace what can be replaced in a float32 model on the CPU; how many modules."""
    count = 0
    with torch.inference_mode():
        for module in model.modules():
            made = _norm(module, kernels) or _gated(module, kernels)
            if made is not None:
                module.forward = made
                count += 1
    for module in model.modules():
        made = _attention(module, kernels)
        if made is not None:
            module.forward = made
            count += 1
    return count


def _agrees(made: Any, module: nn.Module, width: int) -> bool:
    x = torch.randn(1, 3, width, generator=torch.Generator().manual_seed(0))
    ours, theirs = made(x), module.forward(x)
    return bool((ours - theirs).abs().max() <= 1e-4 * theirs.abs().max())


def _norm(module: nn.Module, kernels: Kernels) -> Any:
    """RMSNorm, whatever the model calls it."""
    weight, eps = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if not (type(module).__name__.endswith("RMSNorm") and isinstance(weight, torch.Tensor) and isinstance(eps, float)):
        return None
    if weight.dtype != torch.float32 or weight.dim() != 1:
        return None
    original = module.forward

    def forward(hidden_states: torch.Tensor) -> torch.Tensor:
        if hidden_states.dtype != torch.float32 or not hidden_states.is_contiguous():
            return original(hidden_states)
        return kernels.rms_norm(hidden_states, weight, eps)

    return forward if _agrees(forward, module, weight.shape[0]) else None


def _gated(module: nn.Module, kernels: Kernels) -> Any:
    """down(silu(gate(x)) · up(x)), with gate and up in one product."""
    gate, up, down = (getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj"))
    if not isinstance(gate, FusedPart) or not isinstance(up, FusedPart) or down is None:
        return None
    both = gate._fused
    if both is not up._fused or len(set(both.sizes)) != 1 or getattr(module, "act_fn", None) is None:
        return None

    def forward(x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = down(kernels.swiglu(both.linear(x)))
        return out

    return forward if _agrees(forward, module, gate.in_features) else None


def _attention(module: nn.Module, kernels: Kernels) -> Any:
    """Projections, norms of the heads and rotation into the slots, in a packed step; else as it was.

    The trial of `open_runner` compares the whole against the original.
    """
    parts = [getattr(module, name, None) for name in ("q_proj", "k_proj", "v_proj")]
    project, size = getattr(module, "o_proj", None), getattr(module, "head_dim", 0)
    layer = getattr(module, "layer_idx", None)
    if not all(isinstance(part, FusedPart) for part in parts) or project is None or layer is None:
        return None
    fused = parts[0]._fused  # type: ignore[union-attr]
    norms = [getattr(module, name, None) for name in ("q_norm", "k_norm")]
    name = type(module).__name__
    if (
        name not in KNOWN_ATTENTION
        or size % 2
        or size > LARGEST_HEAD
        or any((n is None) != (norms[0] is None) for n in norms)
    ):
        return None
    scaled = (
        (norms[0].weight, norms[1].weight, norms[0].variance_epsilon)  # type: ignore[union-attr]
        if norms[0] is not None
        else None
    )
    scale: float = module.scaling
    whole: Any = module.config if name == "MistralAttention" else module  # who knows the sliding window
    window: int | None = getattr(whole, "sliding_window", None)
    original, kv_heads = module.forward, fused.sizes[1] // size

    def forward(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, Any]:
        plan = current_plan()
        if plan is None or plan.native is None:
            usual: tuple[torch.Tensor, Any] = original(hidden_states, *args, **kwargs)
            return usual
        cosine, sine = kwargs["position_embeddings"]
        held = plan.cache.layer(layer, kv_heads, size, hidden_states)
        slots, columns = plan.cache.writes
        qkv = fused.linear(hidden_states[0])
        q = kernels.set_cache(qkv, scaled, (cosine[0], sine[0]), slots, columns, held.keys, held.values)
        out = attend(plan, layer, held, q, scale, window)
        return project(out.view(1, out.shape[0], -1)), None

    return forward
