"""How well IDs tell items apart: collisions, and how evenly each level's codewords are used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LevelUse:
    """One level: how often each codeword was chosen, how many were at all, and how evenly (entropy in bits)."""

    counts: tuple[int, ...]
    used: int
    entropy: float
    perplexity: float


@dataclass(frozen=True, slots=True)
class CollisionReport:
    """What N items' codes amount to; rows of −1 (not encoded) are left out and counted in `skipped`.

    `unique` SIDs; `collided_sids` held by two items or more; `collided_items` that share theirs with another;
    `rate` = 1 − unique / items; `largest` bucket.
    """

    items: int
    skipped: int
    unique: int
    collided_sids: int
    collided_items: int
    largest: int
    rate: float
    levels: tuple[LevelUse, ...]


def collision_report(codes: NDArray[np.integer], codewords: int) -> CollisionReport:
    """The report of `codes` [items, levels] with `codewords` per level."""
    raise NotImplementedError


def suffixes(codes: NDArray[np.integer], codewords: int) -> NDArray[np.int32]:
    """The fourth number per item by the GNPR rule: 0, 1, 2 … in row order where a SID is shared, −1 where it is not."""
    raise NotImplementedError


def sid_text(codes: NDArray[np.integer], suffix: NDArray[np.int32] | None = None) -> list[str]:
    """`<a_4><b_17><c_25>` per item, with `<d_k>` where `suffix` is not −1; empty where a row was not encoded."""
    raise NotImplementedError
