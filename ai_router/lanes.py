"""A job that spans models: which of its items go to a model of their own, and the lanes that answer them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ai_router.models import ModelSpec, Registry, UnknownModelError
from ai_router.models.factory import describe_for_engine
from ai_router.models.fallbacks import chain_of
from batch.engines import registry as engines
from batch.engines.base import Engine
from batch.engines.lane import Lane
from batch.errors import BatchError, FatalError
from batch.items import Answer, Request
from batch.options import AS_MODEL, RunOptions, SamplingOptions, build_options, options_dict

if TYPE_CHECKING:
    from batch.engines.lanes import LanesEngine

# Why one number for all of them is refused: most of what it would count waits in the lanes for its turn.
OWN_LIMITS = "Each lane has a limit of its own; a server's is its concurrency in models.yaml"


def named(registry: Registry, name: str) -> ModelSpec | None:
    """The model of the registry that a file's line names, by its id or name; None where it is none, or not ready.

    Never a folder or an address: what a file says chooses among what the user has listed, and nothing else.
    """
    spec = registry.listed(name)
    return spec if spec is not None and spec.ready else None


class LaneChoiceError(BatchError):
    """`--lane` or `--deadline` is for none of a job's models, or not for one of them."""


def check_choices(specs: Iterable[ModelSpec], run: RunOptions) -> None:
    """Raise LaneChoiceError where a run's lane or deadline is for none of these models, or cannot be for one."""
    if run.lane == AS_MODEL and run.deadline is None:
        return
    found = list(specs)
    far = [spec for spec in found if spec.engine == "provider"]
    if not far:
        which = ", ".join(f"{spec.id} runs on {spec.engine}" for spec in found)
        raise LaneChoiceError(f"--lane and --deadline are for a provider's model; {which}")
    for spec in far:
        said = describe_for_engine(spec.place, spec.configured(run).engine_options)
        if problem := engines.find(spec.engine).check(said):
            raise LaneChoiceError(f"Model {spec.id}: {problem}")


def checked(
    requests: Iterable[Request | str], run: RunOptions, specs: Callable[[], Iterable[ModelSpec]]
) -> Iterator[Request | str]:
    """The requests of a new job; at their end, when it is known which models they are meant for, `check_choices`.

    A deadline that nothing would look at is refused here alone: a job that has one already can go on and be collected.
    """
    yield from requests
    found = list(specs())
    check_choices(found, run)
    for spec in found if run.deadline is not None else ():
        if spec.engine == "provider" and spec.configured(run).engine_options.get("lane") != "auto":
            raise LaneChoiceError(f"Model {spec.id}: --deadline counts with --lane auto alone; add it, or leave it out")


def directed(
    requests: Iterable[Request | str],
    registry: Registry,
    model: str,
    lanes: list[str],
    chains: Mapping[str, Any] | None = None,
) -> Iterator[Request | str]:
    """The same requests, each meant for the registry's model that it names, or for the job's.

    `lanes` gets the id of every model beside the job's that an item is meant for. `chains` are lanes of several models,
    by name. An item with a reason was routed, and keeps it also where the job's own model answers it.
    """
    known: dict[str, str | None] = dict.fromkeys(chains or (), None)
    for name in known:
        known[name] = name
        lanes.append(name)
    for request in requests:
        if isinstance(request, str) or request.model is None:
            yield request
            continue
        name = request.model
        if name not in known:
            spec = named(registry, name)
            known[name] = spec.id if spec is not None else None
            if (lane := known[name]) not in (None, model) and lane not in lanes:
                lanes.append(str(lane))
        target = known[name]
        if target is None or (target == model and request.reason is None):
            yield replace(request, model=None, reason=None)
        else:
            yield replace(request, model=target, reason=request.reason or "the input names it")


