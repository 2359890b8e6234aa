"""The plan of a whole file before anything runs: the file is read once, and all of it is decided together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from ai_router.routing.categories import category_of
from ai_router.routing.deciding import Items, decide
from ai_router.routing.evidence import category_in, vector
from ai_router.routing.plan import FilePlan, Wish
from ai_router.routing.price import Costs
from ai_router.routing.router import Chain, Choice, Router, RoutingError
from ai_router.routing.rules import about_tokens
from batch.items import Request
from batch.options import AS_MODEL, SamplingOptions, nearest

CostOf = Callable[[str, int, float], float | None]

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
    lane: str = AS_MODEL,
    cost_of: CostOf | None = None,
) -> FilePlan:
    """Read a file once and decide all of it. Raises RoutingError, RouteError or AssignmentError.

    `lane` is the run's choice between a provider's batches and its answers at once. `cost_of(model, tokens in,
    tokens out)` is in billionths of a dollar, None where unknown; without it prices say.
    """
    wish = wish or Wish()
    plan = FilePlan()
    costs: dict[str, CostOf] = {}

    def cost(way: str) -> CostOf:
        """As the run has it, or as a route says of a provider's model."""
        if way not in costs:
            costs[way] = cost_of or Costs(router.registry, router.allowed, way or lane).of
        return costs[way]

    limit = (sampling or SamplingOptions()).max_tokens
    items = Items()
    page: list[tuple[Request, Choice]] = []
    models = list(router.allowed)
    columns: set[str] = set()
    number = 0
    for number, given in enumerate(requests, 1):
        request = Request(given) if isinstance(given, str) else given
        columns.update(request.columns or ())
        guess = category_in(vector(request.text)) if router.predictors else category_of(request.text)
        plan.categories[guess.category] += 1
        category = (guess.category, guess.probability)
        choice = _named(router, request, category) or router.by_rule(request, category)
        items.categories.append(guess.category)
        items.fixed.append(-1 if choice is None else models.index(choice.models[0]))
        plan.put(None, choice.lane if choice else models[0], choice.reason if choice else "")
        page.append((request, choice or Choice("", tuple(router.able(request)), "", *category)))
        if len(page) == PAGE:
            _estimate(router, page, items, cost, limit)
            page = []
            if progress:
                progress(number)
    if page:
        _estimate(router, page, items, cost, limit)
    if not number:
        raise RoutingError("There is nothing to route: the file has no prompts")
    decide(router, plan, items, wish, curve=curve)
    plan.notes += router.left_out + _missing_columns(router, columns)
    plan.chains = {lane: chain for lane, chain in router.chains.items() if lane in plan.lanes}
    return plan


def _missing_columns(router: Router, there: set[str]) -> list[str]:
    """A sentence for each column that a route asks for and no item has: such a route never matches."""
    found = []
    for route in router.routes:
        for name in route.match.columns.keys() - there:
            near = nearest(name, there)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(sorted(there)) or 'none'}"
            found.append(f"The route in line {route.line} asks for a column {name} that no item has ({hint})")
    return found


def _named(router: Router, request: Request, category: tuple[str, float]) -> Choice | None:
    """The model that a line of the input names, where the job may use it."""
    spec = router.registry.listed(request.model) if request.model else None
    if spec is None or spec.id not in router.allowed:
        return None
    return Choice(spec.id, (spec.id,), "the input names it", *category)


def _estimate(
    router: Router,
    page: list[tuple[Request, Choice]],
    items: Items,
    cost_of: Callable[[str], CostOf],
    limit: int,
) -> None:
    """Chances and costs of a page of items, for each allowed model; -inf where a model may not answer."""
    import numpy as np

    models = router.allowed
    score = np.full((len(page), len(models)), np.nan)
    cost = np.full((len(page), len(models)), np.nan)
    surely = np.zeros(score.shape, bool)

    def priced(model: str, request: Request, category: str, way: str) -> float:
        rate = router.rates.of(model, category) or router.rates.overall.get(model)
        tokens = rate.tokens_output if rate is not None and rate.tokens_output else min(limit, UNKNOWN_OUTPUT)
        found = cost_of(way)(model, about_tokens(request.text), tokens)
        return math.nan if found is None else found

    if router.predictors:
        score, surely = router.judged([vector(request.text) for request, _ in page], models)
    for row, (request, choice) in enumerate(page):
        chain = router.chains.get(choice.lane)
        way = chain.lane if chain else ""
        each = {model: priced(model, request, choice.category, way) for model in {*models, *choice.models}}
        cost[row] = [each[model] for model in models]
        able = choice.models if choice.lane == "" else router.able(request, least=0)
        score[row, [model not in able for model in models]] = -np.inf
        items.more.append(_further(chain, each))
    items.scores.append(score)
    items.surely.append(surely)
    items.costs.append(cost)


def _further(chain: Chain | None, each: Mapping[str, float]) -> float:
    """What the steps of a chain after the first answer may cost; a check by two samples asks its model twice."""
    if chain is None:
        return 0.0
    again = each[chain.use[0]] if chain.check and chain.check.get("agree") else 0.0
    return again + sum(each[model] for model in chain.use[1:])
