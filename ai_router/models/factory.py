"""From a model to the engine that answers with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_router.models.spec import ModelSpec
from batch.engines import registry as engines
from batch.engines.base import Engine
from batch.engines.registry import Place
from batch.errors import FatalError, MissingExtraError
from batch.items import Answer, Request
from batch.options import SamplingOptions

LEAST_ROOM = 32  # items at once that every local engine takes


def make_engine(
    spec: ModelSpec, sampling: SamplingOptions, *, workers: int | None, timeout: float | None = None
) -> Engine[Request, Answer]:
    """The engine of a model, not yet loaded; raises the model's `why` when it is not ready.

    `workers` is how many items it should have room for at once; with fewer there is still room to raise it later, and
    without it the engine finds out what is best here.
    """
    if not spec.ready:
        raise FatalError(f"Model {spec.id} is not ready: {spec.why}")
    row = engines.find(spec.engine)
    described = describe_for_engine(spec.place, spec.engine_options)
    if spec.adapter is not None:
        described["adapter_path"] = str(spec.adapter)
    if spec.cluster is not None:
        return _on_cluster(spec, row, described, sampling, workers, timeout)
    if row.factory:
        make: engines.EngineFactory = engines.load(row.factory)
        return make(described, sampling, workers=workers, timeout=timeout)
    from batch.engines.local.host import HostedEngine

    room = None if workers is None else max(workers, LEAST_ROOM)
    return HostedEngine(spec.engine, described, sampling=sampling, max_batch=room, timeout=timeout)


def check_cluster(spec: ModelSpec) -> None:
    """Raise where a model cannot be driven on a cluster from here: FatalError, or MissingExtraError without Ray."""
    from batch.engines.ray.row import ROW

    if not engines.find(spec.engine).core or spec.engine == ROW.name:
        raise FatalError(f"Model {spec.id} runs elsewhere already: --cluster is for models that run on this machine")
    if ROW.missing():
        raise MissingExtraError(ROW.extra, "--cluster")


def reusing(
    engine: Engine[Request, Answer], spec: ModelSpec, sampling: SamplingOptions, reuse: str, answers: Path
) -> Engine[Request, Answer]:
    """The engine of a job's model, over which equal requests to a server are asked once, as `RunOptions.reuse` says.

    `answers` is the file with the answers of other jobs.
    """
    if reuse == "off" or spec.engine not in engines.names() or engines.find(spec.engine).where != "server":
        return engine
    from batch.engines.reuse import Answers, ReuseEngine

    said = describe_for_engine(spec.place, spec.engine_options)
    return ReuseEngine(engine, sampling, said, Answers(answers if reuse == "jobs" else None))


def _on_cluster(
    spec: ModelSpec,
    row: engines.EngineRow,
    described: dict[str, Any],
    sampling: SamplingOptions,
    workers: int | None,
    timeout: float | None,
) -> Engine[Request, Answer]:
    """The engine whose process drives a cluster's actors, each of which holds this model."""
    from batch.engines.local.host import HostedEngine
    from batch.engines.ray.row import ROW
    from batch.engines.ray.shipping import PLACES

    check_cluster(spec)
    if spec.hub and not spec.ship:  # each node has a cache of its own
        described = {**described, "hub": spec.hub}
        del described["path"]
    for key in PLACES:
        if path := described.get(key):  # nodes stand in other folders
            described[key] = str(Path(path).absolute())
    told = {
        "cluster": spec.cluster, "engine": row.name, "model": described, "resources": dict(spec.resources),
        "ship": spec.ship,
    }  # fmt: skip
    return HostedEngine(ROW.name, told, sampling=sampling, max_batch=workers, timeout=timeout, elsewhere=True)


def describe_for_engine(place: Place, options: Mapping[str, Any]) -> dict[str, Any]:
    """What an engine is told of a model; a provider's has no address of its own."""
    where = {} if not place else {"url": place} if isinstance(place, str) else {"path": str(place)}
    return {**where, **options}
