"""The best use of several models for a whole file: one model an item, the most score for a budget or the least spend.

A multiple-choice knapsack. Of many items it is solved by Lagrangian relaxation (Fisher 1981): with a price on money
each item chooses for itself, the price is found by bisection, and what the budget still allows is spent greedily. Its
loss against the optimum is at most one item's gain. Of few items, where that is much, by dynamic programming over the
undominated sums of cost and score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch.errors import BatchError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

FEW = 64  # items up to which the sums themselves are followed
_STATES = 20_000  # sums that are kept then
_STEPS = 60  # of the bisection
_SAMPLE, _MARGIN = 20_000, 0.02  # items that say where the price lies, and how far around it is looked
_COARSE, _FINE = 1e-3, 1e-7  # how well the price is known, as a share of it
_ROUNDS = 12  # of spending what is left
_MANY = 50_000  # from so many items on what a few rounds leave is nothing


class AssignmentError(BatchError):
    """No assignment is possible; the text says what the least is."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The model of each item (its column), the sum of scores, the sum of costs, and the score nothing can exceed."""

    models: Ints
    score: float
    cost: float
    bound: float


def best_for_budget(score: Any, cost: Any, budget: float) -> Assignment:
    """The highest sum of scores whose costs add up to no more than the budget.

    `score` and `cost` are [items, models]; a model that may not answer an item has a score of -inf. Raises
    AssignmentError where even the cheapest models cost more.
    """
    import numpy as np

    score, cost = _checked(score, cost)
    least = float(np.where(np.isneginf(score), np.inf, cost).min(axis=1).sum())
    if least > budget:
        raise AssignmentError(f"the budget is below the least that all items cost together: {budget:.6g} < {least:.6g}")
    if len(score) <= FEW:
        return _of_few(score, cost, lambda costs, scores: _last(costs <= budget))
    return _relaxed(score, cost, budget)


def cheapest_for_score(score: Any, cost: Any, wanted: float) -> Assignment:
    """The least cost whose scores add up to `wanted` or more; arguments as of `best_for_budget`.

    Raises AssignmentError where even the best models do not reach it.
    """
    import numpy as np

    score, cost = _checked(score, cost)
    most = float(score.max(axis=1).sum())
    if most < wanted - 1e-9:
        raise AssignmentError(
            f"the best that is expected of these models is {most / len(score):.3f} on average, below "
            f"{wanted / len(score):.3f}"
        )
    if len(score) <= FEW:
        return _of_few(score, cost, lambda costs, scores: int(np.searchsorted(scores, wanted - 1e-9)))

    def dear(score: Floats, cost: Floats, price: float, share: float) -> bool:
        return _sum(score, _choice(score, cost, price)) >= wanted * share

    low, high = _prices(score, cost, dear)
    chosen = _save(score, cost, _choice(score, cost, low), _choice(score, cost, high), wanted)
    return _made(score, cost, chosen, _sum(score, chosen))


def with_dial(score: Any, cost: Any, dial: float) -> Assignment:
    """Between the cheapest assignment (dial 0) and the one with the highest score (1), by a share of the cost."""
    import numpy as np

    score, cost = _checked(score, cost)
    open_cost = np.where(np.isneginf(score), np.inf, cost)
    least = float(open_cost.min(axis=1).sum())
    best = _choice(score, cost, 0.0)
    most = _sum(cost, best)
    return best_for_budget(score, cost, least + (most - least) * min(1.0, max(0.0, dial)) + 1e-9 * abs(most))


def _checked(score: Any, cost: Any) -> tuple[Floats, Floats]:
    import numpy as np

    score, cost = np.asarray(score, np.float64), np.asarray(cost, np.float64)
    if score.ndim != 2 or score.shape != cost.shape or not score.size:
        raise AssignmentError("scores and costs must be of the same items and models, at least one of each")
    if np.isnan(score).any() or np.isnan(cost).any() or (cost < 0).any():
        raise AssignmentError("a score or a cost is not known")
    if np.isneginf(score).all(axis=1).any():
        raise AssignmentError("an item has no model that may answer it")
    return score, cost


