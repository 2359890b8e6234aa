"""A comparison of a file: as many linked jobs as models, made together and found again by any of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ai_router import jobs
from ai_router.comparing.answers import ComparisonError, check_models
from ai_router.models import ModelSpec, Registry
from ai_router.settings import Workspace
from batch.checkpoint import CheckpointStore
from batch.errors import CheckpointError
from batch.evaluation.match import MATCHES
from batch.job import BatchJob
from batch.options import RunOptions, SamplingOptions
from batch.sources import Source

Sampling = Callable[[ModelSpec], SamplingOptions]


def source_of(name: str) -> Source:
    """A file to compare models over: with its known answers where it holds some."""
    from batch.datasets.source import looks_like_dataset, open_dataset
    from batch.sources import open_source, user_path

    path = user_path(name)
    if path.is_file() and path.suffix != ".txt" and looks_like_dataset(path):
        return open_dataset(name)
    return open_source(name)


def make_linked(
    workspace: Workspace,
    registry: Registry,
    name: str,
    models: Sequence[ModelSpec],
    sampling: Sampling,
    *,
    run: RunOptions | None = None,
    match: str = "exact",
    warn: Callable[[str], None] = lambda text: None,
) -> list[tuple[BatchJob, jobs.JobPlan]]:
    """A job of each model over the file. All are checked before the first is made.

    `warn` is told what is odd about the file, once. Raises ComparisonError where it cannot run, and what opening it
    raises.
    """
    check_models([spec.id for spec in models])
    if match not in MATCHES:
        raise ComparisonError(f"--match is {', '.join(MATCHES)}, not {match}")
    options = run or RunOptions()
    said: set[str] = set()
    for spec in models:
        with source_of(name) as source:
            plan = jobs.JobPlan(spec.id, sampling(spec), options, source.name)
            for problem in jobs.check(source, spec, plan, None, registry).problems:
                if problem.severity == "error":
                    raise ComparisonError(problem.text)
                if problem.text not in said:
                    warn(problem.text)
                said.add(problem.text)
    group: dict[str, object] = {"group": secrets.token_hex(4), "models": [spec.id for spec in models]}
    return [_made(workspace, registry, name, spec, sampling(spec), options, match, group) for spec in models]


def _made(
    workspace: Workspace,
    registry: Registry,
    name: str,
    spec: ModelSpec,
    sampling: SamplingOptions,
    run: RunOptions,
    match: str,
    group: dict[str, object],
) -> tuple[BatchJob, jobs.JobPlan]:
    from ai_router.datasets import plan_for

    with source_of(name) as source:
        plan = plan_for(source, spec, sampling, run, workspace)
        if plan.details:
            plan.details["match"] = match
        plan.compared = group
        return jobs.create_job(workspace, plan, source.requests(), None, spec, registry), plan


def is_linked_at(path: Path) -> bool:
    """Whether the job of a checkpoint is one of a comparison."""
    if path.suffix == ".json":
        return False
    with CheckpointStore(path, "snapshot") as store:
        return bool(store.job().config.get("compared"))


def _group_at(path: Path) -> object:
    """The comparison that the job of a checkpoint is of; read without counting its results."""
    with CheckpointStore(path, "snapshot") as store:
        return (store.job().config.get("compared") or {}).get("group")


def linked_with(workspace: Workspace, job: BatchJob) -> list[BatchJob]:
    """The jobs of a job's comparison, itself among them, in the models' order. Raises ComparisonError if of none."""
    from batch.checkpoint.listing import checkpoints_of

    link = job.config.get("compared")
    if not link:
        raise ComparisonError(f"Job {job.job_id} belongs to no comparison; name the jobs to compare it with")
    found = []
    for path in checkpoints_of(workspace.checkpoints):
        with suppress(CheckpointError, OSError):  # a file that cannot be read is none of them
            if path.suffix != ".json" and _group_at(path) == link.get("group"):
                found.append(jobs.open_job(workspace, str(path)))
    order = {model: at for at, model in enumerate(link.get("models", ()))}
    return sorted(found, key=lambda job: order.get(job.model_id, len(order)))
