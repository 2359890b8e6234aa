"""Linear layers with weights and products in bf16 on the CPU: half the memory to read, and AMX where the CPU has it.

Rows come in and go out as floats; a product takes them in bf16 and adds up in float32. All between the products stays
float32, so that the native kernels do it.
"""

from __future__ import annotations

import torch
from torch import nn

from batch.engines.torch import linear
from batch.engines.torch.gemm import FloatProduct
from batch.engines.torch.native import kernels

COMPANY = (2, 5, 16, 64)  # rows


class Bf16Linear(nn.Module):  # type: ignore[misc]
    """A linear layer whose weight lies in oneDNN's layout, in bf16; fp32 in and out. Each sum is rounded to bf16."""

    rounds = True

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.dtype = layer.weight.dtype
        self.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().to(torch.bfloat16))
        # Added to the sum before it is rounded.
        self.bias = None if layer.bias is None else layer.bias.detach().to(torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., in]; returns [..., out]."""
        rows = x.to(torch.bfloat16)
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.packed, self.bias, "none", [], "")
        return out.to(self.dtype)


class PairedLinear(linear.RoundedLinear):
    """A linear layer over our own product of bf16: fp32 in and out, and whole layers in one call of the kernels."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, layer.weight.dtype)
        quick = kernels()
        if quick is None or not quick.pairs:
            raise NotImplementedError("the native kernels have no product of bf16 here")
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.product = FloatProduct(quick, layer.weight.detach(), self.bias, 16)


def fastest() -> type[nn.Module]:
    """The kind of layer whose product is faster here, by a trial of some milliseconds as that of `linear.fastest`.

    Our own where it is not clearly slower, as it is where only oneDNN has AMX: our compiler may know none.
    """
    try:
        with torch.inference_mode():
            plain = nn.Linear(512, 2816)
            ours, theirs = PairedLinear(plain), Bf16Linear(plain)
            inputs = [torch.randn(rows, 512) for rows in linear.TRIED]
            return PairedLinear if linear.sooner(ours, theirs, inputs, 0.9, linear.ROUNDS) else Bf16Linear
    except NotImplementedError:
        return Bf16Linear


def narrow(model: nn.Module, kind: type[nn.Module] | None = None) -> int:
    """Put every linear layer, the head and experts too, into bf16; how many. Embeddings stay as they are.

    `kind`: what `fastest` said, where it was asked already.
    """
    return linear.replace(model, kind or fastest(), split=True)


def company(model: nn.Module) -> str:
    """What is to be said where a row's products depend on how many rows run beside it, as blocks of sums may; else "".

    Tried on a layer of each shape, with a row first and last among few and many.
    """
    shapes = {(m.in_features, m.out_features): m for m in model.modules() if isinstance(m, Bf16Linear)}
    draw = torch.Generator().manual_seed(0)
    for (inputs, _), layer in shapes.items():
        rows = torch.randn(max(COMPANY), inputs, dtype=layer.dtype, generator=draw)
        rows[-1] = rows[0]
        with torch.inference_mode():
            alone = layer(rows[:1])[0]
            if not all(torch.equal(layer(part)[at], alone) for n in COMPANY for part, at in _both(rows, n)):
                return "; the last bits of an answer's numbers depend on how many run beside it"
    return ""


def _both(rows: torch.Tensor, count: int) -> list[tuple[torch.Tensor, int]]:
    """So many of the rows, with the first or the last of them as the one that is looked at."""
    return [(rows[:count], 0), (rows[-count:], -1)]


def has_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware, and this torch knows how."""
    feature = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(feature is not None and feature()) and linear.works(Bf16Linear, 0.05)
