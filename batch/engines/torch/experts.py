"""Mixtures of experts over products of few bits: each expert's two layers are linear layers like any other.

transformers keeps the weights of a layer's experts as one tensor [experts, out, in], or turned, and says of the module
how they lie (`is_transposed`, `has_bias`, `has_gate`). Routers, which decide by small differences, stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class SplitExperts(nn.Module):  # type: ignore[misc]
    """Experts whose layers are what `make` makes of linear layers; each runs once for all the tokens it is to have."""

    def __init__(self, experts: Any, make: Callable[[nn.Linear], nn.Module]) -> None:
        super().__init__()
        first = "gate_up_proj" if experts.has_gate else "up_proj"
        self.up, self.down = (nn.ModuleList(map(make, layers_of(experts, name))) for name in (first, "down_proj"))
        own = copy.copy(experts)  # its gate without its weights, which go with the last who has them
        own._parameters = {}
        self._gate = own._apply_gate if experts.has_gate else own.act_fn

    def forward(self, hidden_states: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """hidden_states: [tokens, size]; index, weights: [tokens, chosen], the experts of each and what they count."""
        out = torch.zeros_like(hidden_states)
        chosen = index.shape[1]
        order = index.flatten().argsort(stable=True)
        counts = index.flatten().bincount(minlength=len(self.up)).tolist()
        at = 0
        for expert, count in enumerate(counts[: len(self.up)]):
            if not count:
                continue
            places = order[at : at + count]
            tokens = places // chosen
            found = self.down[expert](self._gate(self.up[expert](hidden_states[tokens])))
            out.index_add_(0, tokens, found * weights.flatten()[places].unsqueeze(1).to(found.dtype))
            at += count
        return out


def layers_of(experts: Any, name: str) -> list[nn.Linear]:
    """The experts' layers of that name, views of the one tensor."""
    weights, biases = getattr(experts, name).detach(), getattr(experts, f"{name}_bias", None)
    found = []
    for expert, weight in enumerate(weights):
        weight = weight.T if experts.is_transposed else weight
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=biases is not None, device="meta")
        layer.weight = nn.Parameter(weight, requires_grad=False)
        if biases is not None:
            layer.bias = nn.Parameter(biases.detach()[expert], requires_grad=False)
        found.append(layer)
    return found


def is_split(module: nn.Module) -> bool:
    """Whether a module is experts of which all is known: their weights, and how these lie."""
    known = all(hasattr(module, name) for name in ("has_gate", "has_bias", "is_transposed", "_apply_gate"))
    if not known or getattr(module, "has_post_expert_norm", False) or getattr(module, "_is_expert_parallel", False):
        return False
    first = "gate_up_proj" if module.has_gate else "up_proj"
    weights = [getattr(module, name, None) for name in (first, "down_proj")]
    names = {first, "down_proj", f"{first}_bias", "down_proj_bias"}
    alone = set(dict(module.named_parameters())) <= names
    return alone and all(isinstance(weight, nn.Parameter) and weight.dim() == 3 for weight in weights)
