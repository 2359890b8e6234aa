"""What a kind of job may do its own way, and the plain kind: prompts, answered by their model's engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from batch.engines.base import Engine
from batch.items import Answer, Request
from batch.job import BatchJob
from batch.running.handle import RunObserver
from batch.running.progress import Snapshot

SCORE = "score"  # the action of jobs whose answers are known


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


class JobKind:
    """A kind of job. This one is that of prompts; others say what is different with them."""

    name: ClassVar[str] = "prompts"
    title: ClassVar[str] = "Batch"  # what stands at the top of its run
    item: ClassVar[str] = "prompt"  # what the store's items are, in the singular
    unit: ClassVar[str] = ""  # what a person counts, where that is no item
    files: ClassVar[str] = ""  # what its files are called; "" where results go to a file that is asked for
    results: ClassVar[str] = "results"  # the place where its results are looked at
    actions: ClassVar[frozenset[str]] = frozenset()  # what can be done with its jobs beside the ordinary
    own_engine: ClassVar[bool] = False  # whether it is answered by something else than the engine of a model

    def kept(self, details: Mapping[str, Any]) -> dict[str, Any]:
        """What a checkpoint's config says of the kind beside the rest; of prompts nothing."""
        return {"kind": self.name, "details": dict(details)} if self.name != JobKind.name else {}

    def why_not_ready(self, details: Mapping[str, Any]) -> str:
        """A sentence where a job with these details cannot run here, its model apart; else nothing."""
        return ""

    def make_engine(
        self, details: Mapping[str, Any], *, workers: int | None, timeout: float | None
    ) -> Engine[Request, Answer]:
        """The engine of a job with these details, not yet loaded; of kinds with an engine of their own."""
        raise NotImplementedError(f"jobs of kind {self.name} are answered by their model")

    def wrapped(self, engine: Engine[Request, Answer]) -> Engine[Request, Answer]:
        """The engine with its answers as jobs of this kind keep them."""
        return engine

    def observer(self, job: BatchJob) -> RunObserver | None:
        """What listens to a run of the job."""
        return None

    def counted(self, snapshot: Snapshot, details: Mapping[str, Any]) -> Snapshot:
        """The same moment, counted in the kind's unit."""
        return snapshot

    def figures(self, job: BatchJob) -> list[tuple[str, str]]:
        """Names and values that a job of this kind keeps beside the rest."""
        return []

    def write(self, job: BatchJob, folder: Path, progress: Callable[[int], None] | None = None) -> Output:
        """Write the job's files, each whole or not at all: into the folder the job names, else into `folder`."""
        return Output(())

    def written(self, job: BatchJob) -> Output:
        """What a run of the job has written by itself, by the names that were asked for."""
        return Output(())


PROMPTS = JobKind()
