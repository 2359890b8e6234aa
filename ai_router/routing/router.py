"""One item at a time: the model that answers it, and why. By the user's routes, then by evidence, else plainly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ai_router.models import ModelSpec, Registry
from ai_router.routing.categories import category_of
from ai_router.routing.cues import CATEGORIES
from ai_router.routing.evidence import ENOUGH, Evidence, Rates, best_single, vector
from ai_router.routing.predictor import Predictor, fit
from ai_router.routing.rules import Route, RouteError, about_tokens, lane_of, read_routes
from batch.errors import BatchError
from batch.items import Request

SURE = 1.2816  # standard deviations: better with a probability of 0.9, from which on the best single model is left
SAME = 0.05  # of chances, about how far they are from the truth: what is no better is decided by cost, then time


class RoutingError(BatchError):
    """What cannot be routed as it was asked for; one sentence."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What a job keeps of a route of several models: which, in which order, and the check between them."""

    use: tuple[str, ...]
    check: Mapping[str, object] | None = None
    pass_filtered: bool = False  # whether what a content filter holds back goes on
    lane: str = ""  # of a provider's model, where the route says `batch`, `now` or `auto`


@dataclass(frozen=True, slots=True)
class Choice:
    """The lane of an item (a model's id, or a chain), in which category it falls, why, and how sure that is."""

    lane: str
    models: tuple[str, ...]
    reason: str
    category: str
    probability: float  # of the category
    chance: float | None = None  # that the answer is right, where evidence says so
    by: str = "rule"  # "rule", "evidence", "best single" or "default"


@dataclass(slots=True)
class Router:
    """Everything that decides: the routes, the models that may be used, and what is known of them."""

    registry: Registry
    allowed: tuple[str, ...]
    routes: list[Route]
    rates: Rates
    predictors: dict[str, Predictor] = field(default_factory=dict)
    default: str = ""
    chains: dict[str, Chain] = field(default_factory=dict)
    only: tuple[str, ...] = ()  # the models that were named as the only ones, fallbacks included

    def by_rule(self, request: Request, category: tuple[str, float]) -> Choice | None:
        """What the routes say; None where none matches."""
        for route in self.routes:
            if (why := route.fits(request, category)) is not None:
                where = route.name or f"route in line {route.line}"
                models = tuple(model for model in route.use if self._has_room(model, request))
                if not models:
                    raise RoutingError(
                        f"An item of about {about_tokens(request.text):,} tokens is too long for every model of the "
                        f"{where}: {', '.join(route.use)}"
                    )
                lane = route.lane
                if models != route.use:
                    why = f"{why}; too long for {', '.join(m for m in route.use if m not in models)}"
                    lane = lane_of(models, route)
                self._remember(lane, models, route)
                return Choice(lane, models, f"{where}: {why}", *category, by="rule")
        return None

    def _remember(self, lane: str, models: tuple[str, ...], route: Route) -> None:
        if (len(models) > 1 or route.way) and lane not in self.chains:
            import json

            said = json.loads(route.check.said) if route.check else None
            self.chains[lane] = Chain(models, said if len(models) > 1 else None, route.pass_filtered, route.way)

    def _has_room(self, model: str, request: Request) -> bool:
        spec = self.registry.get(model)
        return spec.context is None or about_tokens(request.text) < spec.context

    @property
    def left_out(self) -> list[str]:
        """A sentence for each fallback that models.yaml gives to a model and this job may not use."""
        return [
            f"{model} does not fall back to {other}, which is not among the models that this job may use"
            for model in self.only
            for other in self.registry.get(model).fallback
            if other not in self.only
        ]

    @property
    def widest(self) -> ModelSpec:
        """The allowed model that takes the longest prompts."""
        specs = [self.registry.get(model) for model in self.allowed]
        return max(specs, key=lambda spec: float("inf") if spec.context is None else spec.context)

    def able(self, request: Request, *, least: int = 1) -> list[str]:
        """The allowed models whose context takes the item. Raises RoutingError where there are fewer than `least`."""
        found = [model for model in self.allowed if self._has_room(model, request)]
        if len(found) < least:
            raise RoutingError(
                f"An item of about {about_tokens(request.text):,} tokens is too long for every model here"
            )
        return found

    def choose(self, request: Request) -> Choice:
        """The model of one item alone: the likeliest to be right; among equals the cheapest, then the fastest."""
        guess = category_of(request.text)
        category = (guess.category, guess.probability)
        if (choice := self.by_rule(request, category)) is not None:
            return choice
        able = self.able(request)
        chances, surely = self._one(request.text, able)
        if not chances:
            return self.plainly(able, category)
        single = best_single(self.rates, able)
        most = chances.get(single or "", 1.0)
        counted = {model: chance if model in surely else min(chance, most) for model, chance in chances.items()}
        top = max(counted.values())
        near = [model for model, chance in counted.items() if chance >= top - SAME]
        model = min(near, key=lambda name: (self._cost(name), self._seconds(name)))
        return Choice(
            model, (model,), self.because(model, guess.category, chances[model]), *category, chances[model], "evidence"
        )

    def ranked(self, request: Request, choice: Choice) -> list[str]:
        """The models to try one after the other: those of the choice, then the likeliest of the others."""
        others = [model for model in self.able(request, least=0) if model not in choice.models]
        chances = self.chances(request.text, others)
        return [*choice.models, *sorted(others, key=lambda model: -chances.get(model, 0.0))]

    def plainly(self, able: Sequence[str], category: tuple[str, float]) -> Choice:
        """Where there is not enough evidence: the best single model, else the default."""
        best = best_single(self.rates, able)
        if best is not None:
            rate = self.rates.overall[best]
            why = f"not enough evidence for {category[0]}; best single model, {rate.mean:.0%} of {rate.n} right"
            return Choice(best, (best,), why, *category, rate.mean, "best single")
        model = self.default if self.default in able else able[0]
        return Choice(model, (model,), "not enough evidence; the default model", *category, by="default")

    def chances(self, text: str, models: Sequence[str]) -> dict[str, float]:
        """Of each model that enough is known of for such a prompt; empty where that is not so of any."""
        return self._one(text, models)[0]

    def _one(self, text: str, models: Sequence[str]) -> tuple[dict[str, float], set[str]]:
        """Chances by model, and the models that are surely better than the best single one of them."""
        if not any(model in self.predictors for model in models):
            return {}, set()
        chances, surely = self.judged([vector(text)], models)
        known = {model: float(chances[0, at]) for at, model in enumerate(models) if chances[0, at] == chances[0, at]}
        return known, {model for at, model in enumerate(models) if surely[0, at]}

    def judged(self, vectors: Any, models: Sequence[str]) -> tuple[Any, Any]:
        """Of prompts (rows as of `evidence.vector`) and models: chances, nan where not enough is known, and which
        models are better than the best single one of them with a probability of 0.9 or more. Needs numpy.

        What was graded in a category counts as far as a prompt is likely to belong there.
        """
        import numpy as np

        x = np.asarray(vectors, np.float32)
        odds, doubt = np.full((len(x), len(models)), np.nan), np.zeros((len(x), len(models)))
        for at, model in enumerate(models):
            if model in self.predictors:
                known = x[:, -len(CATEGORIES) :] @ np.array(self._graded(model), np.float32) >= ENOUGH
                odds[known, at], doubt[known, at] = self.predictors[model].odds(x[known])
        surely = np.zeros(odds.shape, bool)
        if (single := best_single(self.rates, models)) is not None:
            own = [models.index(single)]
            surely = odds - odds[:, own] > SURE * np.sqrt(doubt + doubt[:, own])
        return 1 / (1 + np.exp(-odds)), surely

    def _graded(self, model: str) -> list[int]:
        """How many graded answers of a model there are, for each of `CATEGORIES`."""
        rates = (self.rates.of(model, category) for category in CATEGORIES)
        return [0 if rate is None else rate.n for rate in rates]

    def because(self, model: str, category: str, chance: float) -> str:
        """Why evidence chose a model, in a few words."""
        rate = self.rates.of(model, category)
        if rate is None or not rate.enough:
            rate = self.rates.overall[model]
            category = f"{category}, and what is like it"
        known = f"{rate.right:g} of {rate.n} graded, {rate.low:.0%}–{rate.high:.0%}"
        return f"{category}: {chance:.0%} right expected ({known})"

    def _cost(self, model: str) -> float:
        rate = self.rates.overall.get(model)
        return float("inf") if rate is None or rate.cost is None else rate.cost

    def _seconds(self, model: str) -> float:
        rate = self.rates.overall.get(model)
        return rate.seconds if rate is not None else float("inf")


