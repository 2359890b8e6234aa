"""Jobs of the kind "semantic-ids": blocks of feature rows, encoded by an RQ-VAE in a process of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_router.kinds.base import JobKind, Output
from ai_router.trust import check_writes
from batch.engines.base import Engine
from batch.items import Answer, Request
from batch.job import BatchJob
from batch.running.progress import Snapshot
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.task import Task

if TYPE_CHECKING:
    from batch.semantic_ids.report import CodesReport

NAME = "semantic-ids"
ENGINE = "batch.semantic_ids.blocks:open_core"


class SemanticIds(JobKind):
    """How a job of semantic IDs differs from one of prompts."""

    name = NAME
    title = "Semantic IDs"
    item = "block"
    unit = "row"
    files = "codebooks"
    results = "codes"
    own_engine = True

    def why_not_ready(self, details: Mapping[str, Any]) -> str:
        """Encoding needs torch, and a Parquet file, which is written at the end, pyarrow."""
        if not all(importlib.util.find_spec(name) for name in ("torch", "numpy")):
            return 'needs torch: pip install "ai-router[local]"'
        if details.get("options", {}).get("parquet") and not importlib.util.find_spec("pyarrow"):
            return 'needs pyarrow for the Parquet file: pip install "ai-router[tables]"'
        return ""

    def make_engine(
        self, details: Mapping[str, Any], *, workers: int | None, timeout: float | None
    ) -> Engine[Request, Answer]:
        """A process that holds the model and reads the features."""
        from batch.engines.local.host import HostedEngine

        return HostedEngine(ENGINE, details, max_batch=workers, timeout=timeout)

    def counted(self, snapshot: Snapshot, details: Mapping[str, Any]) -> Snapshot:
        """Rows instead of blocks: exact of answered blocks, which say how many theirs are."""
        rows, size = int(details["rows"]), int(details["block_rows"])

        def of(blocks: int, most: int) -> int:
            return max(0, min(blocks * size, most))

        completed = min(rows, snapshot.tokens_input)
        failed = rows - completed if snapshot.processed >= snapshot.total else of(snapshot.failed, rows - completed)
        scale = rows / snapshot.total if snapshot.total else 0.0
        return replace(
            snapshot,
            total=rows,
            completed=completed,
            failed=failed,
            in_flight=of(snapshot.in_flight, rows - completed - failed),
            retrying=of(snapshot.retrying, rows - completed - failed),
            tokens_input=0,
            tokens_per_second=0.0,
            items_per_second=snapshot.items_per_second * scale,
            rates=tuple(rate * scale for rate in snapshot.rates),
        )

    def write(self, job: BatchJob, folder: Path, progress: Callable[[int], None] | None = None) -> Output:
        """The files of codebooks, and the report. Imports torch."""
        from batch.semantic_ids.blocks import stored_codes
        from batch.semantic_ids.output import write_codebooks
        from batch.semantic_ids.report import report_of

        assert job.checkpoint_file is not None
        task = task_of(job)
        stored = stored_codes(job.checkpoint_file, task)
        written = write_codebooks(task, stored, folder_of(job, folder), progress=progress)
        report = report_of(task.config.run_name, stored)
        return Output(written.files, tuple(report.lines()), report.lacking())


KIND = SemanticIds()


def folder_of(job: BatchJob, outputs: Path) -> Path:
    """Where a job's files go. Raises TrustError where it is not trusted to put them there."""
    details = job.config.get("details", {})
    if job.checkpoint_file is not None:
        check_writes(details, job.checkpoint_file)
    return outputs if details.get("folder") is None else Path(details["folder"])


def output_paths(job: BatchJob, outputs: Path) -> tuple[Path, ...]:
    """The files that a job makes."""
    from batch.semantic_ids.output import output_files

    return output_files(task_of(job), folder_of(job, outputs))


def task_of(job: BatchJob) -> Task:
    """The task of a job; SemanticIdError where the job is of another kind."""
    if job.kind != NAME:
        raise SemanticIdError(f"Job {job.job_id} is no job of semantic IDs")
    return Task.of_details(job.config.get("details", {}))


def read_report(job: BatchJob) -> CodesReport:
    """The report of a job's stored codes; needs numpy, not torch."""
    from batch.semantic_ids.blocks import stored_codes
    from batch.semantic_ids.report import report_of

    assert job.checkpoint_file is not None
    task = task_of(job)
    return report_of(task.config.run_name, stored_codes(job.checkpoint_file, task))
