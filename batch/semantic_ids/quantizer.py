"""The residual quantiser: at each level the nearest codeword of what the levels before left over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

Tensor: TypeAlias = Any  # torch is not followed by the type checker

NEAR = 1e-5  # of the squared distance: a lead smaller than this is decided in float64
TIE = 1e-12  # of the squared norms: a lead smaller than this, in float64, is a tie
ROUNDING = 2e-6  # what float32 scores of unit vectors may be off by, with room to spare
EMA_DECAY = 0.99
EMA_EPSILON = 1e-5


class Level(nn.Module):  # type: ignore[misc]
    """One codebook, with the moving averages that training keeps of it."""

    def __init__(self, codewords: int, vector_dim: int, *, ema: bool) -> None:
        super().__init__()
        self.vectors = nn.Embedding(codewords, vector_dim)
        nn.init.xavier_uniform_(self.vectors.weight)
        if ema:
            self.register_buffer("ema_cluster_size", torch.zeros(codewords))
            self.register_buffer("ema_w", self.vectors.weight.detach().clone())

    def keep(self, codewords: Tensor, weight: Tensor | float) -> None:
        """Let the averages of some codewords, if there are any, begin where they stand, `weight` strong."""
        if "ema_w" in self._buffers:
            self.ema_cluster_size[codewords] = weight
            self.ema_w[codewords] = self.vectors.weight.detach()[codewords] * self.ema_cluster_size[codewords, None]


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """A batch in training: `straight_through` passes gradients to the latents as if nothing had been rounded.

    `residuals`, `chosen` and `codes` hold one entry a level: [rows, vector_dim] twice and [rows].
    """

    straight_through: Tensor
    residuals: list[Tensor]
    chosen: list[Tensor]
    codes: list[Tensor]


class ResidualQuantizer(nn.Module):  # type: ignore[misc]
    """The levels; `forward` is training's pass, `FrozenCodebooks` is the way to codes that can be relied on."""

    def __init__(self, levels: int, codewords: int, vector_dim: int, *, ema: bool) -> None:
        super().__init__()
        self.quantizers = nn.ModuleList(Level(codewords, vector_dim, ema=ema) for _ in range(levels))

    def forward(self, latents: Tensor, assign: Callable[[Tensor], Tensor] | None = None) -> Quantized:
        """[rows, vector_dim] through all levels; gradients reach codewords through `chosen`.

        `assign` chooses the codewords from squared distances [rows, codewords]; None takes the nearest.
        """
        residual, total = latents, torch.zeros_like(latents)
        residuals, chosen, codes = [], [], []
        for level in self.quantizers:
            table = level.vectors.weight
            left = residual.detach()
            distances = squared_distances(left, table.detach())
            code = distances.argmin(1) if assign is None else assign(distances + left.square().sum(1, keepdim=True))
            words = F.embedding(code, table)
            residuals.append(residual)
            chosen.append(words)
            codes.append(code)
            total = total + words
            residual = latents - total.detach()
        return Quantized(latents + (total - latents).detach(), residuals, chosen, codes)

    def revive(self, uses: list[Tensor], quantized: Quantized, share: float, weight: float) -> int:
        """Move codewords used less than `share` of an even use to residuals of rows of a batch; how many were.

        `uses` holds a count per codeword and level, `weight` is the average a codeword moved starts with.
        """
        moved = 0
        with torch.no_grad():
            for level, use, residual in zip(self.quantizers, uses, quantized.residuals, strict=True):
                dead = (use < share * use.mean()).nonzero()[:, 0]
                if len(dead):
                    table = level.vectors.weight
                    table[dead] = residual.detach()[torch.randint(len(residual), (len(dead),))]
                    level.keep(dead, weight)
                    moved += len(dead)
        return moved

    def update_ema(self, quantized: Quantized, decay: float = EMA_DECAY) -> None:
        """Move each codebook towards the mean of what it was chosen for; only training calls this."""
        with torch.no_grad():
            for level, residual, code in zip(self.quantizers, quantized.residuals, quantized.codes, strict=True):
                table = level.vectors.weight
                count = torch.bincount(code, minlength=len(table)).to(table.dtype)
                sums = torch.zeros_like(table).index_add_(0, code, residual.detach())
                level.ema_cluster_size.mul_(decay).add_(count, alpha=1 - decay)
                level.ema_w.mul_(decay).add_(sums, alpha=1 - decay)
                size = level.ema_cluster_size
                smoothed = (size + EMA_EPSILON) / (size.sum() + len(table) * EMA_EPSILON) * size.sum()
                used = size > EMA_EPSILON  # a codeword that nothing chose has no mean to move to
                table[used] = level.ema_w[used] / smoothed[used, None]


