"""The int8 product of gemm.c: weights packed once for its panels, then float rows in and float rows out."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from batch.engines.torch.native import Kernels

LIMIT, KEPT, SPARSE = 8.0, 16, 16  # of gemm.c


def keeps(x: torch.Tensor) -> torch.Tensor:
    """Which inputs gemm.c keeps as floats, a row for itself: those far beyond its mean. x: [rows, in]."""
    size = x.abs()
    limit = x.new_full((len(x), 1), float("inf"))
    for _ in range(2):  # the largest ones hide others in the mean
        limit = (size.masked_fill(size > limit, 0).mean(1, keepdim=True) * LIMIT).clamp(min=1e-12)
    most = min(x.shape[1] // SPARSE, KEPT)
    while bool((crowded := (size > limit).sum(1, keepdim=True) > most).any()):
        limit = torch.where(crowded, limit * 1.25, limit)
    return size > limit


class Int8Product:
    """x · weightᵀ · scale + bias, with each row of x in int8 by a scale of its own, apart from what it `keeps`.

    weight: int8, [out, in]; scale and bias: float32, [out]. Only where `kernels.panel` is not 0.
    """

    def __init__(self, kernels: Kernels, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.kernels = kernels
        self.outputs, self.inputs = weight.shape
        self.paired = False
        padded = F.pad(weight, (0, -self.inputs % 4, 0, -self.outputs % kernels.panel))
        self.offsets = padded.sum(1, dtype=torch.int32) * -128
        self.weight = self._in_panels(padded)
        self.scale = F.pad(scale, (0, -self.outputs % kernels.panel))
        self.bias = None if bias is None else F.pad(bias, (0, -self.outputs % kernels.panel))

    def pair(self) -> Int8Product:
        """Put outputs of the first half and of the second into one panel, so that the product can be `gated`."""
        if not self.paired:
            self.paired = True
            self.weight = self._in_panels(self._pairs(self.weight.transpose(1, 2).flatten(0, 1).flatten(1)))
            self.scale, self.offsets = self._pairs(self.scale), self._pairs(self.offsets)
            self.bias = None if self.bias is None else self._pairs(self.bias)
        return self

    def _in_panels(self, weight: torch.Tensor) -> torch.Tensor:
        """[panels, inputs / 4, outputs of a panel, 4]."""
        return weight.view(-1, self.kernels.panel, weight.shape[1] // 4, 4).transpose(1, 2).contiguous()

    def _pairs(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs in that order, each half filled up with zeros."""
        few = self.kernels.panel // 2
        first, second = x[: self.outputs].split([self.outputs - self.outputs // 2, self.outputs // 2])
        whole = x.new_zeros(2, -(-len(first) // few) * few, *x.shape[1:])
        whole[0, : len(first)], whole[1, : len(second)] = first, second
        return whole.unflatten(1, (-1, few)).transpose(0, 1).flatten(0, 2)

    def __call__(
        self,
        x: torch.Tensor,
        *,
        norm: tuple[torch.Tensor, float] | None = None,
        gated: bool = False,
        residual: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """x: float32, [rows, in], contiguous; returns [rows, out].

        On the way in a row is put through the RMS norm of such a weight and epsilon. On the way out `residual` is
        added, [rows, out]; or, where `gated`, which needs `pair`, the first half of the outputs becomes the gates of
        the second: silu(gate) · up, [rows, out / 2].
        """
        return self.kernels.int8_linear(self, x, norm, gated, residual)
