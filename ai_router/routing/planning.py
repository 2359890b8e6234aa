"""The plan of a whole file before anything runs: each item's model, why, what all will cost and how good it will be."""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ai_router.models import ModelSpec
from ai_router.routing.assign import AssignmentError, best_for_budget, cheapest_for_score, with_dial
from ai_router.routing.categories import category_of
from ai_router.routing.cues import CATEGORIES
from ai_router.routing.evidence import ENOUGH, Rate, best_single, vector
from ai_router.routing.router import SAME, Chain, Choice, Router, RoutingError
from ai_router.routing.rules import about_tokens, known
from batch import prices
from batch.items import Request
from batch.options import SamplingOptions

PAGE = 1000
UNKNOWN_OUTPUT = 256  # tokens of an answer of which nothing is known
Z95 = 1.96


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of a file. At most one of `budget` (dollars), `quality` (0 to 1) and `dial` (0 to 1) is said."""

    budget: float | None = None
    quality: float | None = None
    dial: float | None = None
    explore: float = 0.0  # the share of items that go to a random allowed model, so that the evidence stays honest
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What is expected of an assignment, with 95 % intervals. Score is the share right, None where nothing is known."""

    name: str
    score: tuple[float, float, float] | None
    cost: tuple[float, float, float] | None  # billionths of a dollar; None where a price is not known
    seconds: float | None
    known: int = 0  # items whose score is known


@dataclass(slots=True)
class FilePlan:
    """The lanes of all items, in the file's order."""

    lanes: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    lane_of: array[int] = field(default_factory=lambda: array("H"))
    reason_of: array[int] = field(default_factory=lambda: array("I"))
    chains: dict[str, Chain] = field(default_factory=dict)
    categories: Counter[str] = field(default_factory=Counter)
    figures: Figures | None = None
    curve: list[Figures] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lane_of)

    def counts(self) -> list[tuple[str, int]]:
        """How many items each lane has, most first."""
        return Counter(self.lanes[n] for n in self.lane_of).most_common()

    def why(self) -> list[tuple[str, str, int]]:
        """Lanes with their reasons and how many items go there for each, most first."""
        pairs = Counter(zip(self.lane_of, self.reason_of, strict=True))
        return [(self.lanes[lane], self.reasons[reason], n) for (lane, reason), n in pairs.most_common()]

    def directed(self, requests: Iterable[Request | str]) -> Iterator[Request]:
        """The same requests, each with its model and the reason. Raises RoutingError where the file has changed."""
        count = 0
        for count, given in enumerate(requests, 1):
            request = Request(given) if isinstance(given, str) else given
            if count > len(self):
                break
            lane, reason = self.lane_of[count - 1], self.reason_of[count - 1]
            yield replace(request, model=self.lanes[lane], reason=self.reasons[reason])
        if count != len(self):
            raise RoutingError("The file has changed since its plan was made; begin again")

    def put(self, at: int | None, lane: str, reason: str) -> None:
        """Decide an item: the next one, or the one at a place."""
        lane_number, reason_number = _number(self.lanes, lane), self._reason(reason)
        if at is None:
            self.lane_of.append(lane_number)
            self.reason_of.append(reason_number)
        else:
            self.lane_of[at], self.reason_of[at] = lane_number, reason_number

    def _reason(self, reason: str) -> int:
        if reason not in self._known:
            self._known[reason] = len(self.reasons)
            self.reasons.append(reason)
        return self._known[reason]

    _known: dict[str, int] = field(default_factory=dict)


def _number(names: list[str], name: str) -> int:
    if name not in names:
        names.append(name)
    return names.index(name)


@dataclass(slots=True)
class _Open:
    """The items that no route decides: what each model is expected to do with them."""

    at: list[int] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    scores: list[Any] = field(default_factory=list)  # pages of [items, models]
    costs: list[Any] = field(default_factory=list)