def make_router(registry: Registry, models: Sequence[str] = (), *, default: str = "") -> Router:
    """A router over a workspace's routes and evidence.

    `models` are those that may be used; without them, those that the routes name, else those of models.yaml and the
    default. Raises what a person can act on.
    """
    workspace = registry.workspace
    routes = read_routes(workspace.models_file, registry)
    allowed = _allowed(registry, models, routes, default)
    rates, predictors = Rates(), {}
    evidence = Evidence.of(workspace)
    if evidence.path.is_file():
        rates = evidence.rates()
        if _has_numpy():
            predictors = {model: made for model in allowed if (made := fit(evidence, model)) is not None}
    return Router(registry, tuple(allowed), routes, rates, predictors, default, only=tuple(allowed) if models else ())


def _allowed(registry: Registry, models: Sequence[str], routes: Sequence[Route], default: str) -> list[str]:
    used = list(dict.fromkeys(model for route in routes for model in route.use))
    if models:
        allowed = [_spec(registry, name).id for name in models]
        for route in routes:
            if missing := [model for model in route.use if model not in allowed]:
                raise RouteError(
                    f"The route in line {route.line} of {registry.workspace.models_file} uses {missing[0]}, which is "
                    f"not among the models that this job may use: {', '.join(allowed)}"
                )
    elif used:
        allowed = used
    else:
        allowed = [spec.id for spec in registry.all() if spec.source == "models.yaml" and spec.ready]
        if default and default not in allowed:
            allowed.append(_spec(registry, default).id)
    for name in allowed:
        spec = _spec(registry, name)
        if not spec.ready:
            raise RoutingError(f"Model {spec.id} is not ready: {spec.why}")
    return list(dict.fromkeys(allowed))


def _spec(registry: Registry, name: str) -> ModelSpec:
    return registry.get(name)


def _has_numpy() -> bool:
    import importlib.util

    return importlib.util.find_spec("numpy") is not None
