"""How well IDs tell items apart: collisions, and how evenly each level's codewords are used."""

from __future__ import annotations

import math
import string
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batch.semantic_ids.errors import SemanticIdError


@dataclass(frozen=True, slots=True)
class LevelUse:
    """One level: how often each codeword was chosen, how many were at all, and how evenly (entropy in bits)."""

    counts: tuple[int, ...]
    used: int
    entropy: float
    perplexity: float


@dataclass(frozen=True, slots=True)
class Collisions:
    """What N items' codes amount to; rows of −1 (not encoded) are left out and counted in `skipped`.

    `unique` SIDs; `collided_sids` held by two items or more; `collided_items` that share theirs with another;
    `largest` number of items under one SID; `rate` = 1 − unique / items.
    """

    items: int
    skipped: int
    unique: int
    collided_sids: int
    collided_items: int
    largest: int
    rate: float
    levels: tuple[LevelUse, ...]


def count_collisions(codes: NDArray[np.integer], codewords: int) -> Collisions:
    """The report of `codes` [items, levels] with `codewords` per level; codes are 0 … codewords − 1."""
    kept = codes[encoded_rows(codes)]
    keys = np.sort(pack(kept, codewords))
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))) if len(keys) else np.empty(0, np.int64)
    sizes = np.diff(starts, append=len(keys))
    shared = sizes[sizes > 1]
    return Collisions(
        items=len(keys),
        skipped=len(codes) - len(keys),
        unique=len(sizes),
        collided_sids=len(shared),
        collided_items=int(shared.sum()),
        largest=int(sizes.max(initial=0)),
        rate=1 - len(sizes) / len(keys) if len(keys) else 0.0,
        levels=tuple(_level_use(kept[:, level], codewords) for level in range(codes.shape[1])),
    )


def suffixes(codes: NDArray[np.integer], codewords: int) -> NDArray[np.int32]:
    """The fourth number per item by the GNPR rule: 0, 1, 2 … in row order where a SID is shared, −1 where it is not."""
    found = np.full(len(codes), -1, dtype=np.int32)
    rows = np.flatnonzero(encoded_rows(codes))
    if not len(rows):
        return found
    keys = pack(codes[rows], codewords)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    new = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    starts = np.flatnonzero(new)
    bucket = np.cumsum(new) - 1
    place = np.arange(len(ordered)) - starts[bucket]
    shared = np.diff(starts, append=len(ordered))[bucket] > 1
    found[rows[order[shared]]] = place[shared]
    return found


def sid_text(codes: NDArray[np.integer], suffix: NDArray[np.int32] | None = None) -> list[str]:
    """`<a_4><b_17><c_25>` per item, with `<d_k>` where `suffix` is not −1; empty where a row was not encoded."""
    levels = codes.shape[1]
    if levels >= len(string.ascii_lowercase):
        raise SemanticIdError(f"{levels} levels have no letters: the text form has one letter a level, a to y")
    template = "".join(f"<{letter}_%d>" for letter in string.ascii_lowercase[:levels])
    more = f"<{string.ascii_lowercase[levels]}_%d>"
    texts = [template % tuple(row) if row[0] >= 0 else "" for row in codes.tolist()]
    if suffix is not None:
        for row in np.flatnonzero(suffix >= 0).tolist():
            texts[row] += more % suffix[row]
    return texts


def encoded_rows(codes: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which rows have an ID, [items]."""
    found: NDArray[np.bool_] = codes.min(axis=1, initial=0) >= 0
    return found


def pack(codes: NDArray[np.integer], codewords: int) -> NDArray[np.int64]:
    """One number per row, equal exactly where the codes are; SemanticIdError when a code is out of range."""
    rows, levels = codes.shape
    if rows and not 0 <= int(codes.min()) <= int(codes.max()) < codewords:
        raise SemanticIdError(f"A code lies outside 0 to {codewords - 1}: these are another model's IDs")
    if codewords**levels > 2**63:  # more than a number holds: count the rows instead
        ranks: NDArray[np.int64] = np.unique(codes, axis=0, return_inverse=True)[1].astype(np.int64).ravel()
        return ranks
    keys = np.zeros(rows, dtype=np.int64)
    for level in range(levels):
        keys *= codewords
        keys += codes[:, level]
    return keys


def _level_use(codes: NDArray[np.integer], codewords: int) -> LevelUse:
    counts = np.bincount(codes, minlength=codewords)
    shares = counts[counts > 0] / max(1, len(codes))
    entropy = float(-(shares * np.log2(shares)).sum()) if len(shares) else 0.0
    return LevelUse(tuple(counts.tolist()), int((counts > 0).sum()), abs(entropy), math.exp2(entropy))
