"""Weights in four bits, a step and a least weight for every 32 of them, as GGUF's Q4_1 has them.

The product is that of gemm.c (VNNI, rows in int8) where the processor has it, else torch's own
(`_weight_int4pack_mm_for_cpu`), where activations stay as they are.
"""

from __future__ import annotations

import torch
from torch import nn

from batch.engines.torch.gemm import BLOCKS, round_weight
from batch.engines.torch.linear import Int8Linear, RoundedLinear, has_int8, replace, rounded_product, works
from batch.engines.torch.native import kernels

GROUP = BLOCKS[4]  # inputs that share a step
ROWS = 16  # outputs come in multiples of this in torch's product


class Int4Linear(RoundedLinear):
    """A linear layer with weights of four bits."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.weight.dtype)
        self.product = rounded_product(linear, 4, lambda _, weight, bias: TorchProduct(weight, bias))


class TorchProduct:
    """What `PackedProduct` is in four bits, by torch; rows stay floats. weight: float32, [out, in]."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        rounded = round_weight(weight, 4)
        least = rounded.least
        assert least is not None
        scale, low = (part.float() * rounded.scale[:, None] for part in (rounded.steps, least))  # [out, groups]
        # [out, in / 2]
        self.packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(rounded.q.to(torch.int32).contiguous(), 1)
        # [groups, out, 2]
        self.scales = torch.stack([scale, low + 8 * scale], dim=-1).transpose(0, 1).contiguous()
        self.bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x: float32, [rows, in], contiguous; returns [rows, out]."""
        out: torch.Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.packed, GROUP, self.scales)
        return out if self.bias is None else out + self.bias


def quantise(model: nn.Module) -> int:
    """Put a model's linear layers into four bits, its head into eight; how many are in four.

    The head decides between tokens that are close, so it keeps more; a layer of a shape that the product does not take
    is put into eight too, where there is a product for that. Embeddings stay as they are.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    quick = kernels()
    multiple = 1 if quick is not None and quick.panel else ROWS

    def takes(layer: nn.Linear) -> bool:
        return layer is not head and layer.in_features % GROUP == 0 and layer.out_features % multiple == 0

    count = replace(model, Int4Linear, split=True, takes=takes)
    if has_int8():
        replace(model, Int8Linear, split=True)
    return count


def in_eight(model: nn.Module) -> int:
    """Weights of a model in four bits, but for its head's, that are in eight for want of a product of their shape."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return sum(
        layer.in_features * layer.out_features
        for layer in model.modules()
        if isinstance(layer, RoundedLinear) and layer is not head and _bits(layer) == 8
    )


def _bits(layer: RoundedLinear) -> int:
    return getattr(layer.product, "bits", 4 if isinstance(layer, Int4Linear) else 8)


def has_int4() -> bool:
    """Whether there is a product for four bits here that is right on this processor."""
    return works(Int4Linear, 0.3)
