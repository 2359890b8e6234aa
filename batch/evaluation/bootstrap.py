"""How sure a score is: resampling of per-pair counts, and tests of two runs over the same questions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.int32]  # (pairs, columns)
    Totals = NDArray[np.float64]  # (samples, columns)

_BLOCK = 2_000_000  # weights held at once
_MOST_EXACT = 1_000  # pairs that differ, up to which McNemar's test is exact

Score = Callable[[Sequence[float]], float]


def resampled(counts: Counts, samples: int, seed: int) -> Totals:
    """Column sums (samples, columns) of as many pairs drawn with replacement, for each sample anew."""
    import numpy as np

    rng = np.random.default_rng(seed)
    pairs = len(counts)

    def weights(rows: int) -> Any:
        drawn = np.empty((rows, pairs))
        for row in drawn:
            row[:] = np.bincount(rng.integers(0, pairs, pairs), minlength=pairs)
        return drawn

    return _weighted(counts, samples, weights)


def swapped(differences: Counts, samples: int, seed: int) -> Totals:
    """Column sums (samples, columns) of the differences of a random half of the pairs, each in with chance 1/2."""
    import numpy as np

    rng = np.random.default_rng(seed)
    pairs = len(differences)
    return _weighted(differences, samples, lambda rows: rng.integers(0, 2, (rows, pairs)).astype(np.float64))


def _weighted(counts: Counts, samples: int, weights: Callable[[int], Any]) -> Totals:
    import numpy as np

    pairs = max(1, len(counts))
    rows = max(1, min(samples, _BLOCK // pairs))
    step = max(1, _BLOCK // max(1, counts.shape[1]))
    parts = []
    for begin in range(0, samples, rows):
        drawn = weights(min(rows, samples - begin))
        total = np.zeros((len(drawn), counts.shape[1]))
        for at in range(0, len(counts), step):
            total += drawn[:, at : at + step] @ counts[at : at + step].astype(np.float64)
        parts.append(total)
    return np.concatenate(parts) if parts else np.zeros((0, counts.shape[1]))


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of the values."""
    import numpy as np

    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def interval(totals: Totals, score: Score) -> tuple[float, float]:
    """A score's 95 % interval from resampled sums of its columns."""
    return percentiles([score(row) for row in totals.tolist()])


def randomisation_p(ours: Sequence[float], theirs: Sequence[float], moved: Totals, score: Score) -> float:
    """Two-sided p of approximate randomisation (Noreen 1989): how often swapped runs differ at least as much.

    `ours` and `theirs` are the column sums of the two runs, `moved` the sums `swapped` gave of ours less theirs.
    """
    seen = abs(score(ours) - score(theirs))
    extreme = 0
    for row in moved.tolist():
        a = score([mine - part for mine, part in zip(ours, row, strict=True)])
        b = score([other + part for other, part in zip(theirs, row, strict=True)])
        extreme += abs(a - b) >= seen - 1e-12
    return (extreme + 1) / (len(moved) + 1)


def mcnemar_p(only_ours: int, only_theirs: int) -> float:
    """Two-sided p of McNemar's test from the pairs that only one run has right.

    Exact (binomial) up to 1,000 of them, else by the chi-squared distribution with continuity correction.
    """
    differing = only_ours + only_theirs
    if not differing:
        return 1.0
    if differing <= _MOST_EXACT:
        fewer = min(only_ours, only_theirs)
        return float(min(1.0, 2 * sum(math.comb(differing, k) for k in range(fewer + 1)) / 2**differing))
    statistic = max(0, abs(only_ours - only_theirs) - 1) ** 2 / differing
    return math.erfc(math.sqrt(statistic / 2))
