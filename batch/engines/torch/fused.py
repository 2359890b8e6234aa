"""A model's modules given the native kernels, where each one shows that it computes the same as before.

The model's own code stays as it is: only `forward` of single modules is replaced, after a trial against the original.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from batch.engines.torch.attention import current_plan
from batch.engines.torch.gemm import Product
from batch.engines.torch.linear import FusedPart
from batch.engines.torch.native import Kernels
from batch.engines.torch.stacked import Around, Mixing, Parts, Stack

# Whose attention and decoder layers are done as a whole.
KNOWN = ("Lean", "Qwen3", "Qwen2", "Llama", "Mistral", "Qwen3Moe", "Mixtral")
BY_CONFIG = ("MistralAttention", "MixtralAttention")  # whose sliding window only the configuration knows


def use_kernels(model: nn.Module, kernels: Kernels) -> int:
    """Replace what can be replaced in a float32 model on the CPU; how many modules."""
    given: dict[nn.Module, Any] = {}
    with torch.inference_mode():
        for module in model.modules():
            made = _norm(module, kernels) or _gated(module, kernels) or _gelu(module)
            if made is not None:
                given[module] = made
    mixes = {module: mix for module in model.modules() if (mix := _mixing(module, kernels)) is not None}
    given |= {module: _attention(module, mix) for module, mix in mixes.items()}
    parts = {module: own for module in model.modules() if (own := _parts(module, given, mixes)) is not None}
    given |= _layers(model, parts)
    for module, made in given.items():
        module.forward = made
    return len(given)


def _agrees(made: Any, module: nn.Module, width: int) -> bool:
    x = torch.randn(1, 3, width, generator=torch.Generator().manual_seed(0))
    ours, theirs = made(x), module.forward(x)
    return bool((ours - theirs).abs().max() <= 1e-4 * theirs.abs().max())


def _norm(module: nn.Module, kernels: Kernels) -> Any:
    """RMSNorm, whatever the model calls it, its weight as it is or around one (Gemma)."""
    if not type(module).__name__.endswith("RMSNorm"):  # asked first: others may have to make a weight to show it
        return None
    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not (isinstance(weight, torch.Tensor) and isinstance(eps, float)):
        return None
    if weight.dtype != torch.float32 or weight.dim() != 1:
        return None
    ways = (_scaled_by(kernels, module.forward, scale, eps) for scale in (weight, 1 + weight))
    return next((way for way in ways if _agrees(way, module, weight.shape[0])), None)


def _scaled_by(kernels: Kernels, original: Any, weight: torch.Tensor, eps: float) -> Any:
    def forward(hidden_states: torch.Tensor) -> torch.Tensor:
        if hidden_states.dtype != torch.float32:
            out: torch.Tensor = original(hidden_states)
            return out
        return kernels.rms_norm(hidden_states.contiguous(), weight, eps)

    return forward


def _gated(module: nn.Module, kernels: Kernels) -> Any:
    """down(act(gate(x)) · up(x)), with gate and up in one product; act: silu, or GELU's form by tanh."""
    gate, up, down = (getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj"))
    if not isinstance(gate, FusedPart) or not isinstance(up, FusedPart) or down is None:
        return None
    both = gate._fused
    if both is not up._fused or len(set(both.sizes)) != 1 or getattr(module, "act_fn", None) is None:
        return None
    ways = (_by(act, both, down) for act in (kernels.swiglu, kernels.geglu))
    return next((way for way in ways if _agrees(way, module, gate.in_features)), None)


def _by(act: Any, both: Any, down: Any) -> Any:
    def forward(x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = down(act(both.linear(x)))
        return out

    return forward


def _gelu(module: nn.Module) -> Any:
    """GELU's form by tanh, which some classes write out in eight operations."""
    if "gelu" not in type(module).__name__.lower() or next(module.parameters(), None) is not None:
        return None
    x = torch.linspace(-10, 10, 2048)
    try:
        same = torch.allclose(module(x), functional.gelu(x, approximate="tanh"), rtol=1e-5, atol=1e-6)
    except (RuntimeError, TypeError, ValueError):  # one that takes more, or another shape
        return None
    return functools.partial(functional.gelu, approximate="tanh") if same else None


def _mixing(module: nn.Module, kernels: Kernels) -> Mixing | None:
    """What an attention does between its projections: norms of the heads, rotation into the slots, and attending.

    The trial of `open_runner` compares the whole against the original.
    """
    parts = [getattr(module, name, None) for name in ("q_proj", "k_proj", "v_proj")]
    project, size = getattr(module, "o_proj", None), getattr(module, "head_dim", 0)
    layer = getattr(module, "layer_idx", None)
    if not all(isinstance(part, FusedPart) for part in parts) or project is None or layer is None:
        return None
    fused = parts[0]._fused  # type: ignore[union-attr]
    norms = [getattr(module, name, None) for name in ("q_norm", "k_norm")]
    if (
        not _is_known(module, "Attention")
        or size % 2
        or not 0 < size <= kernels.largest_head
        or not _fits(fused.sizes, size, project, norms)
        or any((n is None) != (norms[0] is None) for n in norms)
    ):
        return None
    scaled = (
        (norms[0].weight, norms[1].weight, norms[0].variance_epsilon)  # type: ignore[union-attr]
        if norms[0] is not None
        else None
    )
    scale: float = module.scaling
    whole: Any = module.config if type(module).__name__ in BY_CONFIG else module
    heads, kv_heads = (part // size for part in fused.sizes[:2])
    return Mixing(kernels, layer, heads, kv_heads, size, scaled, scale, whole)


def _fits(sizes: list[int], size: int, project: Any, norms: list[Any]) -> bool:
    """Whether queries, keys and values are whole heads of that size, as the tensors have it and not only the config."""
    queries, keys, values = sizes
    whole = not (queries % size or keys % size) and keys == values and not queries % keys
    return whole and project.in_features == queries and all(n is None or n.weight.shape == (size,) for n in norms)


def _attention(module: Any, mix: Mixing) -> Any:
    """Attention in a packed step; else as it was."""
    original, fused, project = module.forward, module.q_proj._fused, module.o_proj

    def forward(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, Any]:
        plan = current_plan()
        if plan is None or plan.native is None:
            usual: tuple[torch.Tensor, Any] = original(hidden_states, *args, **kwargs)
            return usual
        mixed = mix(plan, fused.linear(hidden_states[0]), kwargs["position_embeddings"])
        return project(mixed.unsqueeze(0)), None

    return forward


def _parts(module: Any, given: Mapping[nn.Module, Any], mixes: Mapping[nn.Module, Mixing]) -> Parts | Around | None:
    """What a decoder layer of packed products is made of."""
    if not _is_known(module, "DecoderLayer") or module.self_attn not in mixes:
        return None
    norms, attention, rest = (module.input_layernorm, module.post_attention_layernorm), module.self_attn, module.mlp
    own = _products(attention.q_proj._fused.linear, attention.o_proj)
    if not all(norm in given for norm in norms) or own is None:
        return None
    first, second = ((norm.weight, norm.variance_epsilon) for norm in norms)
    qkv, project = own
    if rest not in given:
        return Around(mixes[attention], first, qkv, project, norms[1], rest)
    gated = _products(rest.gate_proj._fused.linear, rest.down_proj)
    if gated is None:
        return None
    return Parts(mixes[attention], first, second, qkv, project, gated[0].pair(), gated[1])


def _products(*linears: Any) -> list[Product] | None:
    """Those of linear layers that are packed; None where not all are."""
    found = [product for x in linears if isinstance(product := getattr(x, "product", None), Product)]
    return found if len(found) == len(linears) else None


def _layer(module: Any, parts: Parts | Around) -> Any:
    """A decoder layer by its parts in a packed step; else as it was."""
    original = module.forward

    def forward(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        plan = current_plan()
        if plan is None or plan.native is None:
            usual: torch.Tensor = original(hidden_states, *args, **kwargs)
            return usual
        return parts(plan, hidden_states[0].contiguous(), kwargs["position_embeddings"]).unsqueeze(0)

    return forward


def _layers(model: nn.Module, parts: Mapping[nn.Module, Parts | Around]) -> dict[nn.Module, Any]:
    """Decoder layers by their parts; those of a body that are all like that in one call."""
    made = {module: _layer(module, own) for module, own in parts.items()}
    for body in model.modules():
        layers = list(body.layers) if isinstance(getattr(body, "layers", None), nn.ModuleList) else []
        whole = [own for layer in layers if isinstance(own := parts.get(layer), Parts)]
        if layers and len(whole) == len(layers):
            stack = Stack.of(whole)
            if stack is not None:
                made |= {layer: stack.forward_of(i, layer.forward) for i, layer in enumerate(layers)}
                if hasattr(body, "done_by_first"):  # ours: others ask every layer
                    body.done_by_first = stack.runs
    return made


def _is_known(module: nn.Module, part: str) -> bool:
    return type(module).__name__ in {name + part for name in KNOWN}