def plan_file(
    router: Router,
    requests: Iterable[Request | str],
    wish: Wish | None = None,
    *,
    sampling: SamplingOptions | None = None,
    progress: Callable[[int], None] | None = None,
    curve: bool = False,
    cost_of: Callable[[str, int, float], float | None] | None = None,
) -> FilePlan:
    """Read a file once and decide all of it. Raises RoutingError, RouteError or AssignmentError.

    `cost_of(model, tokens in, tokens out)` is in billionths of a dollar, None where unknown; without it prices say.
    """
    wish = wish or Wish()
    plan = FilePlan()
    cost = cost_of or Costs(router).of
    limit = (sampling or SamplingOptions()).max_tokens
    left = _Open()
    page: list[tuple[Request, Choice]] = []
    models = list(router.allowed)
    for number, given in enumerate(requests):
        request = Request(given) if isinstance(given, str) else given
        guess = category_of(request.text)
        plan.categories[guess.category] += 1
        category = (guess.category, guess.probability)
        choice = _named(router, request, category) or router.by_rule(request, category)
        if choice is not None:
            plan.put(None, choice.lane, choice.reason)
            continue
        plan.put(None, models[0], "")
        left.at.append(number)
        left.categories.append(guess.category)
        page.append((request, Choice("", tuple(router.able(request)), "", *category)))
        if len(page) == PAGE:
            _expect(router, page, left, cost, limit)
            page = []
            if progress:
                progress(number + 1)
    if page:
        _expect(router, page, left, cost, limit)
    if len(plan) == 0:
        raise RoutingError("There is nothing to route: the file has no prompts")
    if left.at:
        _decide(router, plan, left, wish, curve=curve)
    elif wish.budget is not None or wish.quality is not None:
        plan.notes.append("Routes decide every item, so neither a budget nor a quality changes anything")
    plan.chains = {lane: chain for lane, chain in router.chains.items() if lane in plan.lanes}
    return plan


def _named(router: Router, request: Request, category: tuple[str, float]) -> Choice | None:
    """The model that a line of the input names, where the job may use it."""
    spec = known(router.registry, request.model) if request.model else None
    if spec is None or spec.id not in router.allowed:
        return None
    return Choice(spec.id, (spec.id,), "the input names it", *category)


class Costs:
    """What an answer of a model costs, from its price and its tokens."""

    def __init__(self, router: Router) -> None:
        self._prices = {model: price_of(router.registry.get(model)) for model in router.allowed}

    def of(self, model: str, tokens_input: int, tokens_output: float) -> float | None:
        """Billionths of a dollar; None where no price is known."""
        price = self._prices[model]
        if price is None:
            return None
        return price.cost(prices.Usage(tokens_input, round(tokens_output)))


def price_of(spec: ModelSpec) -> prices.Price | None:
    """A model's price: none of a local one's, a server's as its entry says or as the table knows it."""
    if not spec.is_remote:
        return prices.FREE
    said = spec.engine_options.get("price")
    name = str(spec.engine_options.get("model", spec.id))
    provider = spec.engine_options.get("provider")
    if isinstance(said, Mapping):
        return prices.price_of(said, name, "models.yaml")
    return prices.find(str(said) if said else name, provider) or prices.find(name)


def _expect(
    router: Router,
    page: list[tuple[Request, Choice]],
    left: _Open,
    cost_of: Callable[[str, int, float], float | None],
    limit: int,
) -> None:
    """Chances and costs of a page of items, for each allowed model; -inf where a model may not answer."""
    import numpy as np

    models = router.allowed
    score = np.full((len(page), len(models)), np.nan)
    cost = np.full((len(page), len(models)), np.nan)
    vectors = np.array([vector(request.text) for request, _ in page], np.float32) if router.predictors else None
    for at, model in enumerate(models):
        if vectors is not None and model in router.predictors:
            known = vectors[:, -len(CATEGORIES) :] @ np.array(router.graded(model), np.float32) >= ENOUGH
            chances = router.predictors[model].chances(vectors)
            score[known, at] = np.clip(chances[known], 0.0, 1.0)
        for row, (request, choice) in enumerate(page):
            if model not in choice.models:
                score[row, at] = -np.inf
            rate = router.rates.of(model, choice.category) or router.rates.overall.get(model)
            tokens = rate.tokens_output if rate is not None and rate.tokens_output else min(limit, UNKNOWN_OUTPUT)
            priced = cost_of(model, about_tokens(request.text), tokens)
            cost[row, at] = np.nan if priced is None else priced
    left.scores.append(score)
    left.costs.append(cost)