def squared_distances(rows: Tensor, table: Tensor) -> Tensor:
    """‖row − codeword‖² less ‖row‖², [rows, codewords], as one matrix product."""
    return torch.addmm((table * table).sum(1), rows, table.t(), alpha=-2)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """`codes` int64 [rows, levels]; `close` marks rows too close to call, whose codes mean nothing; `errors` [rows]
    holds the squared distance of each latent to the sum of its codewords (None unless asked for)."""

    codes: Tensor
    close: Tensor
    errors: Tensor


class FrozenCodebooks:
    """Codebooks that never change, laid out for search: one matrix product a level, whatever the number of rows.

    `codebooks` is [levels, codewords, vector_dim].
    """

    def __init__(self, codebooks: Tensor) -> None:
        tables = codebooks.detach().double()
        self.levels, self.codewords, self.vector_dim = tables.shape
        self.tables = tables.float().contiguous()
        self._tables64 = tables
        self._norms64 = (tables * tables).sum(2)
        longest = self._norms64.amax(1).sqrt()
        self._norms64[_repeated(tables)] = torch.inf
        self._norms = self._norms64.float()
        self._products = (-2 * tables).float().transpose(1, 2).contiguous()  # [levels, vector_dim, codewords]
        self._count_and_index = torch.stack([torch.ones(self.codewords), torch.arange(float(self.codewords))])
        self._longest = longest.tolist()

    def search(self, latents: Tensor, noise: Tensor | None = None, *, errors: bool = False) -> Found:
        """The nearest codeword per level in float32, and which rows are too close to call.

        `latents` is float32 [rows, vector_dim]; `noise` [rows] is how far each may be from its true value.
        """
        rows = len(latents)
        codes = torch.empty((rows, self.levels), dtype=torch.int64)
        left = torch.linalg.vector_norm(latents, dim=1)
        slack = left * ROUNDING if noise is None else torch.add(noise, left, alpha=ROUNDING)
        left = left.square_()  # ‖residual‖², carried along: adding the winning score gives the next one
        close = torch.zeros(rows, dtype=torch.bool)
        residual = latents
        scores = torch.empty((rows, self.codewords))
        for level in range(self.levels):
            torch.addmm(self._norms[level], residual, self._products[level], out=scores)
            best = scores.amin(1)
            left = left.add_(best).clamp_min_(0)
            longest = self._longest[level]
            bound = torch.add(left * NEAR, slack, alpha=4 * longest).add_(ROUNDING * longest * longest)
            # 1 for whoever is within the bound of the best: how many there are, and which one, in one small product.
            count, index = self._count_and_index @ scores.le_(bound.add_(best)[:, None]).t()
            close |= count != 1  # NaN is within nothing
            code = index.long().clamp_max_(self.codewords - 1)
            codes[:, level] = code
            if errors or level + 1 < self.levels:
                words = F.embedding(code, self.tables[level])
                residual = torch.sub(residual, words, out=words)
        return Found(codes, close, residual.square().sum(1) if errors else None)

    def search_exact(self, latents: Tensor) -> Found:
        """The same in float64; what is nearer by less than rounding can tell is a tie, and the lower index wins."""
        residual = latents.double()
        codes = torch.empty((len(latents), self.levels), dtype=torch.int64)
        for level in range(self.levels):
            scores = torch.addmm(self._norms64[level], residual, self._tables64[level].t(), alpha=-2)
            scale = (residual * residual).sum(1, keepdim=True) + self._longest[level] ** 2
            tied = scores <= scores.amin(1, keepdim=True) + TIE * scale
            code = torch.from_numpy(tied.numpy().argmax(1))  # numpy promises the first of equals
            codes[:, level] = code
            residual = residual - F.embedding(code, self._tables64[level])
        errors = (residual * residual).sum(1)
        return Found(codes, torch.zeros(len(latents), dtype=torch.bool), errors)

    def encode(self, latents: Tensor, block: int = 4096) -> Tensor:
        """Codes int64 [rows, levels] of float32 latents [rows, vector_dim], near-ties decided in float64."""
        codes = torch.empty((len(latents), self.levels), dtype=torch.int64)
        for start in range(0, len(latents), block):
            part = latents[start : start + block]
            found = self.search(part)
            close = found.close.nonzero()[:, 0]
            if len(close):
                found.codes[close] = self.search_exact(part[close]).codes
            codes[start : start + block] = found.codes
        return codes

    def sums(self, codes: Tensor) -> Tensor:
        """The chosen codewords added up in level order, float32 [rows, vector_dim]."""
        total = F.embedding(codes[:, 0], self.tables[0])
        for level in range(1, self.levels):
            total += F.embedding(codes[:, level], self.tables[level])
        return total


def _repeated(tables: Tensor) -> Tensor:
    """Which codewords stand at a lower index too, [levels, codewords]: they can never win, and are no rivals."""
    repeated = torch.ones(tables.shape[:2], dtype=torch.bool)
    for level, table in enumerate(tables.numpy()):
        repeated[level, np.unique(table, axis=0, return_index=True)[1]] = False
    return repeated
