"""The reference's JSON checkpoints: read, and turned into a database when they are resumed.

Format: {"job": {job_id, model_id, prompts, total_prompts, completed, failed, status, started_at, completed_at,
checkpoint_file}, "results": [eight fields each], "timestamp": ISO 8601}.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from batch.errors import CheckpointError
from batch.job import BatchJob, BatchResult, JobStatus, check_job_id

# What the reference's program wrote beside the four statuses of its guide.
_STATUSES = {"completed_with_errors": JobStatus.COMPLETED, "paused": JobStatus.RUNNING}


def read(path: Path) -> tuple[BatchJob, list[BatchResult]]:
    """The job and its results; counts are taken from the results. The last result of an index holds."""
    try:
        data = orjson.loads(path.read_bytes())
        if not isinstance(data, dict) or not {"job", "results", "timestamp"} <= data.keys():
            raise CheckpointError(f"not a checkpoint: {path}")
        head = data["job"]
        if not isinstance(head["prompts"], list) or not isinstance(data["results"], list):
            raise TypeError("prompts and results are not lists")
        prompts = [str(prompt) for prompt in head["prompts"]]
        results: dict[int, BatchResult] = {}
        for row in data["results"]:
            result = _result(row)
            if not 0 <= result.prompt_index < len(prompts):
                raise ValueError(f"result of prompt {result.prompt_index}, but there are {len(prompts)} prompts")
            results[result.prompt_index] = result
        datetime.fromisoformat(data["timestamp"])
        for name in ("started_at", "completed_at"):
            if not isinstance(head.get(name), str | None):
                raise TypeError(f"{name} is no time")
        status = JobStatus(_STATUSES.get(head["status"], head["status"]))
        job = BatchJob(
            job_id=check_job_id(str(head["job_id"])),
            model_id=str(head["model_id"]),
            prompts=prompts,
            total_prompts=len(prompts),
            status=status,
            started_at=head.get("started_at"),
            completed_at=head.get("completed_at"),
            checkpoint_file=path,
            created_at=head.get("started_at") or data["timestamp"],
            updated_at=data["timestamp"],
        )
    except (KeyError, TypeError, ValueError, orjson.JSONDecodeError) as error:
        raise CheckpointError(f"Damaged checkpoint {path}: {type(error).__name__}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror}") from error
    ordered = [results[index] for index in sorted(results)]
    job.completed = sum(r.success for r in ordered)
    job.failed = len(ordered) - job.completed
    job.tokens_input = sum(r.tokens_input for r in ordered)
    job.tokens_output = sum(r.tokens_output for r in ordered)
    job.elapsed = sum(r.duration for r in ordered)
    return job, ordered


def _result(row: dict[str, Any]) -> BatchResult:
    return BatchResult(
        prompt_index=int(row["prompt_index"]),
        prompt=str(row["prompt"]),
        response_text=str(row["response_text"] or ""),
        tokens_input=int(row.get("tokens_input") or 0),
        tokens_output=int(row.get("tokens_output") or 0),
        duration=float(row.get("duration") or 0.0),
        success=bool(row["success"]),
        error_message=row.get("error_message"),
    )
