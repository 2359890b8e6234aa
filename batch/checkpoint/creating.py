"""A new checkpoint: filled under another name, and whole when it gets its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from batch.checkpoint import schema
from batch.checkpoint.lock import JobLock
from batch.checkpoint.placing import place
from batch.errors import CheckpointError
from batch.items import Request
from batch.job import BatchJob, check_job_id, now_iso
from batch.jsontext import clean, dump_json


def checkpoint_path(directory: Path, job_id: str) -> Path:
    """Where the checkpoint of a job stands: `batch_<id>.db`."""
    return directory / f"batch_{job_id}.db"


def write_new(
    directory: Path, job: BatchJob, requests: Iterable[Request | str], progress: Callable[[int], None] | None = None
) -> Path:
    """Write a job with all its items in one transaction; sets its total and checkpoint file, which is returned.

    `progress` is called with the number of items written so far.
    """
    try:
        path = checkpoint_path(Path(directory), check_job_id(job.job_id))
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    temporary = path.with_name(f"{path.stem}.tmp")
    lock = JobLock(path)  # who finds the temporary file without it knows that its writer is dead
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        if path.exists():
            raise CheckpointError(f"Checkpoint {path} exists already; load it to go on with it")
        temporary.unlink(missing_ok=True)
        with schema.create_file(temporary) as connection:
            total = 0

            def rows() -> Iterator[tuple[int, str, str | None, int | None, str | None, str | None]]:
                nonlocal total
                for request in requests:
                    if isinstance(request, str):
                        yield total, clean(request), None, None, None, None
                    else:
                        yield (total, *_item_row(request, models))
                    total += 1
                    if progress and total % 10_000 == 0:
                        progress(total)

            models: dict[str, int] = {}
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT INTO items (id, text, extra, model, reason, columns) VALUES (?, ?, ?, ?, ?, ?)", rows()
            )
            connection.executemany("INSERT INTO models (name, id) VALUES (?, ?)", models.items())
            config = dump_json(job.config) or "{}"  # after the items: what they are meant for may be noted in it
            job.total_prompts = total
            job.updated_at = now_iso()
            connection.execute(
                "INSERT INTO plan (id, job_id, model_id, total, created_at, config) VALUES (1, ?, ?, ?, ?, ?)",
                (job.job_id, job.model_id, total, job.created_at, config),
            )
            connection.execute(
                "INSERT INTO job (id, model_id, status, updated_at, config) VALUES (1, ?, ?, ?, ?)",
                (job.model_id, job.status, job.updated_at, config),
            )
            connection.execute("COMMIT")
        place(temporary, path)
    except (sqlite3.Error, OSError) as error:
        raise schema.damaged(path, error) from error
    finally:
        if lock.held:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        lock.release()
    job.checkpoint_file, job.asked_model = path, job.model_id
    return path


def _item_row(request: Request, models: dict[str, int]) -> tuple[str, str | None, int | None, str | None, str | None]:
    """An item's columns after its id; a model that is met for the first time gets the next number."""
    model = None if request.model is None else models.setdefault(clean(request.model), len(models) + 1)
    reason = None if request.reason is None else clean(request.reason)
    return clean(request.text), dump_json(request.extra), model, reason, dump_json(request.columns)
