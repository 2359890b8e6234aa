"""A run whose prompts each have a model of their own: the router, and what is wished of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ai_router.jobs import JobPlan
    from ai_router.models import ModelSpec
    from ai_router.routing.plan import Wish
    from ai_router.routing.router import Router
    from batch.items import Request
    from batch.sources import Source


@dataclass(frozen=True, slots=True)
class Routed:
    """What the options of a run need to know of its routing. `name` is that of the plan that was chosen."""

    name: str
    router: Router
    wish: Wish

    @property
    def spec(self) -> ModelSpec:
        """The job's own model: the default where it may answer, else the first that may."""
        router = self.router
        return router.registry.get(router.default if router.default in router.allowed else router.allowed[0])

    def directed(self, source: Source, plan: JobPlan) -> Iterator[Request]:
        """The prompts with their models; the plan keeps the chains. Raises RoutingError where the budget is too small.

        Reads the source twice.
        """
        from ai_router.routing.planning import plan_file

        wish = self.wish if plan.run.budget is None else replace(self.wish, budget=plan.run.budget)
        made = plan_file(self.router, source.requests(), wish, sampling=plan.sampling, lane=plan.run.lane)
        plan.chains = {lane: asdict(chain) for lane, chain in made.chains.items()}
        plan.only = list(self.router.only)
        return made.directed(source.requests())
