"""What both front ends do with jobs: check, create, open, run."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_router.kinds import kind_of
from ai_router.lanes import check_choices, checked, directed, lanes_engine, models_of, named
from ai_router.models import (
    TEMPLATE_ROOM,
    ModelSpec,
    Registry,
    make_engine,
    prompt_counter,
    reusing,
    token_counter,
    with_choices,
)
from ai_router.models.fingerprint import changed, fingerprint
from ai_router.settings import Workspace
from ai_router.shards import KEY as SHARD
from ai_router.shards import shard_of
from ai_router.trust import allowed, check_writes, claims_of_job, remember, withheld_text
from batch.checkpoint import CheckpointStore, find_job
from batch.engines.base import Engine
from batch.errors import BatchError
from batch.items import Answer, Request
from batch.job import BatchJob, BatchResult
from batch.options import RunOptions, SamplingOptions, build_options, options_dict
from batch.processor import BatchProcessor
from batch.running.policy import ErrorStrategy
from batch.running.run import Run

if TYPE_CHECKING:
    from ai_router.preloading import Preloaded
    from batch.sources import Source, Validation


ANSWERS_NAME = "answers.cache"  # beside the checkpoints: what `reuse: jobs` remembers


class ChangedModelError(BatchError):
    """A job would go on with another model, or other weights, than its answers so far came from; `problem` says how."""

    def __init__(self, problem: str, command: str) -> None:
        super().__init__(f"{problem}; to go on all the same: {command}")
        self.problem = problem


@dataclass(slots=True)
class JobPlan:
    """All that is chosen before a job runs."""

    model: str
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    run: RunOptions = field(default_factory=RunOptions)
    source: str = ""  # where the prompts come from, for people to read
    kind: str = "prompts"
    details: dict[str, Any] = field(default_factory=dict)  # JSON that only this kind of job understands
    weights: dict[str, Any] | None = None  # the fingerprint of its model when it began
    table: dict[str, Any] | None = None  # where the items are rows of a table: which, and how they became prompts
    shard: tuple[int, int] | None = None  # of an input that several jobs share: which of how many, from 1
    lanes: list[str] = field(default_factory=list)  # models beside its own that items are meant for
    chains: dict[str, Any] = field(default_factory=dict)  # lanes of several models: {name: {use: [...], check: {...}}}
    only: list[str] = field(default_factory=list)  # the only models that may answer, where that was said
    compared: dict[str, Any] | None = None  # of a comparison: its own {"group": id, "models": [...]}
    stored: Path | None = field(default=None, compare=False)  # the job's file, where the plan was read from one

    def as_config(self) -> dict[str, Any]:
        """What the checkpoint keeps, so that a resumed job runs as it began."""
        config: dict[str, Any] = {
            "source": self.source,
            "sampling": options_dict(self.sampling),
            "run": options_dict(self.run),
        }
        if self.weights is not None:
            config["weights"] = self.weights
        if self.table is not None:
            config["table"] = self.table
        if self.shard is not None:
            config[SHARD] = list(self.shard)
        if self.compared is not None:
            config["compared"] = self.compared
        config["lanes"] = self.lanes
        if self.chains:
            config["chains"] = self.chains
        if self.only:
            config["only"] = self.only
        return {**config, **kind_of(self.kind).kept(self.details)}


def check(
    source: Source,
    spec: ModelSpec,
    plan: JobPlan,
    progress: Callable[[int], None] | None = None,
    registry: Registry | None = None,
) -> Validation:
    """The validation report of a source against a model's context; reads the whole source once.

    Items that name a model of the `registry` are counted as that one's.
    """
    from batch.sources import validate

    count = token_counter(spec) if spec.context or spec.is_remote else None
    system = count(plan.sampling.system) if count and plan.sampling.system else 0

    about: dict[str, Any] = {"model": spec.id, "system": plan.sampling.system}
    if registry is not None:
        about["answers"] = lambda name: named(registry, name) is not None
    if count is None:
        return validate(source, **about, progress=progress)
    measure, whole, context = count, prompt_counter(spec), spec.context

    def tokens(request: Request) -> int:
        about = sum(measure(str(m.get("content", ""))) for m in request.messages) + TEMPLATE_ROOM + system
        near = context is not None and about >= context  # as the engine will count it, where it comes to that
        return (whole(request, plan.sampling.system) if near else None) or about

    return validate(source, count_tokens=tokens, context=spec.context, **about, progress=progress)


def create_job(
    workspace: Workspace,
    plan: JobPlan,
    requests: Any,
    progress: Callable[[int], None] | None = None,
    spec: ModelSpec | None = None,
    registry: Registry | None = None,
) -> BatchJob:
    """A job on disk with all its prompts; `requests` is any iterable of texts or `Request`s.

    Of the model `spec`, the job keeps what tells whether its weights are still the same when it goes on. Requests that
    name a model of the `registry` are meant for that one.
    """
    if spec is not None:
        plan.weights = fingerprint(spec)
    ErrorStrategy.parse(plan.run.on_error)
    processor = BatchProcessor(workspace.checkpoints)
    config = plan.as_config()
    if registry is not None:
        # `config` holds the plan's own list, and the job's row is written after its items, when all have been seen.
        requests = directed(requests, registry, plan.model, plan.lanes, plan.chains)
        if spec is not None:
            requests = checked(requests, plan.run, lambda: models_of(registry, spec, plan.lanes, plan.chains))
    job = processor.create_job(plan.model, requests, config=config, progress=progress)
    assert job.checkpoint_file is not None
    # An engine of the user's own and a place for files were chosen just now.
    remember(job.checkpoint_file, claims_of_job(plan.details, job.checkpoint_file))
    return job


def open_job(workspace: Workspace, name: str) -> BatchJob:
    """A job by id, unique prefix or path, recounted."""
    path = find_job(workspace.checkpoints, name)  # first, as the processor makes the folder
    return BatchProcessor(workspace.checkpoints).open_job(path)


def plan_of(job: BatchJob) -> JobPlan:
    """The plan a job was created with."""
    config = job.config
    return JobPlan(
        model=job.model_id,
        sampling=build_options(SamplingOptions, config.get("sampling", {})),
        run=build_options(RunOptions, config.get("run", {})),
        source=str(config.get("source", "")),
        kind=job.kind,
        details=dict(config.get("details", {})),
        weights=config.get("weights"),
        stored=job.checkpoint_file,
        table=config.get("table"),
        shard=shard_of(config),
        lanes=[str(lane) for lane in config.get("lanes", ())] or _models_named(job),
        chains=dict(config.get("chains", {})),
        only=[str(model) for model in config.get("only", ())],
        compared=config.get("compared"),
    )


def _models_named(job: BatchJob) -> list[str]:
    """The models beside a job's own that its items name, for jobs whose config was written without them."""
    if job.checkpoint_file is None or not job.checkpoint_file.exists():
        return []
    with CheckpointStore(job.checkpoint_file) as store:
        return store.meant_for(besides=(job.model_id, job.asked_model))


