"""The plan of a whole file before anything runs: the file is read once, and all of it is decided together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ai_router.models import ModelSpec
from ai_router.routing.categories import category_of
from ai_router.routing.deciding import Undecided, decide
from ai_router.routing.evidence import category_in, vector
from ai_router.routing.plan import FilePlan, Wish
from ai_router.routing.router import Choice, Router, RoutingError
from ai_router.routing.rules import about_tokens, known
from batch import prices
from batch.items import Request
from batch.options import SamplingOptions

PAGE = 1000
UNKNOWN_OUTPUT = 256  # tokens of an answer of which nothing is known


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
    left = Undecided()
    page: list[tuple[Request, Choice]] = []
    models = list(router.allowed)
    for number, given in enumerate(requests):
        request = Request(given) if isinstance(given, str) else given
        guess = category_in(vector(request.text)) if router.predictors else category_of(request.text)
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
        decide(router, plan, left, wish, curve=curve)
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
    left: Undecided,
    cost_of: Callable[[str, int, float], float | None],
    limit: int,
) -> None:
    """Chances and costs of a page of items, for each allowed model; -inf where a model may not answer."""
    import numpy as np

    models = router.allowed
    score = np.full((len(page), len(models)), np.nan)
    cost = np.full((len(page), len(models)), np.nan)
    surely = np.zeros(score.shape, bool)
    if router.predictors:
        score, surely = router.judged([vector(request.text) for request, _ in page], models)
    for at, model in enumerate(models):
        for row, (request, choice) in enumerate(page):
            if model not in choice.models:
                score[row, at] = -np.inf
            rate = router.rates.of(model, choice.category) or router.rates.overall.get(model)
            tokens = rate.tokens_output if rate is not None and rate.tokens_output else min(limit, UNKNOWN_OUTPUT)
            priced = cost_of(model, about_tokens(request.text), tokens)
            cost[row, at] = np.nan if priced is None else priced
    left.scores.append(score)
    left.surely.append(surely)
    left.costs.append(cost)
