"""k-means on torch: what codebooks start from."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch.nn import functional as F

from batch.semantic_ids.quantizer import squared_distances

Tensor: TypeAlias = Any  # torch is not followed by the type checker

ROUNDS = 100


def kmeans(points: Tensor, count: int, *, starts: int, generator: Any) -> Tensor:
    """`count` centres [count, width] of `points` [rows, width]: Lloyd's algorithm from k-means++ (Arthur and
    Vassilvitskii, 2007), the best of `starts` by inertia.

    With fewer different points than centres, the centres that are left over are points again.
    """
    best, lowest = None, torch.inf
    for _ in range(starts):
        centres, inertia = _lloyd(points, _spread(points, count, generator))
        if best is None or inertia < lowest:
            best, lowest = centres, inertia
    return best


def _spread(points: Tensor, count: int, generator: Any) -> Tensor:
    """The k-means++ start: each centre a point, drawn by its squared distance to the nearest one before."""
    chosen = [int(torch.randint(len(points), (1,), generator=generator))]
    nearest = torch.full((len(points),), torch.inf, dtype=points.dtype)
    for _ in range(count - 1):
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(1))
        weights = nearest if float(nearest.sum()) > 0 else torch.ones_like(nearest)
        chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
    return points[chosen]


def _lloyd(points: Tensor, centres: Tensor) -> tuple[Tensor, float]:
    """The centres when no point changes sides any more, and the sum of squared distances to them."""
    nearest = None
    for _ in range(ROUNDS):
        now = squared_distances(points, centres).argmin(1)
        if nearest is not None and torch.equal(now, nearest):
            break
        nearest = now
        sizes = torch.bincount(now, minlength=len(centres)).to(points.dtype)
        sums = torch.zeros_like(centres).index_add_(0, now, points)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp_min(1)[:, None], centres)
    off = points - F.embedding(squared_distances(points, centres).argmin(1), centres)
    return centres, float(off.square().sum())
