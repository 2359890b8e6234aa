"""How likely a model is right on a prompt: a logistic regression over the prompt's features, drawn to the rate of its
category, so that few graded rows say little and no rows say the rate. Needs numpy.

Fitted by Newton's method with an L2 penalty. How strong the penalty is, and whether features say anything at all, is
told by rows that were left out of the fit; the same rows give the Brier score and the calibration error that are shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_router.routing.cues import CATEGORIES
from ai_router.routing.evidence import PRIOR, Evidence, vector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

LEAST = 40  # rows from which on features are tried; below, the category's rate is all
PENALTIES = (30.0, 10.0, 3.0, 1.0, 0.3)
GAIN = 0.002  # of the log loss, that features must bring to be used
FOLDS = 5
TRIED = 2000  # rows at most that choose the penalty
_STEPS = 8
_SMALL = 0.01  # a step that ends the fit
_CURVED = 8000  # rows at most that say how the loss is curved
_BINS = 10


@dataclass(frozen=True, slots=True)
class Quality:
    """How good stated probabilities are on rows they were not fitted to. `plain` is Brier of the overall rate."""

    n: int
    brier: float
    plain: float
    ece: float
    by_chance: float = 0.0  # the ECE that probabilities without any fault would show on so few rows


@dataclass(frozen=True, slots=True)
class Predictor:
    """One model's chances of being right."""

    model: str
    base: Mapping[str, float]  # log odds of each category
    other: float  # of a category without rows
    weights: Any  # one a feature, or None where features say nothing
    mean: Any
    quality: Quality
    doubt: Mapping[str, float]  # of `base`, a variance each
    other_doubt: float
    root: Any = None  # of the weights' covariance (Laplace's approximation): root @ root.T

    def chances(self, vectors: Any) -> Any:
        """Of each prompt, 0 to 1; `vectors` are as of `evidence.vector`, a row each."""
        return _sigmoid(self.odds(vectors)[0])

    def odds(self, vectors: Any) -> tuple[Any, Any]:
        """The log odds of each prompt's chance, and their variance: how little is known of it."""
        import numpy as np

        x = np.asarray(vectors, np.float32)
        odds = _odds(self.base, self.other, x)
        shares = x[:, -len(CATEGORIES) :]
        doubt = shares**2 @ np.array([self.doubt.get(name, self.other_doubt) for name in CATEGORIES], np.float32)
        if self.weights is not None:
            odds = odds + (x - self.mean) @ self.weights
            doubt = doubt + (((x - self.mean) @ self.root) ** 2).sum(axis=1)
        return odds, doubt

    def chance(self, text: str) -> float:
        """Of one prompt."""
        return float(self.chances([vector(text)])[0])


def fit(evidence: Evidence, model: str) -> Predictor | None:
    """The predictor of a model from all its rows; None where it has none."""
    x, right, categories = evidence.rows(model)
    return fit_rows(model, x, right, categories) if categories else None


def fit_rows(model: str, x: Floats, right: Floats, categories: Sequence[str]) -> Predictor:
    """The same from rows at hand: features [rows, features], right (0 to 1), category of each."""
    import numpy as np

    names = np.array(categories)
    penalty, quality = _tried(x, right, names)
    base, other = _base(right, names)
    weights = mean = root = None
    if math.isfinite(penalty):
        mean = x.mean(axis=0)
        odds = _odds(base, other, x)
        weights = _newton(x - mean, right, odds, penalty)
        bent = _bent(x - mean, odds, weights, penalty)
        # The inverse of a matrix L Lᵀ is L⁻ᵀ L⁻¹.
        root = np.linalg.inv(np.linalg.cholesky(bent)).T.astype(np.float32)
    doubt = {name: _doubt(odds, int((names == name).sum())) for name, odds in base.items()}
    return Predictor(model, base, other, weights, mean, quality, doubt, _doubt(other, 0), root)


def _doubt(odds: float, n: int) -> float:
    """The variance of log odds that so many rows, and those of the prior, say."""
    share = float(_sigmoid(odds))
    return 1 / ((n + PRIOR) * share * (1 - share))


def _tried(x: Floats, right: Floats, names: Any) -> tuple[float, Quality]:
    """The penalty with the least log loss on rows left out, and how good its probabilities are there.

    Weaker and weaker ones are tried, until one is worse than that before.
    """
    import numpy as np

    rows = np.random.default_rng(0).permutation(len(right))[:TRIED]
    x, right, names = x[rows], right[rows], names[rows]
    folds = [made for part in range(FOLDS) if (made := _fold(x, right, names, np.arange(len(right)) % FOLDS == part))]
    best, stated = math.inf, _left_out(folds, right, math.inf)
    loss = _log_loss(stated, right)
    last = least = loss
    for penalty in PENALTIES if len(right) >= LEAST else ():
        tried = _left_out(folds, right, penalty)
        if (now := _log_loss(tried, right)) > last:
            break
        last = now
        if now < min(least, loss - GAIN):
            best, stated, least = penalty, tried, now
    return best, quality_of(stated, right)


