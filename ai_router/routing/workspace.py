"""The router of a workspace, as every front end begins with it."""

from __future__ import annotations

from collections.abc import Sequence

from ai_router.models import Registry
from ai_router.routing import AUTO
from ai_router.routing.evidence import gather
from ai_router.routing.router import Router, make_router


def router_of(registry: Registry, models: Sequence[str] = ()) -> tuple[Router, list[str]]:
    """The router, after what scored jobs have shown since was taken in; and sentences about what was not counted.

    Raises what a person can act on; `models` are as of `make_router`.
    """
    notes = gather(registry.workspace, registry)
    default = registry.workspace.settings.model
    return make_router(registry, models, default="" if default == AUTO else default), notes