def _relaxed(score: Floats, cost: Floats, budget: float) -> Assignment:
    free = _choice(score, cost, 0.0)
    if _sum(cost, free) <= budget:
        return _made(score, cost, free, _sum(score, free))

    def dear(score: Floats, cost: Floats, price: float, share: float) -> bool:
        return _sum(cost, _choice(score, cost, price)) > budget * share

    _, high = _prices(score, cost, dear)
    chosen = _choice(score, cost, high)
    # By weak duality no assignment within the budget has more than this.
    bound = _sum(score - high * cost, chosen) + high * budget
    chosen = _spend(score, cost, chosen, budget)
    return _made(score, cost, chosen, bound)


def _prices(score: Floats, cost: Floats, dear: Any) -> tuple[float, float]:
    """Two neighbouring prices of money: at the lower one what is chosen is still dear, at the higher one no more.

    `dear(score, cost, price, share)` tells of a share of the items. Of many, a sample of them says first where to look.
    """
    low, high = 0.0, _top_price(score, cost)
    if len(score) > 4 * _SAMPLE:
        step = len(score) // _SAMPLE
        part, share = slice(None, None, step), len(range(0, len(score), step)) / len(score)
        near = _bisected(low, high, lambda price: dear(score[part], cost[part], price, share), _COARSE)
        wide = 1 + _MARGIN
        while near[0] / wide > 0 and not dear(score, cost, near[0] / wide, 1.0):
            wide = wide * wide
        low = near[0] / wide
        wide = 1 + _MARGIN
        while near[1] * wide < high and dear(score, cost, near[1] * wide, 1.0):
            wide = wide * wide
        high = min(high, near[1] * wide)
    return _bisected(low, high, lambda price: dear(score, cost, price, 1.0), _FINE)


def _bisected(low: float, high: float, dear: Any, least: float) -> tuple[float, float]:
    for _ in range(_STEPS):
        if high - low <= least * high:
            break
        middle = _between(low, high)
        if dear(middle):
            low = middle
        else:
            high = middle
    return low, high


def _between(low: float, high: float) -> float:
    # Prices differ by orders of magnitude, so the middle of them is the geometric one once there is one.
    return (low * high) ** 0.5 if low > 0 else high / 16


def _top_price(score: Floats, cost: Floats) -> float:
    """A price of money at which nobody chooses anything but a cheapest model."""
    import numpy as np

    known = np.isfinite(score)
    spread = float(np.max(score, initial=0.0, where=known) - np.min(score, initial=0.0, where=known))
    steps = np.diff(np.sort(cost, axis=1), axis=1)
    smallest = float(np.min(steps, initial=np.inf, where=steps > 0))
    return (spread + 1e-9) / smallest * 2 if np.isfinite(smallest) else 1.0


def _choice(score: Floats, cost: Floats, price: float) -> Ints:
    """What each item chooses for itself; among equals the cheapest."""
    import numpy as np

    worth = score - price * cost
    if price == 0:
        worth = np.where(worth >= worth.max(axis=1, keepdims=True) - 1e-12, -cost, -np.inf)
    chosen: Ints = worth.argmax(axis=1)
    return chosen


def _sum(values: Floats, chosen: Ints) -> float:
    import numpy as np

    return float(np.take_along_axis(values, chosen[:, None], axis=1).sum())


def _made(score: Floats, cost: Floats, chosen: Ints, bound: float) -> Assignment:
    value = _sum(score, chosen)
    return Assignment(chosen, value, _sum(cost, chosen), max(bound, value))


