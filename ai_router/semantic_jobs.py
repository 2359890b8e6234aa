"""From a task to a job of semantic IDs."""

from __future__ import annotations

from pathlib import Path

from ai_router import jobs
from ai_router.kinds.semantic_ids import NAME
from ai_router.settings import Workspace
from batch.job import BatchJob
from batch.semantic_ids.task import Task


def create_job(workspace: Workspace, task: Task, folder: Path | None = None) -> BatchJob:
    """A job on disk that encodes a task, block by block; its files go to `folder`, without one to the outputs."""
    details = task.as_details() | ({"folder": str(folder.absolute())} if folder is not None else {})
    source = f"{task.config.dataset_name} features"
    return jobs.create_job(
        workspace, jobs.JobPlan(task.config.run_name, source=source, kind=NAME, details=details), task.requests()
    )
