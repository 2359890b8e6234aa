"""Weights in four bits, a scale and an offset for every 32 of them; activations stay as they are.

The product is torch's own (`_weight_int4pack_mm_for_cpu`). The mode is for memory: a quarter of the int8 mode's weights
and, unlike there, no sums in int8, so that a processor with VNNI or AMX is the slower for it on long prompts.
"""

from __future__ import annotations

import torch
from torch import nn

from batch.engines.torch.linear import Int8Linear, has_int8, relink, works

GROUP = 32  # inputs that share a scale
ROWS = 16  # outputs come in multiples of this


class Int4Linear(nn.Module):  # type: ignore[misc]
    """A linear layer with weights of four bits: q · scale + offset with q in -8 … 7, by groups of inputs."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()  # [out, in]
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype = linear.weight.dtype
        groups = weight.view(self.out_features, -1, GROUP)  # [out, groups, 32]
        low, high = groups.amin(-1), groups.amax(-1)
        scale = ((high - low) / 15).clamp(min=1e-9)
        quantised = ((groups - low.unsqueeze(-1)) / scale.unsqueeze(-1)).round().clamp(0, 15).to(torch.int32)
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(quantised.view_as(weight).contiguous(), 1)
        self.packed = packed  # [out, in / 2]
        # [groups, out, 2]
        self.scales = torch.stack([scale, low + 8 * scale], dim=-1).transpose(0, 1).contiguous()
        self.bias = None if linear.bias is None else linear.bias.detach().float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., in]; returns [..., out]."""
        flat = x.reshape(-1, self.in_features).float().contiguous()
        out: torch.Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(flat, self.packed, GROUP, self.scales)
        if self.bias is not None:
            out = out + self.bias
        return out.view(*x.shape[:-1], self.out_features).to(self.dtype)


def quantise(model: nn.Module) -> int:
    """Put a model's linear layers into four bits, its head into eight; how many are in four.

    The head decides between tokens that are close, so it keeps more; a layer of a shape that the product does not take
    stays as it is. Embeddings stay too.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    replaced: dict[int, nn.Module] = {}
    count = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear:
                continue
            if child is head:
                if has_int8():
                    setattr(parent, name, Int8Linear(child))
            elif child.in_features % GROUP == 0 and child.out_features % ROWS == 0:
                setattr(parent, name, replaced.setdefault(id(child), Int4Linear(child)))
                count += 1
    relink(model, replaced)
    return count


def has_int4() -> bool:
    """Whether this torch has the product for four bits, and gets it right on this processor."""
    return works(Int4Linear, 0.2)