def _spend(score: Floats, cost: Floats, chosen: Ints, budget: float) -> Ints:
    """Spend what is left on steps up, those with the most score for their money first."""
    chosen = chosen.copy()
    for _ in range(_rounds(chosen)):
        left = budget - _sum(cost, chosen)
        gain, extra = -_below(score, chosen), -_below(cost, chosen)
        if not _stepped(chosen, gain, extra, (gain > 1e-12) & (extra <= left), left):
            break
    return chosen


def _save(score: Floats, cost: Floats, chosen: Ints, cheaper: Ints, wanted: float) -> Ints:
    """Save what is not needed: steps down, those that save most for the score they lose first.

    At first only to the `cheaper` assignment, then to anything.
    """
    import numpy as np

    chosen = chosen.copy()
    only = np.zeros(score.shape, bool)
    differ = np.flatnonzero(chosen != cheaper)
    only[differ, cheaper[differ]] = True
    anything = np.ones(score.shape, bool)
    for allowed in (only, *[anything] * _rounds(chosen)):
        spare = _sum(score, chosen) - wanted
        saved, loss = _below(cost, chosen), _below(score, chosen)
        if not _stepped(chosen, saved, loss, (saved > 0) & (loss <= spare) & allowed, spare) and allowed is anything:
            break
    return chosen


def _below(values: Floats, chosen: Ints) -> Floats:
    """How far each model's value is below the chosen one's."""
    import numpy as np

    return np.take_along_axis(values, chosen[:, None], axis=1) - values


def _stepped(chosen: Ints, worth: Floats, price: Floats, fits: Any, left: float) -> bool:
    """Change `chosen` by one step an item at most: each offers its best that fits, the best offers are taken."""
    import numpy as np

    if not fits.any():
        return False
    rate = np.where(fits, worth / np.maximum(price, 1e-12), -1.0)
    offer = rate.argmax(axis=1)
    rows = np.arange(len(chosen))
    able = np.flatnonzero(fits[rows, offer])
    able = able[np.argsort(-rate[able, offer[able]], kind="stable")]
    total = np.cumsum(np.maximum(price[able, offer[able]], 0.0))
    taken = able[: max(1, int(np.searchsorted(total, left, side="right")))]
    chosen[taken] = offer[taken]
    return True


def _rounds(chosen: Ints) -> int:
    return _ROUNDS if len(chosen) < _MANY else 2


def _last(mask: Any) -> int:
    import numpy as np

    return int(np.flatnonzero(mask)[-1])


def _of_few(score: Floats, cost: Floats, pick: Any) -> Assignment:
    """By the undominated sums: those that none as cheap exceeds in score. Few enough of them are all kept."""
    import numpy as np

    costs, scores = np.zeros(1), np.zeros(1)
    steps: list[tuple[Ints, Ints]] = []
    for item_score, item_cost in zip(score, cost, strict=True):
        models = np.flatnonzero(np.isfinite(item_score))
        all_costs = (costs[None, :] + item_cost[models][:, None]).ravel()
        all_scores = (scores[None, :] + item_score[models][:, None]).ravel()
        order = np.lexsort((-all_scores, all_costs))
        highest = np.maximum.accumulate(all_scores[order])
        kept = order[np.concatenate(([True], highest[1:] > highest[:-1] + 1e-12))]
        if len(kept) > _STATES:
            # The cheapest of each of so many equal steps of the score; and the last one, which is the best.
            span = all_scores[kept]
            cell = ((span - span[0]) / (span[-1] - span[0]) * (_STATES - 1)).astype(np.int64)
            kept = kept[np.concatenate((np.diff(cell, prepend=-1)[:-1] > 0, [True]))]
        steps.append((kept % len(costs), models[kept // len(costs)]))
        costs, scores = all_costs[kept], all_scores[kept]
    at = pick(costs, scores)
    chosen = np.zeros(len(score), np.int64)
    for n in range(len(score) - 1, -1, -1):
        before, model = steps[n]
        chosen[n], at = model[at], before[at]
    value = _sum(score, chosen)
    return Assignment(chosen, value, _sum(cost, chosen), value)
