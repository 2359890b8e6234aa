"""Which codeword a row is given in training, so that codewords are used evenly and rows told apart.

Codes are always the nearest codewords once a model is trained; here a model learns which ones those shall be.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch

from batch.semantic_ids.quantizer import squared_distances

Tensor: TypeAlias = Any  # torch is not followed by the type checker

ROUNDS = 20  # of Sinkhorn: near enough to even
SHARPNESS = 0.05  # of a row's choice, in units of the mean distance: the smaller, the nearer to the nearest
BLOCK = 4096  # rows that are balanced together


def balanced(distances: Tensor) -> Tensor:
    """The codeword of each row, [rows], of `distances` [rows, codewords], each chosen about equally often.

    Sinkhorn's iterations (Cuturi, 2013) on the entropic transport of the rows to evenly used codewords, as used
    against collapse by Asano et al. (2020).
    """
    rows, codewords = distances.shape
    costs = distances - distances.amin(1, keepdim=True)
    logits = -costs / (SHARPNESS * costs.mean()).clamp_min(1e-12)
    share = math.log(rows / codewords)
    columns = logits.new_zeros((1, codewords))
    for _ in range(ROUNDS):
        lines = -torch.logsumexp(logits + columns, 1, keepdim=True)
        columns = share - torch.logsumexp(logits + lines, 0, keepdim=True)
    return (logits + columns).argmax(1)


def apart(groups: Tensor, distances: Tensor) -> Tensor:
    """The codeword of each row, [rows], such that rows of one group share one only where there are too few.

    `groups` [rows] are numbers, `distances` [rows, codewords]. In each round every row that is left asks for the
    nearest codeword that is free in its group, and the nearest of those that ask gets it.
    """
    rows, codewords = distances.shape
    _, group = groups.unique(return_inverse=True)
    count = int(group.max()) + 1
    chosen = torch.full((rows,), -1, dtype=torch.int64)
    taken = torch.zeros((count, codewords), dtype=torch.bool)
    left = torch.arange(rows)
    while len(left):
        full = taken.all(1)
        taken[full] = False  # more rows than codewords: once more around
        asked = distances[left].masked_fill(taken[group[left]], torch.inf)
        cost, code = asked.min(1)
        order = cost.argsort(stable=True)
        place = (group[left] * codewords + code)[order]
        first = torch.full((count * codewords,), len(order), dtype=torch.int64)
        first.scatter_reduce_(0, place, torch.arange(len(order)), "amin")
        won = order[first[first < len(order)]]
        chosen[left[won]] = code[won]
        taken[group[left[won]], code[won]] = True
        rest = torch.ones(len(left), dtype=torch.bool)
        rest[won] = False
        left = left[rest]
    return chosen


def settled(latents: Tensor, tables: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Codes [rows, levels] that tell as many of the latents apart as there are codes for, and codebooks for them.

    All levels but the last are balanced, in the last rows with the same codes so far are kept apart; each codebook
    then holds the means of what it stands for.
    """
    residual, codes, means = latents, [], []
    groups = torch.zeros(len(latents), dtype=torch.int64)
    for level, table in enumerate(tables):
        distances = squared_distances(residual, table) + residual.square().sum(1, keepdim=True)
        if level + 1 < len(tables):
            code = torch.cat([balanced(part) for part in distances.split(BLOCK)])
        else:
            code = apart(groups, distances)
        count = torch.bincount(code, minlength=len(table)).to(table.dtype)[:, None]
        sums = torch.zeros_like(table).index_add_(0, code, residual)
        mean = torch.where(count > 0, sums / count.clamp_min(1), table)
        residual = residual - mean[code]
        groups = groups.mul(len(table)).add(code).unique(return_inverse=True)[1]  # no number grows too large
        codes.append(code)
        means.append(mean)
    return torch.stack(codes, 1), means
