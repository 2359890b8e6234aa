"""Whether a model is worth keeping: it must say more of an item than the mean of all does, and tell items apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batch.semantic_ids.collisions import count_collisions
from batch.semantic_ids.encode import Encoder
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.layers import as_float32
from batch.semantic_ids.model import RQVAE

MARGIN = 0.9  # of the mean's error: what a model that has learnt something stays below
COLLAPSED = 0.5  # of the rows that codes could tell apart: who tells fewer apart has collapsed
BLOCK = 4096


class UnusableModelError(SemanticIdError):
    """A training came to no model that is worth keeping."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a table is without a model: the mean squared error of predicting the mean, and rows that differ."""

    mean: NDArray[np.float32]
    error: float
    distinct: int


@dataclass(frozen=True, slots=True)
class Quality:
    """A model on a table: its mean squared error after quantising, that of predicting the mean, and its collisions.

    `unique` SIDs of `possible` ones: as many as rows differ, or as codes there are.
    """

    error: float
    baseline: float
    collision_rate: float
    unique: int
    possible: int

    @property
    def gain(self) -> float:
        """How many times smaller the error is than that of predicting the mean."""
        return self.baseline / max(self.error, 1e-30)

    @property
    def score(self) -> float:
        """What is lost, the smaller the better: the share of the features' variance, and the collision rate."""
        return self.error / self.baseline + self.collision_rate

    def fault(self, *, reconstructs: bool = True) -> str | None:
        """Why this model is not worth keeping; `reconstructs` False: it was not trained to reconstruct."""
        if reconstructs and not self.error <= MARGIN * self.baseline:
            return (
                f"its reconstruction error is {self.error:.4g}, and predicting the mean of all rows gives "
                f"{self.baseline:.4g}"
            )
        if self.unique < COLLAPSED * self.possible:
            return (
                f"its codes have collapsed: {self.unique:,} different ones where there could be {self.possible:,} "
                f"({self.collision_rate:.1%} collisions)"
            )
        return None


def baseline_of(features: NDArray[Any]) -> Baseline:
    """The baseline of a table [rows, width]; SemanticIdError where all rows are alike."""
    total = np.zeros(features.shape[1])
    seen: set[int] = set()
    for part in _blocks(features):
        total += part.sum(axis=0, dtype=np.float64)
        seen.update(hash(row.tobytes()) for row in part)
    mean = total / len(features)
    error = sum(float(np.square(part - mean).sum()) for part in _blocks(features)) / features.size
    if len(seen) < 2 or error <= 0:
        raise SemanticIdError("All rows of the table are alike: there is nothing to learn")
    return Baseline(mean.astype(np.float32), error, len(seen))


def quality_of(model: RQVAE, features: NDArray[Any], baseline: Baseline) -> Quality:
    """How a model in eval mode does on the table of a baseline."""
    encoder = Encoder(model)
    try:
        codes = encoder.encode(features, reconstruction=True)
    finally:
        encoder.close()
    report = count_collisions(codes.codes, model.codewords)
    error = float(codes.reconstruction_error_sum or 0.0) / max(1, codes.encoded)
    possible = min(baseline.distinct, model.codewords**model.levels)
    return Quality(error, baseline.error, report.rate, report.unique, possible)


def _blocks(features: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(features), BLOCK):
        yield as_float32(features[start : start + BLOCK])