def spec_of(registry: Registry, plan: JobPlan) -> ModelSpec:
    """The model of a plan, with the adapter and on the engine that its details name."""
    chosen = registry.get(plan.model)
    if plan.details.get("no_adapter"):
        chosen = replace(chosen, adapter=None)
    engine = plan.details.get("engine")
    if why := withheld(plan, known=chosen.engine):
        return replace(chosen, ready=False, why=why)
    return with_choices(chosen, adapter=plan.details.get("adapter_path"), engine=engine)


def withheld(plan: JobPlan, known: str | None = None) -> str:
    """A sentence where a stored job would do what it is not trusted with: import a module, write elsewhere.

    known: an engine that may be named, as it is that of the model.
    """
    if plan.stored is None:
        return ""
    claims = claims_of_job(plan.details, plan.stored)
    asked = [claim for claim in claims if (claim.key, claim.value) != ("engine", known)]
    return "" if not asked or allowed(plan.stored, claims) else withheld_text(plan.stored, asked, folder=False)


def model_changed(registry: Registry, job: BatchJob, plan: JobPlan) -> str:
    """A sentence where the rest would come from another model, or from other weights, than the answers so far."""
    if not job.processed or kind_of(plan.kind).own_engine:
        return ""
    so_far = f"{job.processed:,} result{'s' if job.processed != 1 else ''} of job {job.job_id} so far came"
    if plan.model != job.model_id:
        return f"{so_far} from {job.model_id}, and the rest would come from {plan.model}"
    if plan.weights is None:  # made by an earlier version
        return ""
    if problem := changed(plan.weights, fingerprint(spec_of(registry, plan))):
        return f"{so_far} from other weights of {plan.model} than are there now: {problem}"
    return ""