def _decide(router: Router, plan: FilePlan, left: _Open, wish: Wish, *, curve: bool) -> None:
    import numpy as np

    models = list(router.allowed)
    score, cost = np.concatenate(left.scores), np.concatenate(left.costs)
    usable = ~np.isneginf(score)
    # Where nothing is known of an item's models, evidence decides nothing.
    sure = (usable & ~np.isnan(score)).any(axis=1)
    asked = [name for name in ("budget", "quality", "dial") if getattr(wish, name) is not None]
    if len(asked) > 1:
        raise RoutingError(f"Either --{asked[0]} or --{asked[1]}: both at once say two things")
    if asked and np.isnan(cost[usable]).any():
        nameless = [model for at, model in enumerate(models) if np.isnan(cost[:, at]).any()]
        raise RoutingError(f"No price of {nameless[0]} is known, so --{asked[0]} cannot be held; say it as its price")
    if asked and not sure.all():
        _say_unsure(plan, left, sure)
    # Of a model that nothing is known of in a category, no more is expected than of the worst that is known.
    worst = np.where(np.isfinite(score), score, np.inf).min(axis=1, keepdims=True)
    filled = np.where(np.isnan(score), np.where(np.isinf(worst), 0.0, worst), score)
    best = best_single(router.rates, models)
    chosen = _chosen(filled, np.nan_to_num(cost), sure, wish, router, best)
    explored = _explore(chosen, usable, wish)
    _write(router, plan, left, chosen, filled, sure, explored, best)
    plan.figures = _figures("auto", router, left, chosen, score, cost)
    if curve:
        plan.curve = _curve(router, left, score, filled, cost, plan.figures)


def _say_unsure(plan: FilePlan, left: _Open, sure: Any) -> None:
    names = Counter(category for category, known in zip(left.categories, sure, strict=True) if not known)
    said = ", ".join(f"{name} ({count:,})" for name, count in names.most_common())
    plan.notes.append(
        f"Not enough evidence for {said}: these go to the best single model, or the cheapest that is needed"
    )


def _chosen(score: Any, cost: Any, sure: Any, wish: Wish, router: Router, best: str | None) -> Any:
    """The model of each item, a column."""
    import numpy as np

    single = router.allowed.index(
        best if best is not None else router.default if router.default in router.allowed else router.allowed[0]
    )
    # What nothing is known of prefers the best single model, and takes another where money asks for it.
    preferred = score.copy()
    unsure = np.flatnonzero(~sure)
    preferred[unsure, single] = np.where(np.isneginf(score[unsure, single]), -np.inf, 0.5)
    if best is not None and (wish.budget is not None or wish.dial is not None):
        # Chances are not known well enough to leave the best single model for less than this.
        preferred[:, single] += SAME
    if wish.budget is not None:
        nanos = wish.budget * prices.NANOS
        try:
            return best_for_budget(preferred, cost, nanos).models
        except AssignmentError:
            least = float(np.where(np.isneginf(score), np.inf, cost).min(axis=1).sum())
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
    rows = {row for row in range(len(chosen)) if draw.random() < wish.explore}
    for row in rows:
        chosen[row] = draw.choice([at for at in range(usable.shape[1]) if usable[row, at]])
    return rows


def _write(
    router: Router,
    plan: FilePlan,
    left: _Open,
    chosen: Any,
    score: Any,
    sure: Any,
    explored: set[int],
    best: str | None,
) -> None:
    """The lanes and reasons into the plan. Reasons are rounded, so that there are few of them."""
    for row, at in enumerate(left.at):
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
        plan.put(at, model, why)


def _figures(name: str, router: Router, left: _Open, chosen: Any, score: Any, cost: Any) -> Figures:
    """What is expected of an assignment; its score is of the items whose model is known in their category."""
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
    if not np.isnan(own).any():
        total, doubt = float(own.sum()), _doubt(router, left, chosen, own)
        spent = (total, max(0.0, total - doubt), total + doubt)
    times = [_time(router, router.allowed[at], left.categories[row]) for row, at in enumerate(chosen)]
    seconds = None if any(one is None for one in times) else sum(one for one in times if one is not None)
    return Figures(name, expected, spent, seconds, len(known))


def _variance(router: Router, left: _Open, chosen: Any, known: Any) -> float:
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


def _doubt(router: Router, left: _Open, chosen: Any, cost: Any) -> float:
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


def _curve(router: Router, left: _Open, score: Any, filled: Any, cost: Any, auto: Figures) -> list[Figures]:
    """Each model alone, auto, and points of the dial between."""
    import numpy as np

    usable = ~np.isneginf(score)
    made = [auto]
    for at, model in enumerate(router.allowed):
        if usable[:, at].all():
            made.append(_figures(f"all {model}", router, left, np.full(len(score), at), score, cost))
    if not np.isnan(cost[usable]).any() and np.ptp(np.where(usable, cost, 0.0)) > 0:
        for dial in (0.1, 0.25, 0.5, 0.75):
            chosen = with_dial(filled, np.nan_to_num(cost), dial).models
            made.append(_figures(f"auto, dial {dial:g}", router, left, chosen, score, cost))
    return sorted(made, key=lambda one: (one.cost is None, one.cost or (0.0,), one.seconds or 0.0))
