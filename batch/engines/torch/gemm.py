"""The int8 product of gemm.c: weights packed once for its panels, then float rows in and float rows out."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from batch.engines.torch.native import Kernels


class Int8Product:
    """x · weightᵀ · scale + bias, with each row of x in int8 by a scale of its own.

    weight: int8, [out, in]; scale and bias: float32, [out]. Only where `kernels.panel` is not 0.
    """

    def __init__(self, kernels: Kernels, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.kernels = kernels
        self.outputs, self.inputs = weight.shape
        panel = kernels.panel
        more = -self.outputs % panel
        padded = F.pad(weight, (0, -self.inputs % 4, 0, more))
        self.offsets = padded.sum(1, dtype=torch.int32) * -128
        # [panels, inputs / 4, outputs of a panel, 4]
        self.weight = padded.view(-1, panel, padded.shape[1] // 4, 4).transpose(1, 2).contiguous()
        self.scale = F.pad(scale, (0, more))
        self.bias = None if bias is None else F.pad(bias, (0, more))

    def __call__(
        self,
        x: torch.Tensor,
        *,
        norm: tuple[torch.Tensor, float] | None = None,
        gated: bool = False,
        residual: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """x: float32, [rows, in], contiguous; returns [rows, out].

        On the way in a row is put through the RMS norm of such a weight and epsilon; or, `gated`, it is gates and as
        many values more, and becomes silu(gate) · value. On the way out `residual` is added, [rows, out].
        """
        return self.kernels.int8_linear(self, x, norm, gated, residual)
