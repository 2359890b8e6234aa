"""The products of product.c: weights packed once for its panels, then float rows in and float rows out."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch.nn import functional as F

from batch.engines.torch.native import Kernels, span
from batch.engines.torch.stored import Stored, panels
from batch.engines.torch.structs import Linear

LIMIT, KEPT, SPARSE = 5.0, 16, 16  # of rows.h
TOGETHER = 2**20  # weights that are rounded at a time
PARTS = ("weight", "steps", "offsets", "scale", "bias")  # of a product, as far as it has them: by outputs
BLOCKS = {8: 64, 4: 32}  # inputs that share a step, by bits


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


@dataclass(frozen=True, slots=True)
class Rounded:
    """A layer's weights as (q · step + least) · scale, by blocks of inputs; `least` where they have four bits."""

    q: torch.Tensor  # [out, in], -127 … 127, or 0 … 15
    steps: torch.Tensor  # float16, [out, blocks]; in 4 bits some may be negative
    least: torch.Tensor | None  # float16, [out, blocks]
    scale: torch.Tensor  # float32, powers of two, [out]

    def room(self, outputs: int) -> Rounded:
        """One of so many outputs, whose numbers are still to be `put`."""
        return Rounded(*(None if x is None else x.new_empty(outputs, *x.shape[1:]) for x in self._parts()))

    def put(self, first: int, part: Rounded) -> None:
        """Some outputs in their place."""
        for mine, theirs in zip(self._parts(), part._parts(), strict=True):
            if mine is not None and theirs is not None:
                mine[first : first + len(theirs)] = theirs

    def _parts(self) -> tuple[Any, ...]:
        return self.q, self.steps, self.least, self.scale

    def weight(self) -> torch.Tensor:
        """What they stand for: float32, [out, in]."""
        size = BLOCKS[4 if self.least is not None else 8]
        inputs = self.q.shape[1]
        steps, least = (
            torch.zeros_like(self.q, dtype=torch.float32)
            if x is None
            else x.float().repeat_interleave(size, 1)[:, :inputs]
            for x in (self.steps, self.least)
        )
        return (self.q.float() * steps + least) * self.scale[:, None]


