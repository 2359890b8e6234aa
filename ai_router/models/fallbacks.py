"""Which models answer where one cannot: the chains that models.yaml gives to its models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ai_router.models.spec import ModelSpec
from batch.options import nearest

ARROW = " → "


def with_fallbacks(models: Mapping[str, ModelSpec]) -> dict[str, ModelSpec]:
    """The same models with their fallbacks by id; one whose chain cannot be is not ready, and says why."""
    names = {other.lower(): name for name, spec in models.items() for other in (*spec.also, spec.name)}
    names |= {name.lower(): name for name in models}
    found = dict(models)
    for name, spec in models.items():
        if spec.fallback:
            unknown = next((other for other in spec.fallback if other.lower() not in names), None)
            if unknown is not None:
                near = nearest(unknown, list(models))
                hint = f" (did you mean {near}?)" if near else ""
                found[name] = _spoiled(spec, f"its fallback {unknown} is no model{hint}")
            else:
                found[name] = replace(spec, fallback=tuple(names[other.lower()] for other in spec.fallback))
    for name, spec in found.items():
        if spec.fallback and (circle := _circle(name, found, ())):
            found[name] = _spoiled(spec, f"its fallbacks go round in a circle: {ARROW.join(circle)}")
    return found


def chain_of(models: Iterable[ModelSpec], found: Mapping[str, ModelSpec], only: Iterable[str] = ()) -> list[ModelSpec]:
    """These models and all that they may fall back to, each once; with `only`, none but those of these ids."""
    allowed = set(only)
    made: dict[str, ModelSpec] = {}
    left = list(models)
    while left:
        spec = left.pop(0)
        if spec.id not in made:
            made[spec.id] = spec
            left += [found[name] for name in spec.fallback if name in found and (not allowed or name in allowed)]
    return list(made.values())


def _spoiled(spec: ModelSpec, why: str) -> ModelSpec:
    return replace(spec, fallback=(), ready=False, why=why if spec.ready else spec.why)


def _circle(name: str, models: Mapping[str, ModelSpec], path: tuple[str, ...]) -> tuple[str, ...]:
    """The way from a model back to one that it has come from; () where there is none."""
    if name in path:
        return (*path[path.index(name) :], name)
    spec = models.get(name)
    for other in spec.fallback if spec is not None else ():
        if circle := _circle(other, models, (*path, name)):
            return circle
    return ()
