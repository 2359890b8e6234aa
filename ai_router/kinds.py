"""Kinds of jobs that bring something of their own: their engine, how their progress is counted, the files they make.

A job of prompts, and every kind that is not named here, is answered by its model's engine and counted by its items.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from batch.engines.base import Engine
from batch.items import Answer, Request
from batch.job import BatchJob
from batch.running.progress import Snapshot


@dataclass(frozen=True, slots=True)
class Output:
    """What came out of a job: its files, what is to be said of them, and what they lack ("" where nothing)."""

    files: tuple[Path, ...]
    lines: tuple[str, ...] = ()
    lacking: str = ""

    @property
    def whole(self) -> bool:
        """Whether all of it is as it should be."""
        return not self.lacking


class JobKind(Protocol):
    """What a kind does its own way."""

    title: str  # what people call it: "Semantic IDs"
    unit: str  # what a person counts, in the singular: "row"

    def why_not_ready(self) -> str:
        """A sentence where such a job cannot run here, else nothing."""
        ...

    def make_engine(
        self, details: Mapping[str, Any], *, workers: int | None, timeout: float | None
    ) -> Engine[Request, Answer]:
        """The engine of a job with these details, not yet loaded."""
        ...

    def counted(self, snapshot: Snapshot, details: Mapping[str, Any]) -> Snapshot:
        """The same moment, counted in the kind's unit."""
        ...

    def write(self, job: BatchJob, folder: Path, progress: Callable[[int], None] | None = None) -> Output:
        """Write the job's files, each whole or not at all: into the folder the job names, else into `folder`."""
        ...


# By name, where an object with the shape above is found; imported when a job of the kind is at hand.
OWN = {"semantic-ids": "ai_router.semantic_jobs:KIND"}


def own_kind(name: str) -> JobKind | None:
    """What a kind of job does its own way; None for jobs of prompts."""
    place = OWN.get(name)
    if place is None:
        return None
    module, _, attribute = place.partition(":")
    kind: JobKind = getattr(importlib.import_module(module), attribute)
    return kind


def counted(snapshot: Snapshot, job: BatchJob) -> Snapshot:
    """A moment of a job in the unit that a person counts it in."""
    kind = own_kind(job.kind)
    return snapshot if kind is None else kind.counted(snapshot, job.config.get("details", {}))
