"""Mixtures of experts: each expert's two layers are linear layers like any other.

transformers keeps the weights of a layer's experts as one tensor [experts, out, in], or turned, and says of the module
how they lie (`is_transposed`, `has_bias`, `has_gate`). Routers, which decide by small differences, stay as they are.
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from batch.engines.torch.gemm import Product
from batch.engines.torch.native import Kernels, kernels
from batch.engines.torch.structs import Expert


class SplitExperts(nn.Module):  # type: ignore[misc]
    """Experts whose layers are what `make` makes of linear layers; each runs once for all the tokens it is to have."""

    def __init__(self, experts: Any, make: Callable[[nn.Linear], nn.Module]) -> None:
        super().__init__()
        first = "gate_up_proj" if experts.has_gate else "up_proj"
        self.up, self.down = (nn.ModuleList(map(make, layers_of(experts, name))) for name in (first, "down_proj"))
        own = copy.copy(experts)  # its gate without its weights, which go with the last who has them
        own._parameters = {}
        self._gate = own._apply_gate if experts.has_gate else own.act_fn
        self._together = self._by_kernels() if experts.has_gate else None

    def forward(self, hidden_states: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """hidden_states: [tokens, size]; index, weights: [tokens, chosen], the experts of each and what they count."""
        if self._together is not None:
            quick, experts = self._together
            told = index.long().contiguous(), weights.float().contiguous(), hidden_states.float().contiguous()
            return quick.run_experts(experts, *told, self.down[0].out_features).to(hidden_states.dtype)
        order = index.flatten().argsort(stable=True)
        counts = index.flatten().bincount(minlength=len(self.up)).tolist()[: len(self.up)]
        order = order[: sum(counts)]  # some routers choose an expert that is not there, for nothing
        found = self._one_by_one(hidden_states[order // index.shape[1]], counts)
        out = found.new_zeros(index.numel(), found.shape[1])
        out[order] = found.mul_(weights.flatten()[order].unsqueeze(1).to(found.dtype))
        # Each token's are added up in the order in which it chose: what others chose changes nothing.
        return out.view(*index.shape, -1).sum(1)

    def _one_by_one(self, rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
        """Rows in the order of the experts, of which each has so many."""
        parts = [
            self.down[expert](self._gate(self.up[expert](x))) for expert, x in enumerate(rows.split(counts)) if len(x)
        ]
        return torch.cat(parts or [rows])

    def _by_kernels(self) -> tuple[Kernels, ctypes.Array[Expert]] | None:
        """The experts as the kernels are told of them, which do it all in one call; None where they cannot."""
        quick = kernels()
        both = zip(self.up, self.down, strict=True)
        pairs = [tuple(getattr(layer, "product", None) for layer in layers) for layers in both]
        whole = all(isinstance(product, Product) for pair in pairs for product in pair)
        if quick is None or not pairs or not whole or not self._is_swiglu():
            return None
        described = [Expert(up.pair().described, down.described) for up, down in pairs]  # type: ignore[union-attr]
        return quick, (Expert * len(described))(*described)

    def _is_swiglu(self) -> bool:
        """Whether the gates are those of most models: silu of the first half, times the second."""
        x = torch.linspace(-4, 4, 2 * 64).view(2, 64)
        try:
            with torch.inference_mode():
                usual = torch.nn.functional.silu(x[:, :32]) * x[:, 32:]
                return bool(torch.allclose(self._gate(x), usual, rtol=1e-5, atol=1e-6))
        except RuntimeError:  # one of its own that knows one width alone
            return False


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