@dataclass(slots=True)
class _Fold:
    """Rows that are left out of a fit, and those that it is made of, about their mean."""

    inside: Any
    right: Any
    odds: Any
    outside: Any
    outside_odds: Any
    rows: Any  # which are left out
    weights: Any = None


def _fold(x: Floats, right: Floats, names: Any, outside: Any) -> _Fold | None:
    if not outside.any():
        return None
    inside = ~outside if not outside.all() else outside
    base, other = _base(right[inside], names[inside])
    mean = x[inside].mean(axis=0)
    own, left = x[inside], x[outside]
    return _Fold(own - mean, right[inside], _odds(base, other, own), left - mean, _odds(base, other, left), outside)


def _left_out(folds: Sequence[_Fold], right: Floats, penalty: float) -> Floats:
    """What is stated of each row by a fit without it."""
    import numpy as np

    stated = np.zeros(len(right), np.float32)
    for fold in folds:
        odds = fold.outside_odds
        if math.isfinite(penalty):
            fold.weights = _newton(fold.inside, fold.right, fold.odds, penalty, fold.weights)
            odds = odds + fold.outside @ fold.weights
        stated[fold.rows] = _sigmoid(odds)
    return stated


def _base(right: Floats, names: Any) -> tuple[dict[str, float], float]:
    """The log odds of each category, drawn to those of all rows."""
    import numpy as np

    whole = (float(right.sum()) + 1) / (len(right) + 2)
    found = {}
    for name in np.unique(names):
        own = right[names == name]
        found[str(name)] = _logit((float(own.sum()) + PRIOR * whole) / (len(own) + PRIOR))
    return found, _logit(whole)


def _odds(base: Mapping[str, float], other: float, x: Floats) -> Floats:
    """The log odds of each row's categories, weighted by how likely each is: the last features of a row."""
    import numpy as np

    mixed: Floats = x[:, -len(CATEGORIES) :] @ np.array([base.get(name, other) for name in CATEGORIES], np.float32)
    return mixed


def _newton(x: Floats, right: Floats, odds: Floats, penalty: float, weights: Floats | None = None) -> Floats:
    """The weights, from these or from none on. Of many rows, a part of them says how the loss is curved."""
    import numpy as np

    weights = np.zeros(x.shape[1], np.float32) if weights is None else weights
    for _ in range(_STEPS):
        stated = _sigmoid(odds + x @ weights)
        slope = x.T @ (right - stated) - penalty * weights
        step = np.linalg.solve(_bent(x, odds, weights, penalty), slope).astype(np.float32)
        weights = weights + step
        if float(np.abs(step).max()) < _SMALL:
            break
    return weights


def _bent(x: Floats, odds: Floats, weights: Floats, penalty: float) -> Floats:
    """How the penalised loss is curved at these weights, a matrix."""
    import numpy as np

    part = slice(None, None, -(-len(x) // _CURVED))
    stated = _sigmoid(odds[part] + x[part] @ weights)
    bent = x[part] * np.sqrt(len(x) / len(x[part]) * stated * (1 - stated))[:, None]
    made: Floats = bent.T @ bent + penalty * np.eye(x.shape[1], dtype=np.float32)
    return made


def _sigmoid(odds: Any) -> Any:
    import numpy as np

    return 1 / (1 + np.exp(-np.clip(odds, -30, 30)))


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _log_loss(stated: Any, right: Any) -> float:
    import numpy as np

    safe = np.clip(stated, 1e-6, 1 - 1e-6)
    return float(-(right * np.log(safe) + (1 - right) * np.log(1 - safe)).mean())


def quality_of(stated: Any, right: Any) -> Quality:
    """How good stated probabilities are, beside what came true (0 to 1)."""
    import numpy as np

    at = np.minimum((stated * _BINS).astype(int), _BINS - 1)
    gap = chance = 0.0
    for n in set(at.tolist()):
        own = stated[at == n]
        gap += abs(float(right[at == n].sum() - own.sum()))
        chance += math.sqrt(2 / math.pi * float((own * (1 - own)).sum()))  # mean of |N(0, s²)|: s √(2/π)
    count = len(right)
    brier = float(((stated - right) ** 2).mean())
    return Quality(count, brier, float(right.mean() * (1 - right.mean())), gap / count, chance / count)
