"""A score that is kept while answers come in, with the uncertainty it has so far."""

from __future__ import annotations

import math

from batch.evaluation.match import Match, Unscorable, is_right
from batch.evaluation.normalise import Normalisation
from batch.evaluation.pairs import Pair

Z95 = 1.959963984540054  # of the standard normal distribution, 95 % lies within this on both sides


class ScoreTally:
    """The share of right predictions among those that can be judged. Takes the same memory after any number of pairs.

    `n` pairs were judged and `right` of them are right. Pairs with an error are in `failed`, those that cannot be
    judged in `unscorable`; neither is in `n`.
    """

    __slots__ = ("_match", "_normalise", "failed", "n", "right", "unscorable")

    def __init__(self, match: Match = "exact", normalise: Normalisation | None = None) -> None:
        self._match: Match = match
        self._normalise = normalise or Normalisation()
        self.n = 0
        self.right = 0
        self.failed = 0
        self.unscorable = 0

    def add(self, pair: Pair) -> bool | None:
        """Count a pair; returns whether it is right, None where that cannot be said."""
        if pair.error is not None:
            self.failed += 1
            return None
        try:
            right = is_right(pair.expected, pair.predicted, self._match, self._normalise)
        except Unscorable:
            self.unscorable += 1
            return None
        self.n += 1
        self.right += right
        return right

    @property
    def score(self) -> float:
        """The share of right predictions, 0 to 1; 0 before the first pair."""
        return self.right / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where the score lies with 95 % confidence (Wilson); (0, 1) before the first pair."""
        return wilson(self.right, self.n)

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        low, high = self.interval
        return (high - low) / 2


def wilson(right: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); (0, 1) for n = 0."""
    if not n:
        return 0.0, 1.0
    share = right / n
    scale = 1 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    # Rounding must not take the bounds past what was seen.
    return max(0.0, min(middle - reach, share)), min(1.0, max(middle + reach, share))
