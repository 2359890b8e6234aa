"""Which model answers what no route decides: the items of a file together, as the user wishes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ai_router.routing.assign import AssignmentError, best_for_budget, cheapest_for_score, with_dial
from ai_router.routing.evidence import best_single
from ai_router.routing.expected import curve_of, figures_of
from ai_router.routing.plan import FilePlan, Wish
from ai_router.routing.price import price_of
from ai_router.routing.router import SAME, Router, RoutingError
from batch import prices

ROUNDING = 1e-12  # of a budget: what sums of floats are out by, which would move an item


@dataclass(slots=True)
class Items:
    """The items of a file: what each model is expected to do with them, and which of them are decided already.

    The lists of pages are of [items, models].
    """

    categories: list[str] = field(default_factory=list)
    fixed: list[int] = field(default_factory=list)  # the model that a route, or the input, has decided; -1: open
    more: list[float] = field(default_factory=list)  # what the further steps of a route's chain may cost; nan unknown
    scores: list[Any] = field(default_factory=list)  # chances; nan unknown, -inf not able
    surely: list[Any] = field(default_factory=list)  # whether that model is surely better than the best single one
    costs: list[Any] = field(default_factory=list)  # billionths of a dollar; nan unknown


def decide(router: Router, plan: FilePlan, left: Items, wish: Wish, *, curve: bool) -> None:
    """Put the lanes and reasons into the plan, and what is expected of it."""
    import numpy as np

    models = list(router.allowed)
    able, cost, fixed = np.concatenate(left.scores), np.concatenate(left.costs), np.array(left.fixed)
    score = np.where((fixed[:, None] < 0) | (fixed[:, None] == np.arange(len(models))), able, -np.inf)
    # What a route decides it decides also where its model seems not to be able to.
    score = np.where(np.isneginf(score) & (fixed[:, None] == np.arange(len(models))), np.nan, score)
    usable = ~np.isneginf(score)
    # Where nothing is known of an item's models, evidence decides nothing.
    sure = (usable & ~np.isnan(score)).any(axis=1)
    if router.routes and (fixed < 0).any():
        said = _counted(category for category, at in zip(left.categories, left.fixed, strict=True) if at < 0)
        plan.notes.append(f"No route serves {said}: evidence decides, and without it the best single or default model")
    asked = [name for name in ("budget", "quality", "dial") if getattr(wish, name) is not None]
    if len(asked) > 1:
        raise RoutingError(f"Either --{asked[0]} or --{asked[1]}: both at once say two things")
    if asked and (fixed >= 0).all():
        plan.notes.append("Routes decide every item, so no wish changes where they go")
        wish = replace(wish, quality=None, dial=None)
        asked = [name for name in asked if name == "budget"]
    if asked and (nameless := _priceless(router, plan, usable, cost, left)):
        raise RoutingError(f"No price of {nameless} is known, so --{asked[0]} cannot be held; say it as its price")
    if asked and not (sure | (fixed >= 0)).all():
        _say_unsure(plan, left, sure | (fixed >= 0))
    # Of a model that nothing is known of in a category, no more is expected than of the worst that is known.
    worst = np.where(np.isfinite(score), score, np.inf).min(axis=1, keepdims=True)
    filled = np.where(np.isnan(score), np.where(np.isinf(worst), 0.0, worst), score)
    best = best_single(router.rates, models)
    cautious = _cautious(filled, score, np.concatenate(left.surely), best, models)
    chosen = _chosen(filled, cautious, np.nan_to_num(cost), sure, wish, router, best, sum(left.more))
    explored = _explore(chosen, usable & (fixed[:, None] < 0), wish)
    _write(router, plan, left, chosen, filled, sure, explored, best)
    plan.figures = figures_of("auto", router, left, chosen, score, cost, sum(left.more))
    if curve:
        plan.curve = curve_of(router, left, able, cautious, cost, plan.figures)


def _priceless(router: Router, plan: FilePlan, usable: Any, cost: Any, left: Items) -> str:
    """A model that may answer and whose price is not known, or ""."""
    import numpy as np

    found = np.flatnonzero((np.isnan(cost) & usable).any(axis=0))
    if len(found):
        return router.allowed[int(found[0])]
    lanes = {plan.lanes[lane] for lane, more in zip(plan.lane_of, left.more, strict=True) if more != more}
    steps = [model for lane in lanes for model in router.chains[lane].use[1:]]
    return next((model for model in steps if price_of(router.registry.get(model)) is None), "")


def _cautious(filled: Any, score: Any, surely: Any, best: str | None, models: list[str]) -> Any:
    """Scores to decide by: what is not surely better than the best single model counts as no better, where that one is
    known."""
    import numpy as np

    if best is None:
        return filled
    single = score[:, [models.index(best)]]
    return np.where(surely | ~np.isfinite(single), filled, np.minimum(filled, single))


def _say_unsure(plan: FilePlan, left: Items, sure: Any) -> None:
    said = _counted(category for category, known in zip(left.categories, sure, strict=True) if not known)
    plan.notes.append(
        f"Not enough evidence for {said}: these go to the best single model, or the cheapest that is needed"
    )


def _counted(categories: Iterable[str]) -> str:
    """`math (12), coding (3)`."""
    return ", ".join(f"{name} ({count:,})" for name, count in Counter(categories).most_common())


def _chosen(
    score: Any, cautious: Any, cost: Any, sure: Any, wish: Wish, router: Router, best: str | None, more: float
) -> Any:
    """The model of each item, a column. A share right that is wanted is reckoned with the scores as they are.

    Of a budget, `more` is kept back for the further steps of chains.
    """
    import numpy as np

    single = router.allowed.index(
        best if best is not None else router.default if router.default in router.allowed else router.allowed[0]
    )
    # What nothing is known of prefers the best single model, and takes another where money asks for it.
    preferred = (cautious if wish.quality is None else score).copy()
    unsure = np.flatnonzero(~sure)
    preferred[unsure, single] = np.where(np.isneginf(score[unsure, single]), -np.inf, 0.5)
    if best is not None and (wish.budget is not None or wish.dial is not None):
        # Chances are not known well enough to leave the best single model for less than this.
        preferred[:, single] += SAME
    if wish.budget is not None:
        nanos = wish.budget * prices.NANOS * (1 + ROUNDING)
        try:
            return best_for_budget(preferred, cost, nanos - more).models
        except AssignmentError:
            least = float(np.where(np.isneginf(score), np.inf, cost).min(axis=1).sum()) + more
            one = float(np.where(np.isneginf(score), np.inf, cost).min(axis=1).min())
            what = (
                "one item's price"
                if nanos < one
                else f"the {prices.dollars(round(least))} that the cheapest models take"
            )
            raise RoutingError(f"The budget of {prices.dollars(round(nanos))} is below {what}") from None
    if wish.quality is not None:
        if not sure.any():
            raise RoutingError(
                "--quality needs evidence, and there is not enough of any category; score a dataset first"
            )
        chosen = preferred.argmax(axis=1)
        rows = np.flatnonzero(sure)
        chosen[rows] = cheapest_for_score(preferred[rows], cost[rows], wish.quality * len(rows)).models
        return chosen
    if wish.dial is not None:
        return with_dial(preferred, cost, wish.dial).models
    top = preferred.max(axis=1, keepdims=True)
    slow = np.array([_seconds(router, model) for model in router.allowed])
    order = np.where(preferred >= top - SAME, cost + slow * 1e-6, np.inf)
    return order.argmin(axis=1)


def _seconds(router: Router, model: str) -> float:
    rate = router.rates.overall.get(model)
    return rate.seconds if rate is not None else 1e3


def _explore(chosen: Any, usable: Any, wish: Wish) -> set[int]:
    """Send a share of the items to a random model that may answer them; returns which. Not under a budget."""
    if not wish.explore or wish.budget is not None:
        return set()
    draw = random.Random(wish.seed)
    rows = {row for row in range(len(chosen)) if draw.random() < wish.explore and usable[row].any()}
    for row in rows:
        chosen[row] = draw.choice([at for at in range(usable.shape[1]) if usable[row, at]])
    return rows


def _write(
    router: Router,
    plan: FilePlan,
    left: Items,
    chosen: Any,
    score: Any,
    sure: Any,
    explored: set[int],
    best: str | None,
) -> None:
    """The lanes and reasons into the plan. Reasons are rounded, so that there are few of them."""
    for row, fixed in enumerate(left.fixed):
        if fixed >= 0:
            continue
        model, category = router.allowed[chosen[row]], left.categories[row]
        if row in explored:
            why = f"{category}: explores {model}"
        elif sure[row] and model in router.predictors:
            why = router.because(model, category, round(float(score[row, chosen[row]]) * 20) / 20)
        elif sure[row]:
            why = f"{category}: the cheapest that the wish allows"
        elif best == model:
            known = router.rates.overall[model]
            why = f"not enough evidence for {category}; best single model, {known.mean:.0%} of {known.n} right"
        else:
            why = f"not enough evidence for {category}; the default model"
        plan.put(row, model, why)
