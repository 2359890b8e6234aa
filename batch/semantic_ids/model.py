"""The RQ-VAE: an encoder to a small latent, a residual quantiser over it, a decoder back to the features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from batch.semantic_ids.quantizer import Quantized, ResidualQuantizer

Tensor: TypeAlias = Any  # torch is not followed by the type checker

HIDDEN = (1024, 512, 128)
VECTOR_DIM = 64
LEVELS = 3


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape of a model, as its state dict shows it; `hidden` is in the encoder's order, input side first."""

    input_dim: int
    hidden: tuple[int, ...] = HIDDEN
    vector_dim: int = VECTOR_DIM
    levels: int = LEVELS
    codewords: int = 32
    batch_norm: bool = True
    dropout: bool = False
    ema: bool = True
    decoder_hidden: tuple[int, ...] | None = None  # None: the encoder's, mirrored

    @property
    def mirrored(self) -> tuple[int, ...]:
        """Widths of the decoder's hidden layers, latent side first."""
        return tuple(reversed(self.hidden)) if self.decoder_hidden is None else self.decoder_hidden


class Stack(nn.Module):  # type: ignore[misc]
    """Linear → BatchNorm → ReLU (→ Dropout) per hidden width, then a linear projection.

    State-dict keys are the published models': `layers.{i}.*`, `proj.*`, with `i` counting every one of those steps.
    """

    def __init__(
        self, input_dim: int, hidden: Sequence[int], output_dim: int, *, batch_norm: bool, dropout: float | None
    ) -> None:
        super().__init__()
        steps: list[Any] = []
        width = input_dim
        for size in hidden:
            steps.append(nn.Linear(width, size))
            if batch_norm:
                steps.append(nn.BatchNorm1d(size))
            steps.append(nn.ReLU())
            if dropout is not None:
                steps.append(nn.Dropout(dropout))
            width = size
        self.layers = nn.Sequential(*steps)
        self.proj = nn.Linear(width, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """[rows, input] to [rows, output]."""
        return self.proj(self.layers(x))

    def folded(self) -> list[tuple[Tensor, Tensor]]:
        """(weight [out, in], bias [out]) in float64 per linear step, each BatchNorm folded in as it acts in inference.

        A ReLU belongs between them and none after the last.
        """
        found: list[tuple[Tensor, Tensor]] = []
        for step in [*self.layers, self.proj]:
            if isinstance(step, nn.Linear):
                found.append((step.weight.detach().double(), step.bias.detach().double()))
            elif isinstance(step, nn.BatchNorm1d):
                weight, bias = found[-1]
                scale = step.weight.detach().double() / torch.sqrt(step.running_var.double() + step.eps)
                shift = step.bias.detach().double() - step.running_mean.double() * scale
                found[-1] = (weight * scale[:, None], bias * scale + shift)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """What one pass in training gives: the features again [rows, input], the latents and what became of them."""

    reconstruction: Tensor
    latents: Tensor
    quantized: Quantized


class RQVAE(nn.Module):  # type: ignore[misc]
    """Encoder, residual quantiser and decoder, with the published models' state-dict keys.

    In `eval()` the codebook stands still: encoding never changes it.
    """

    def __init__(self, layout: Layout, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.layout = layout
        rate = dropout if layout.dropout else None
        self.encoder = Stack(
            layout.input_dim, layout.hidden, layout.vector_dim, batch_norm=layout.batch_norm, dropout=rate
        )
        self.decoder = Stack(
            layout.vector_dim, layout.mirrored, layout.input_dim, batch_norm=layout.batch_norm, dropout=rate
        )
        self.quantizer = ResidualQuantizer(layout.levels, layout.codewords, layout.vector_dim, ema=layout.ema)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    @property
    def input_dim(self) -> int:
        """Features an item has."""
        return self.layout.input_dim

    @property
    def vector_dim(self) -> int:
        """Width of a latent and of a codeword."""
        return self.layout.vector_dim

    @property
    def levels(self) -> int:
        """Codes an item gets."""
        return self.layout.levels

    @property
    def codewords(self) -> int:
        """Codewords a level has."""
        return self.layout.codewords

    def forward(self, features: Tensor, assign: Callable[[Tensor], Tensor] | None = None) -> Passed:
        """One differentiable pass over `features` [rows, input_dim]; `assign` as of the quantiser."""
        latents = self.encoder(features)
        quantized = self.quantizer(latents, assign)
        return Passed(self.decoder(quantized.straight_through), latents, quantized)

    def codebooks(self) -> Tensor:
        """All codewords, [levels, codewords, vector_dim]."""
        return torch.stack([level.vectors.weight.detach() for level in self.quantizer.quantizers])
