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
PENALTIES = (math.inf, 30.0, 10.0, 3.0, 1.0, 0.3)
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


@dataclass(frozen=True, slots=True)
class Predictor:
    """One model's chances of being right."""

    model: str
    base: Mapping[str, float]  # log odds of each category
    other: float  # of a category without rows
    weights: Any  # one a feature, or None where features say nothing
    mean: Any
    quality: Quality

    def chances(self, vectors: Any) -> Any:
        """Of each prompt, 0 to 1; `vectors` are as of `evidence.vector`, a row each."""
        import numpy as np

        x = np.asarray(vectors, np.float32)
        odds = _odds(self.base, self.other, x)
        if self.weights is not None:
            odds = odds + (x - self.mean) @ self.weights
        return _sigmoid(odds)

    def chance(self, text: str) -> float:
        """Of one prompt."""
        return float(self.chances([vector(text)])[0])


def fit(evidence: Evidence, model: str) -> Predictor | None:
    """The predictor of a model from all its rows; None where it has none."""
    if model not in evidence.rates().overall:
        return None
    return fit_rows(model, *evidence.rows(model))


def fit_rows(model: str, x: Floats, right: Floats, categories: Sequence[str]) -> Predictor:
    """The same from rows at hand: features [rows, features], right (0 to 1), category of each."""
    import numpy as np

    names = np.array(categories)
    penalty, quality = _tried(x, right, names)
    base, other = _base(right, names)
    weights = mean = None
    if math.isfinite(penalty):
        mean = x.mean(axis=0)
        weights = _newton(x - mean, right, _odds(base, other, x), penalty)
    return Predictor(model, base, other, weights, mean, quality)


def _tried(x: Floats, right: Floats, names: Any) -> tuple[float, Quality]:
    """The penalty with the least log loss on rows left out, and how good its probabilities are there."""
    import numpy as np

    rows = np.random.default_rng(0).permutation(len(right))[:TRIED]
    x, right, names = x[rows], right[rows], names[rows]
    fold = np.arange(len(right)) % FOLDS
    tried = PENALTIES if len(right) >= LEAST else (math.inf,)
    stated = {penalty: np.zeros(len(right), np.float32) for penalty in tried}
    for part in range(FOLDS):
        inside, outside = fold != part, fold == part
        if not inside.any() or not outside.any():
            inside = outside = fold >= 0
        base, other = _base(right[inside], names[inside])
        own = _odds(base, other, x[outside])
        mean = x[inside].mean(axis=0)
        centred, given, weights = x[inside] - mean, _odds(base, other, x[inside]), None
        for penalty in tried:
            odds = own
            if math.isfinite(penalty):
                weights = _newton(centred, right[inside], given, penalty, weights)
                odds = own + (x[outside] - mean) @ weights
            stated[penalty][outside] = _sigmoid(odds)
    losses = {penalty: _log_loss(stated[penalty], right) for penalty in tried}
    best = min(losses, key=lambda penalty: losses[penalty])
    if losses[best] > losses[math.inf] - GAIN:
        best = math.inf
    return best, _quality(stated[best], right)


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

    width = x.shape[1]
    weights = np.zeros(width, np.float32) if weights is None else weights
    part = slice(None, None, -(-len(x) // _CURVED))
    scale = len(x) / len(x[part])
    shrink = penalty * np.eye(width, dtype=np.float32)
    for _ in range(_STEPS):
        stated = _sigmoid(odds + x @ weights)
        slope = x.T @ (right - stated) - penalty * weights
        bend = np.sqrt(scale * stated[part] * (1 - stated[part]))
        bent = x[part] * bend[:, None]
        step = np.linalg.solve(bent.T @ bent + shrink, slope).astype(np.float32)
        weights = weights + step
        if float(np.abs(step).max()) < _SMALL:
            break
    return weights


def _sigmoid(odds: Any) -> Any:
    import numpy as np

    return 1 / (1 + np.exp(-np.clip(odds, -30, 30)))


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _log_loss(stated: Any, right: Any) -> float:
    import numpy as np

    safe = np.clip(stated, 1e-6, 1 - 1e-6)
    return float(-(right * np.log(safe) + (1 - right) * np.log(1 - safe)).mean())


def _quality(stated: Any, right: Any) -> Quality:
    import numpy as np

    at = np.minimum((stated * _BINS).astype(int), _BINS - 1)
    gaps = [
        abs(float(right[at == n].mean() - stated[at == n].mean())) * float((at == n).mean()) for n in set(at.tolist())
    ]
    brier = float(((stated - right) ** 2).mean())
    return Quality(len(right), brier, float(right.mean() * (1 - right.mean())), sum(gaps))
