"""What training minimises, term by term.

reconstruction: the mean squared error of the features. quantization: per level, codewords towards what they stand for
plus, weighted by the commitment, latents towards their codewords (van den Oord et al., 2017). diversity: per level,
how unevenly a batch uses the codewords plus how far apart they lie. kl: per level, the divergence of the use from an
even one. Levels are added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.nn import functional as F

from batch.semantic_ids.model import RQVAE, Passed
from batch.semantic_ids.quantizer import squared_distances

Tensor: TypeAlias = Any  # torch is not followed by the type checker

SHARPNESS = 1.0  # of the softmax that says which codeword is nearest


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """The terms, unweighted (but for the commitment inside `quantization`)."""

    reconstruction: Tensor
    quantization: Tensor
    diversity: Tensor
    kl: Tensor


def losses(model: RQVAE, features: Tensor, passed: Passed, *, commitment: float, spread: bool) -> Losses:
    """The terms for one batch; `spread` False leaves diversity and kl at 0 and saves their cost."""
    zero = passed.latents.new_zeros(())
    quantization, diversity, kl = zero, zero, zero
    found = passed.quantized
    for level, residual, words, code in zip(
        model.quantizer.quantizers, found.residuals, found.chosen, found.codes, strict=True
    ):
        quantization = quantization + F.mse_loss(words, residual.detach())
        quantization = quantization + commitment * F.mse_loss(residual, words.detach())
        if spread:
            table = level.vectors.weight
            shares = _shares(residual, table)
            counted = torch.bincount(code, minlength=len(table)).to(shares.dtype) / len(code)
            # Counts have no gradient: it is taken from the soft shares, the value from the counts.
            use = counted + shares - shares.detach()
            diversity = diversity + (use * len(table) - 1).abs().mean() + 2 * torch.pdist(table).mean()
            kl = kl + (shares * (shares * len(table)).clamp_min(1e-12).log()).sum()
    return Losses(F.mse_loss(passed.reconstruction, features), quantization, diversity, kl)


def chosen_loss(latents: Tensor, tables: list[Tensor], codes: Tensor) -> Tensor:
    """How far `latents` are from having `codes` [rows, levels] as their nearest codewords, the levels' mean.

    Cross-entropy of the codes under a softmax over squared distances, in units of how far codewords lie apart.
    """
    residual, total = latents, latents.new_zeros(())
    for level, table in enumerate(tables):
        spread = (table - table.mean(0)).square().sum(1).mean().clamp_min(1e-12)
        logits = -squared_distances(residual, table) * (SHARPNESS / spread)
        total = total + F.cross_entropy(logits, codes[:, level])
        residual = residual - F.embedding(codes[:, level], table)
    return total / len(tables)


def _shares(residual: Tensor, table: Tensor) -> Tensor:
    """How a batch is shared among the codewords when each row is split softly, [codewords], 1 in all."""
    distances = squared_distances(residual, table)
    distances = distances - distances.amin(1, keepdim=True).detach()
    return torch.softmax(-distances / distances.detach().mean().clamp_min(1e-12), dim=1).mean(0)