def round_weight(weight: torch.Tensor, bits: int) -> Rounded:
    """weight: [out, in], to the nearest that `bits` have: 8, or 4 where there are multiples of 32 inputs."""
    size = BLOCKS[bits]
    outputs, inputs = weight.shape
    few = max(TOGETHER // max(inputs, 1), 1)
    if outputs > few:  # what is reckoned with on the way takes several times their memory
        whole: Rounded | None = None
        for first in range(0, outputs, few):
            part = round_weight(weight[first : first + few], bits)
            whole = whole or part.room(outputs)
            whole.put(first, part)
        assert whole is not None
        return whole
    blocks = F.pad(weight.float(), (0, -inputs % size)).view(outputs, -1, size)
    if bits == 8:
        least, step = None, blocks.abs().amax(-1) / 127
        largest = step.amax(1)
    else:
        least, high = blocks.amin(-1), blocks.amax(-1)
        step = (high - least) / 15
        # Q4_0 has sixteen steps around zero, the first of them the largest weight; its blocks use not all of them.
        first = torch.where(-least >= high, least, high)
        own = first / -8
        places = blocks / own.where(own != 0, 1.0)[..., None]
        as_stored = ((places - places.round()).abs().amax(-1) < 1e-4) & (places.amax(-1) < 7.5)
        step, least = torch.where(as_stored, own, step), torch.where(as_stored, first, least)
        largest = torch.maximum(step.abs().amax(1), least.abs().amax(1))
    # A power of two, so that steps which a file has as halves of a float stay what they are.
    scale = torch.exp2(largest.clamp(min=1e-30).log2().ceil())
    steps = (step / scale[:, None]).half()
    unit = steps.float().where(steps.abs() > 1e-12, 1e-12)[..., None] * scale[:, None, None]
    if least is not None:
        least = (least / scale[:, None]).half()
        blocks = blocks - (least.float() * scale[:, None])[..., None]
    q = (blocks / unit).round_().clamp_(-127 if bits == 8 else 0, 127 if bits == 8 else 15)
    return Rounded(q.view(outputs, -1)[:, :inputs].to(torch.int8), steps, least, scale)


class Product:
    """x · weightᵀ + bias, in float32, over weights in panels: what its kinds have in common.

    outputs, inputs: of the layer; bits: of a weight; panel: the outputs of one.
    """

    kernels: Kernels
    outputs: int
    inputs: int
    bits: int
    panel: int
    paired: bool
    weight: torch.Tensor
    bias: torch.Tensor | None
    _described: Linear | None

    @property
    def described(self) -> Linear:
        """It as the kernels are told of it."""
        raise NotImplementedError

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The outputs of several, which are alike, in one; all but the last have whole panels."""
        made = copy.copy(parts[0])
        made.outputs, made._described = sum(part.outputs for part in parts), None
        for name in PARTS:
            if getattr(made, name, None) is not None:
                setattr(made, name, torch.cat([getattr(part, name) for part in parts]))
        return made

    def pair(self) -> Self:
        """Put outputs of the first half and of the second into one panel, so that the product can be `gated`."""
        raise NotImplementedError

    def _filled(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs to whole panels, with zeros. x: [out, ...]."""
        return torch.cat([x, x.new_zeros(-len(x) % self.panel, *x.shape[1:])]) if len(x) % self.panel else x

    def _pairs(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs in the order of pairs, each half filled up with zeros."""
        few = self.panel // 2
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
        return self.kernels.packed_linear(self, x, norm, gated, residual)

    def largest(self, x: torch.Tensor, norm: tuple[torch.Tensor, float]) -> torch.Tensor:
        """The place of each row's largest output, -1 where that is not finite or one is NaN; int64, [rows].

        What comes out is never all in memory. x and norm as above; the product is not `paired`.
        """
        return self.kernels.packed_largest(self, x, norm)


class PackedProduct(Product):
    """x · weightᵀ + bias of few bits, with each row of x in int8 by a scale of its own, apart from what it `keeps`.

    bias: float32, [out]. Only where `kernels.panel` is not 0.
    """

    def __init__(self, kernels: Kernels, rounded: Rounded, bias: torch.Tensor | None) -> None:
        self.kernels, self.panel = kernels, kernels.panel
        self.bits = 8 if rounded.least is None else 4
        self.outputs, self.inputs = rounded.q.shape
        self.paired = False
        self._described: Linear | None = None
        q = F.pad(rounded.q, (0, -self.inputs % 4))
        steps = rounded.steps.unsqueeze(1) if rounded.least is None else torch.stack([rounded.steps, rounded.least], 1)
        self._keep(q, steps, self._offsets(q, rounded), rounded.scale, bias)

    @classmethod
    def restored(
        cls, kernels: Kernels, bits: int, shape: list[int], paired: bool, parts: Mapping[str, torch.Tensor]
    ) -> PackedProduct:
        """One that was packed before: `weight`, `steps`, `offsets`, `scale` and perhaps `bias`, as they were.

        shape: outputs and inputs. The kernel checks the rest against what it is given.
        """
        made = cls.__new__(cls)
        made.kernels, made.bits, made.paired, made.panel = kernels, bits, paired, kernels.panel
        made.outputs, made.inputs = shape
        made._described = None
        made.weight, made.steps = parts["weight"], parts["steps"]
        made.offsets, made.scale, made.bias = parts["offsets"], parts["scale"], parts.get("bias")
        return made

    def _offsets(self, q: torch.Tensor, rounded: Rounded) -> torch.Tensor:
        """What rows around 128 have too much, negative, before the scale."""
        size, few = BLOCKS[self.bits], max(TOGETHER // q.shape[1], 1)
        found = torch.empty(len(q))
        for first in range(0, len(q), few):  # as sums of bytes come by way of four times their memory
            part, steps = q[first : first + few], rounded.steps[first : first + few]
            sums = F.pad(part, (0, -q.shape[1] % size)).view(len(part), -1, size).sum(-1, dtype=torch.int32).double()
            whole = (sums * steps.double()).sum(1)
            if rounded.least is not None:
                whole += size * rounded.least[first : first + few].double().sum(1)
            found[first : first + few] = -128 * whole
        return found

    def _keep(
        self,
        q: torch.Tensor,
        steps: torch.Tensor,
        offsets: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
    ) -> None:
        """Put everything into panels. q: [out, in]; steps: [out, 1 or 2, blocks]; the rest: [out]."""
        panel, filled, self._described = self.panel, self._filled, None
        weight = filled(q).view(-1, panel, q.shape[1] // 4, 4).transpose(1, 2)  # [panels, in / 4, panel, 4]
        if self.bits == 4:
            weight = weight[:, ::2] | weight[:, 1::2] << 4
        self.weight = weight.contiguous().view(torch.uint8)
        # [panels, blocks, 1 or 2, panel]
        self.steps = filled(steps).view(-1, panel, *steps.shape[1:]).permute(0, 3, 2, 1).contiguous()
        self.offsets, self.scale = filled(offsets).contiguous(), filled(scale).contiguous()
        self.bias = None if bias is None else filled(bias).contiguous()

    @property
    def described(self) -> Linear:
        """It as the kernels are told of it."""
        if self._described is None:
            self._described = Linear(
                *(self.bits, self.paired, self.inputs, self.outputs, *span(self.weight, torch.uint8)),
                *(*span(self.steps, torch.float16), *span(self.scale), *span(self.offsets)),
                *(span(self.bias) if self.bias is not None else (None, 0)),
            )
        return self._described

    def pair(self) -> Self:
        """See `Product`."""
        if not self.paired:
            self.paired = True
            weight = self.weight.view(torch.int8)
            if self.bits == 4:
                weight = torch.stack([weight & 15, weight >> 4 & 15], 2).flatten(1, 2)
            q = self._pairs(weight.transpose(1, 2).flatten(0, 1).flatten(1))
            steps = self._pairs(self.steps.permute(0, 3, 2, 1).flatten(0, 1))
            bias = None if self.bias is None else self._pairs(self.bias)
            self._keep(q, steps, self._pairs(self.offsets), self._pairs(self.scale), bias)
        return self


class FloatProduct(Product):
    """x · weightᵀ + bias, with weights of 32 bits; or of 16, and then each input in bfloat16 too, added up in float32.

    What a row gets does not depend on the rows beside it. weight: float32, [out, in]; bias: float32, [out], or None.
    16 bits only where `kernels.pairs`.
    """

    def __init__(self, kernels: Kernels, weight: torch.Tensor, bias: torch.Tensor | None, bits: int) -> None:
        self.kernels, self.bits, self.paired, self.panel = kernels, bits, False, kernels.float_panel
        self.outputs, self.inputs = weight.shape
        self._described: Linear | None = None
        weight = weight.float() if bits == 32 else F.pad(weight.to(torch.bfloat16), (0, self.inputs % 2))
        if bias is not None and bits == 16:
            bias = bias.to(torch.bfloat16)  # as a model has it that is loaded in that
        self._keep(weight, None if bias is None else bias.float())

    def _keep(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Put everything into panels: [panels, inputs, panel], of 16 bits [panels, inputs / 2, panel, 2]."""
        self._described = None
        step = 32 // self.bits
        whole = self._filled(weight).view(-1, self.panel, weight.shape[1] // step, step)
        self.weight = whole.transpose(1, 2).contiguous()
        self.bias = None if bias is None else self._filled(bias).contiguous()

    @classmethod
    def room(cls, kernels: Kernels, outputs: int, inputs: int, bits: int, *, paired: bool) -> FloatProduct:
        """One whose numbers are still to be `read`."""
        made = cls.__new__(cls)
        made.kernels, made.bits, made.paired, made.panel = kernels, bits, paired, kernels.float_panel
        made.outputs, made.inputs = outputs, inputs
        made._described = made.bias = None
        return made

    @property
    def nbytes(self) -> int:
        """What its weights take."""
        return len(self._places()) * -(-self.inputs // (32 // self.bits)) * 4

    def _places(self) -> torch.Tensor:
        """The output at each place of the panels, -1 where there is none."""
        order = torch.arange(1, self.outputs + 1)
        return (self._pairs(order) if self.paired else self._filled(order)) - 1

    def read(self, parts: Sequence[Stored], bias: torch.Tensor | None, memory: torch.Tensor) -> None:
        """Fill it with the outputs of parts of files, one after the other. memory: uint8, as much as it takes."""
        places, step = self._places(), 32 // self.bits
        weight = memory[: self.nbytes].view(torch.float32 if self.bits == 32 else torch.bfloat16)
        self.weight = weight.view(-1, -(-self.inputs // step), self.panel, step)
        panels(self.kernels, parts, places.numpy(), self.weight)
        if bias is not None:
            bias = bias if self.bits == 32 else bias.to(torch.bfloat16).float()
            self.bias = self._pairs(bias) if self.paired else self._filled(bias)
        self._described = None

    def plain(self) -> torch.Tensor:
        """The weights in their usual order, a copy: [out, in]."""
        rows = self.weight.transpose(1, 2).flatten(0, 1).flatten(1)
        if self.paired:
            first, second = rows.unflatten(0, (-1, 2, self.panel // 2)).transpose(0, 1).flatten(1, 2)
            rows = torch.cat([first[: self.outputs - self.outputs // 2], second[: self.outputs // 2]])
        return rows[: self.outputs, : self.inputs].contiguous()

    @property
    def described(self) -> Linear:
        """It as the kernels are told of it."""
        if self._described is None:
            bias = span(self.bias) if self.bias is not None else (None, 0)
            weight = span(self.weight.view(torch.uint8), torch.uint8)
            none = (None, 0) * 3
            self._described = Linear(self.bits, self.paired, self.inputs, self.outputs, *weight, *none, *bias)
        return self._described

    def pair(self) -> Self:
        """See `Product`."""
        if not self.paired:
            self.paired = True
            weight = self.weight.transpose(1, 2).flatten(0, 1).flatten(1)
            self._keep(self._pairs(weight), None if self.bias is None else self._pairs(self.bias))
        return self
