"""Kinds of jobs, in one table: what each does its own way. Adding one is one new file and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from ai_router.kinds.base import JobKind, Output
from batch.job import BatchJob
from batch.running.progress import Snapshot

__all__ = ["KINDS", "JobKind", "Output", "counted", "kind_at", "kind_of"]

# By name, where its object is found; imported when a job of the kind is at hand.
KINDS: Mapping[str, str] = {
    "prompts": "ai_router.kinds.base:PROMPTS",
    "dataset": "ai_router.kinds.dataset:KIND",
    "semantic-ids": "ai_router.kinds.semantic_ids:KIND",
}


def kind_of(name: str) -> JobKind:
    """A kind of job; one that is not named here is treated as prompts."""
    module, _, attribute = KINDS.get(name, KINDS["prompts"]).partition(":")
    kind: JobKind = getattr(importlib.import_module(module), attribute)
    return kind


def kind_at(path: Path) -> JobKind:
    """The kind of a checkpoint; of one that cannot be read, prompts, whose screens say what is wrong with it."""
    from batch.checkpoint import CheckpointStore
    from batch.errors import BatchError

    if path.suffix == ".json":
        return kind_of("prompts")
    try:
        with CheckpointStore(path) as store:
            return kind_of(store.job().kind)
    except (BatchError, OSError):
        return kind_of("prompts")


def counted(snapshot: Snapshot, job: BatchJob) -> Snapshot:
    """A moment of a job in the unit that a person counts it in."""
    return kind_of(job.kind).counted(snapshot, job.config.get("details", {}))