def engine_for(registry: Registry, plan: JobPlan, ahead: Preloaded | None = None) -> Engine[Request, Answer]:
    """What answers a job's items: its model, unless jobs of this kind have an engine of their own.

    It is not loaded yet, unless one that would be told the same was loaded `ahead`.
    """
    kind = kind_of(plan.kind)
    if kind.own_engine:
        return kind.make_engine(plan.details, workers=plan.run.workers, timeout=plan.run.timeout)
    spec = spec_of(registry, plan)
    answers = registry.workspace.checkpoints / ANSWERS_NAME

    def make(spec: ModelSpec, sampling: SamplingOptions, **how: Any) -> Engine[Request, Answer]:
        return reusing(make_engine(spec, sampling, **how), spec, sampling, plan.run.reuse, answers)

    if plan.lanes or spec.fallback:
        lanes = lanes_engine(registry, spec, plan.sampling, plan.run, plan.lanes, make, plan.chains, plan.only)
        return kind.wrapped(lanes)
    check_choices([spec], plan.run)
    spec = spec.configured(plan.run)
    made = make(spec, plan.sampling, workers=plan.run.workers, timeout=plan.run.timeout)
    return kind.wrapped(ahead.instead_of(made) if ahead is not None else made)


def why_not_ready(registry: Registry, plan: JobPlan) -> str:
    """A sentence where what answers a job's items cannot run here, else nothing; raises for an unknown model."""
    kind = kind_of(plan.kind)
    if why := kind.why_not_ready(plan.details):
        return f"Jobs of kind {plan.kind} cannot run here: {why}"
    if kind.own_engine:
        return withheld(plan)
    spec = spec_of(registry, plan).configured(plan.run)
    return "" if spec.ready else f"Model {spec.id} is not ready: {spec.why}"


def start(
    registry: Registry,
    job: BatchJob,
    plan: JobPlan | None = None,
    *,
    retry_failed: bool = False,
    engine: Engine[Request, Answer] | None = None,
    on_results: Callable[[Sequence[BatchResult]], None] | None = None,
    on_progress: Callable[[BatchJob, int], None] | None = None,
    allow_change: bool = False,
    wait: bool = True,
    first: int | None = None,
    at_random: bool = False,
    ahead: Preloaded | None = None,
) -> Run:
    """Run what is missing of a job, in a thread of its own. A given `engine` stays open afterwards.

    What was loaded `ahead` is used where the job's engine would be told the same; the caller ends it otherwise.
    With `first` only so many items are answered, to see how it goes; with `at_random` any of them.
    Without `wait` it does not stay for answers to what is with a provider.
    Raises ChangedModelError where the job would go on with another model or other weights, unless `allow_change`, and
    TrustError where it would put files where it is not trusted to.
    """
    plan = plan or plan_of(job)
    assert job.checkpoint_file is not None
    check_writes(plan.details, job.checkpoint_file)
    left = job.processed < job.total_prompts or (retry_failed and job.failed)
    if engine is None and left and (problem := model_changed(registry, job, plan)):
        if not allow_change:
            raise ChangedModelError(problem, f"ai-router resume {job.job_id} --yes")
        plan.weights = fingerprint(spec_of(registry, plan))
    job.model_id = plan.model
    job.config = {**job.config, **plan.as_config()}
    kind = kind_of(plan.kind)
    run = Run(
        job,
        # Made only where something is left to answer.
        kind.wrapped(engine) if engine else lambda: engine_for(registry, plan, ahead),
        plan.run,
        retry_failed=retry_failed,
        on_results=on_results,
        on_progress=on_progress,
        observer=kind.observer(job),
        close_engine=engine is None,
        wait_for_providers=wait,
        first=first,
        at_random=at_random,
    )
    spare_collector()
    return run.start()


def spare_collector() -> None:
    """Leave what is loaded by now out of garbage collection, once: it lives as long as the process; and look less often
    for cycles among what is made later, of which a run leaves next to none.

    Beside a fast run, walking it again and again took a fifth of the time.
    """
    if not gc.get_freeze_count():
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