def lanes_engine(
    registry: Registry,
    default: ModelSpec,
    sampling: SamplingOptions,
    run: RunOptions,
    lanes: Iterable[str],
    make: Callable[..., Engine[Request, Answer]],
    chains: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
) -> LanesEngine:
    """One lane for the job's own model and one for each of `lanes`, by their ids.

    What was chosen for the job holds on every lane; under it, each model has its own sampling. `make` makes a
    model's engine, as `ai_router.models.make_engine` does. A lane of `chains` (`use`: models, `check`) is its first
    model; what that cannot answer, or answers in a way that fails the check, goes on to the others; and from each model
    to the fallbacks that models.yaml gives it, of which `only` these may answer. Raises FatalError for a model that is
    gone or not ready; a fallback that is not ready is a lane that is down.
    """
    from batch.engines.lanes import LanesEngine

    chosen = {name: value for name, value in options_dict(sampling).items() if default.sampling.get(name) != value}
    chains = dict(chains or {})
    specs = models_of(registry, default, lanes, chains)
    check_choices(specs, run)
    made: dict[str, Lane] = {}
    found = {spec.id: spec for spec in registry.all()}

    def lane_of(spec: ModelSpec, run: RunOptions) -> Lane:
        own = build_options(SamplingOptions, {**spec.sampling, **chosen})
        if spec.is_remote and spec is not default:  # a server beside a cluster
            run = replace(run, cluster=None)
        return _lane(spec.configured(run), own, run, make)

    for number, spec in enumerate(chain_of(specs, found, only)):
        if not spec.configured(run).ready and number < len(specs):
            raise FatalError(f"Model {spec.id} is not ready: {spec.why}")
        made[spec.id] = lane_of(spec, run)
    made = {name: replace(lane, fallback=tuple(n for n in lane.fallback if n in made)) for name, lane in made.items()}
    by_id = {spec.id: spec for spec in specs}
    chained = [
        _chain(name, chain, made, lambda model, lane: lane_of(by_id[model], replace(run, lane=lane)))
        for name, chain in chains.items()
    ]
    return LanesEngine([*made.values(), *chained], default.id)


def models_of(
    registry: Registry, default: ModelSpec, lanes: Iterable[str], chains: Mapping[str, Any]
) -> list[ModelSpec]:
    """Every model that answers in a job. Raises FatalError for one that is gone."""
    specs = [default]
    wanted = [model for lane in lanes for model in (chains[lane]["use"] if lane in chains else [lane])]
    for model in dict.fromkeys(wanted):
        if model == default.id:
            continue
        try:
            specs.append(registry.get(model))
        except UnknownModelError as error:
            raise FatalError(f"Some items are meant for a model that is gone. {error}") from None
    return specs


def _chain(name: str, chain: Mapping[str, Any], made: Mapping[str, Lane], on_lane: Callable[[str, str], Lane]) -> Lane:
    """A lane of its own for the first model of a chain; the others are the models' own lanes.

    `on_lane(model, lane)` is a provider's model with another choice between its batches and its answers at once.
    """
    first, *rest = (str(model) for model in chain["use"])
    own = on_lane(first, str(chain["lane"])) if chain.get("lane") else made[first]
    passed = bool(chain.get("pass_filtered")) or own.pass_filtered
    fallback = (*rest, *made[first].fallback)
    lane = replace(own, name=name, fallback=fallback, pass_filtered=passed, model=first)
    if not (said := chain.get("check")):
        return lane

    def checked() -> Engine[Request, Answer]:
        from ai_router.routing.checks import CheckedEngine, check_of

        return CheckedEngine(own.make(), check_of(said), first)

    return replace(lane, make=checked)


def _lane(
    spec: ModelSpec, sampling: SamplingOptions, run: RunOptions, make: Callable[..., Engine[Request, Answer]]
) -> Lane:
    def made() -> Engine[Request, Answer]:
        if not spec.ready:
            raise FatalError(f"Model {spec.id} is not ready: {spec.why}")
        return make(spec, sampling, workers=run.workers, timeout=run.timeout)

    return Lane(spec.id, made, retries=run.retries, fallback=spec.fallback, pass_filtered=spec.pass_filtered,
                local=not spec.is_remote)  # fmt: skip
