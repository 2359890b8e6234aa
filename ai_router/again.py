"""A job's items once more: all, its failed or pending ones, or chosen ones, for another model or with other options."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ai_router.datasets import free_output
from ai_router.jobs import JobPlan, plan_of, spec_of
from ai_router.kinds import kind_of
from ai_router.models import ModelSpec, Registry
from ai_router.presets import Preset, preset_of
from ai_router.settings import Workspace
from batch.checkpoint import CheckpointStore
from batch.errors import BatchError
from batch.items import Request
from batch.options import RunOptions, SamplingOptions
from batch.sources import Source
from batch.sources.readers import Entry, Tally

PAGE = 512
WRONG = "wrong"
CHOICES = ("adapter_path", "no_adapter", "engine")  # details that go with a model


class AgainError(BatchError):
    """A job whose items cannot be run once more this way; the text says why."""


class JobItems(Source):
    """Some items of a job as a source of prompts, in the order of their numbers.

    `edits` replaces the text of items by their id; of a chat that is its last user message. Which model an item was
    meant for is not taken over: another one is chosen for all of them.
    """

    def __init__(self, path: Path, ids: Sequence[int], edits: Mapping[int, str] | None = None, what: str = "") -> None:
        with CheckpointStore(path) as store:
            self.job = store.job()
        if kind_of(self.job.kind).own_engine:
            raise AgainError(f"Job {self.job.job_id} is of kind {self.job.kind}: no other model can answer its items")
        if not ids:
            raise AgainError(f"Job {self.job.job_id} has no such items")
        name = str(self.job.config.get("source", "")) or f"job {self.job.job_id}"
        super().__init__(name, "list")
        self.checkpoint, self.ids, self.edits, self.what = path, sorted(ids), dict(edits or {}), what

    @property
    def openai_batch(self) -> bool:
        """Whether its items are lines of an OpenAI batch file."""
        with CheckpointStore(self.checkpoint) as store:
            extra = store.request(self.ids[0]).extra
        return bool(extra and extra.get("openai_batch"))

    @property
    def routed(self) -> bool:
        """Whether each of them had a model of its own, chosen for it."""
        with CheckpointStore(self.checkpoint) as store:
            return any(request.reason for _, request in store.requests(self.ids[:PAGE]))

    @property
    def bytes(self) -> int:
        """Roughly: of the first items."""
        with CheckpointStore(self.checkpoint) as store:
            page = store.requests(self.ids[:PAGE])
        return sum(len(request.text.encode("utf-8", "replace")) for _, request in page) * len(self.ids) // len(page)

    def entries(self) -> Iterator[Entry]:
        """The items."""
        self.tally = Tally()
        with CheckpointStore(self.checkpoint) as store:
            for start in range(0, len(self.ids), PAGE):
                for item, request in store.requests(self.ids[start : start + PAGE]):
                    yield Entry(item + 1, edited(request, self.edits.get(item)))

    def options_for(self, model: str) -> Preset:
        """Its options, to begin with; those of the run are of the model it was meant for."""
        before = plan_of(self.job)
        return preset_of(before.sampling, before.run if model == before.model else RunOptions())

    def plan(self, spec: ModelSpec, sampling: SamplingOptions, run: RunOptions, workspace: Workspace) -> JobPlan:
        """The plan of the new job: the old one's, with another model and other options."""
        before = plan_of(self.job)
        details = dict(before.details)
        if details.get("output_file"):
            output = free_output(workspace.outputs, Path(str(details["output_file"])).stem.removesuffix("_results"))
            details |= {"output_file": str(output), "output_name": str(output)}
        for name in CHOICES:  # of the model before
            details.pop(name, None)
        if details and spec.adapter is not None:
            details["adapter_path"] = str(spec.adapter)
        return replace(
            before, model=spec.id, sampling=sampling, run=run, details=details, weights=None, stored=None, shard=None,
            lanes=[], chains={},
        )  # fmt: skip


def as_before(
    registry: Registry, workspace: Workspace, items: JobItems, model: str | None = None
) -> tuple[JobPlan, ModelSpec]:
    """The plan of a new job with the model and options of the old one; with `model` where that had several.

    Raises AgainError where the model is not ready, ModelError where it is not there any more.
    """
    before = plan_of(items.job)
    if before.lanes and model is not None:
        before = replace(before, model=model)
    spec = spec_of(registry, before)
    if not spec.ready:
        raise AgainError(f"{spec.id} is not ready: {spec.why}")
    plan = items.plan(spec, before.sampling, before.run, workspace)
    kept = {name: before.details[name] for name in CHOICES if name in before.details}
    return replace(plan, details={**plan.details, **kept}), spec


def edited(request: Request, text: str | None) -> Request:
    """A request for no model in particular, with another text where one is given."""
    request = replace(request, model=None, reason=None)
    if text is None:
        return request
    extra = copy.deepcopy(dict(request.extra)) if request.extra else None
    for message in reversed((extra or {}).get("messages") or ()):
        if isinstance(message, dict) and message.get("role") == "user":
            message["content"] = text
            break
    return replace(request, text=text, extra=extra)


def ids_of(path: Path, kind: str) -> list[int]:
    """The ids of a kind of a job's items: all, failed, pending, done, or, where answers are known, wrong.

    Raises AgainError where none of the answers is wrong.
    """
    with CheckpointStore(path) as store:
        if kind == "all":
            return list(range(store.job().total_prompts))
        if kind == WRONG:
            from batch.datasets.results import pair_of, with_requests
            from batch.evaluation.tally import ScoreTally

            tally, pairs = ScoreTally(), with_requests(store, store.iter_results(part="done"))
            wrong = [result.prompt_index for request, result in pairs if tally.add(pair_of(request, result)) is False]
            if not wrong:
                raise AgainError(f"None of {tally.n:,} answers is wrong")
            return wrong
        return store.ids(kind)  # type: ignore[arg-type]
