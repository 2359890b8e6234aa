"""What is expected of an assignment: its score and cost with 95 % intervals, its time; and the curve between plans."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ai_router.routing.assign import with_dial
from ai_router.routing.evidence import Rate
from ai_router.routing.plan import Figures
from ai_router.routing.router import Router

if TYPE_CHECKING:
    from ai_router.routing.deciding import Items

Z95 = 1.96


def figures_of(
    name: str, router: Router, left: Items, chosen: Any, score: Any, cost: Any, more: float = 0.0
) -> Figures:
    """What is expected of an assignment; its score is of the items whose model is known in their category.

    `more` is what the further steps of chains may cost, which counts for the upper end alone.
    """
    import numpy as np

    rows = np.arange(len(chosen))
    known = np.flatnonzero(np.isfinite(score[rows, chosen]))
    expected = None
    if len(known):
        mean = float(np.clip(score[known, chosen[known]], 0, 1).mean())
        reach = Z95 * math.sqrt(_variance(router, left, chosen, known))
        expected = (mean, max(0.0, mean - reach), min(1.0, mean + reach))
    own = cost[rows, chosen]
    spent = None
    if not np.isnan(own).any() and more == more:
        total, doubt = float(own.sum()), _doubt(router, left, chosen, own)
        spent = (total, max(0.0, total - doubt), total + doubt + more)
    times = [_time(router, router.allowed[at], left.categories[row]) for row, at in enumerate(chosen)]
    seconds = None if any(one is None for one in times) else sum(one for one in times if one is not None)
    return Figures(name, expected, spent, seconds, len(known))


def _variance(router: Router, left: Items, chosen: Any, known: Any) -> float:
    """Of the mean score: what the rates' posteriors leave open, and that each answer is right or wrong."""
    groups = Counter((router.allowed[chosen[row]], left.categories[row]) for row in known)
    total = 0.0
    for (model, category), count in groups.items():
        rate = router.rates.of(model, category)
        if rate is None:
            continue
        share = count / len(known)
        total += share**2 * ((rate.high - rate.low) / (2 * Z95)) ** 2 + rate.mean * (1 - rate.mean) * share / len(known)
    return total


def _doubt(router: Router, left: Items, chosen: Any, cost: Any) -> float:
    """Half the width of the interval of a sum of costs.

    An answer is about as uncertain as it is long; where nothing is known of a model's answers, all of them together.
    """
    guessed = sum(float(cost[row]) for row, at in enumerate(chosen) if router.allowed[at] not in router.rates.overall)
    own = math.sqrt(
        sum(float(cost[row]) ** 2 for row, at in enumerate(chosen) if router.allowed[at] in router.rates.overall)
    )
    return Z95 * own + guessed


def _time(router: Router, model: str, category: str) -> float | None:
    rate: Rate | None = router.rates.of(model, category) or router.rates.overall.get(model)
    return None if rate is None or not rate.seconds else rate.seconds


def curve_of(router: Router, left: Items, score: Any, filled: Any, cost: Any, auto: Figures) -> list[Figures]:
    """Each model alone, auto, and points of the dial between."""
    import numpy as np

    usable = ~np.isneginf(score)
    made = [auto]
    for at, model in enumerate(router.allowed):
        if usable[:, at].all():
            alone = figures_of(f"all {model}", router, left, np.full(len(score), at), score, cost)
            made.append(replace(alone, model=model))
    if not np.isnan(cost[usable]).any() and np.ptp(np.where(usable, cost, 0.0)) > 0:
        for dial in (0.1, 0.25, 0.5, 0.75):
            chosen = with_dial(filled, np.nan_to_num(cost), dial).models
            between = figures_of(f"auto, dial {dial:g}", router, left, chosen, score, cost)
            made.append(replace(between, dial=dial))
    return sorted(made, key=lambda one: (one.cost is None, one.cost or (0.0,), one.seconds or 0.0))
