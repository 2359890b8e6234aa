"""The Beta distribution, as far as a rate with its interval needs it; no library."""

from __future__ import annotations

import math

_TINY = 1e-300
_STEPS = 300


def share_below(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - share_below(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _STEPS):
        for top in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away(1 + top * d)
            c = _away(1 + top / c)
            value *= d * c
        if abs(d * c - 1) < 1e-12:
            break
    return front * value


def quantile(share: float, a: float, b: float) -> float:
    """Where `share` of the distribution lies below, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if share_below(middle, a, b) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def interval(a: float, b: float, level: float = 0.95) -> tuple[float, float]:
    """The central credible interval."""
    tail = (1 - level) / 2
    return quantile(tail, a, b), quantile(1 - tail, a, b)


def _away(value: float) -> float:
    """Not zero."""
    return value if abs(value) > _TINY else _TINY
