"""All jobs of a folder: list, find by name, delete."""

from __future__ import annotations

import fnmatch
import logging
import os
from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from batch.checkpoint import legacy
from batch.checkpoint.about import SUFFIX, About, read_about
from batch.checkpoint.lock import LockOwner, lock_owner
from batch.checkpoint.store import CheckpointStore
from batch.checkpoint.submissions import open_submissions
from batch.engines.desk import Submission
from batch.errors import CheckpointError
from batch.job import JobStatus

log = logging.getLogger(__name__)
NOTHING_SAID = About()


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """One line of a listing."""

    file: Path
    job_id: str
    model_id: str
    status: str
    completed: int
    failed: int
    total: int
    timestamp: str  # of the last change
    created_at: str
    tokens_output: int
    elapsed: float
    source: str  # where the prompts came from, "" when unknown
    reason: str | None
    owner: LockOwner | None  # who runs it now
    kind: str = "prompts"  # of job
    about: About = NOTHING_SAID  # name, tags and note, as a person gave them
    cost: int = 0  # billionths of a dollar, so far
    cost_unknown: int = 0  # answers whose cost is not known
    away: tuple[Submission, ...] = ()  # what is with a provider

    def as_dict(self) -> dict[str, Any]:
        """The reference's keys, for the library's `list_checkpoints`."""
        return {
            "file": str(self.file),
            "job_id": self.job_id,
            "model_id": self.model_id,
            "status": self.status,
            "completed": self.completed,
            "total": self.total,
            "failed": self.failed,
            "timestamp": self.timestamp,
        }


class CheckpointList(list[CheckpointInfo]):
    """Newest first; `skipped` holds the files that could not be read and why."""

    def __init__(self, infos: Iterable[CheckpointInfo] = (), skipped: Iterable[tuple[Path, str]] = ()) -> None:
        super().__init__(infos)
        self.skipped = list(skipped)


def read_info(path: Path, *, beside: Container[str] | None = None) -> CheckpointInfo:
    """What a listing says of one checkpoint, without counting its results.

    `beside` are the names of all files of its folder, where they are known.
    """
    away: tuple[Submission, ...] = ()
    if path.suffix == ".json":
        job, _ = legacy.read(path)
        timestamp, owner = job.updated_at or "", None
    else:
        with CheckpointStore(path, "snapshot") as store:
            job = store.job()
            if job.with_provider or job.status == JobStatus.WAITING:  # also where the process that waited was killed
                away = tuple(open_submissions(store))
        timestamp, owner = job.updated_at or "", lock_owner(path)
    return CheckpointInfo(
        file=path,
        job_id=job.job_id,
        model_id=job.model_id,
        status=job.status,
        completed=job.completed,
        failed=job.failed,
        total=job.total_prompts,
        timestamp=timestamp,
        created_at=job.created_at,
        tokens_output=job.tokens_output,
        elapsed=job.elapsed,
        source=str(job.config.get("source", "")),
        reason=job.reason,
        owner=owner,
        kind=job.kind,
        about=NOTHING_SAID if beside is not None and path.stem + SUFFIX not in beside else read_about(path),
        cost=job.cost,
        cost_unknown=job.cost_unknown,
        away=away,
    )


def checkpoints_of(directory: Path) -> list[Path]:
    """The checkpoint files of a folder; one in JSON that was resumed lives on as the database of the same name."""
    return [directory / name for name in _names_of_checkpoints(_names_in(directory))]


def _names_in(directory: Path) -> set[str]:
    """All files of a folder; none of one that is not there."""
    with suppress(OSError):
        return set(os.listdir(directory))
    return set()


def _names_of_checkpoints(names: set[str]) -> list[str]:
    databases = sorted(fnmatch.filter(names, "batch_*.db"))
    return [*databases, *(n for n in sorted(fnmatch.filter(names, "batch_*.json")) if f"{n[:-5]}.db" not in names)]


def list_jobs(directory: Path) -> CheckpointList:
    """All checkpoints of a folder, the reference's JSON files among them."""
    infos: list[CheckpointInfo] = []
    skipped: list[tuple[Path, str]] = []
    names = _names_in(directory)  # one look at the folder instead of several at each file
    for name in _names_of_checkpoints(names):
        path = directory / name
        try:
            infos.append(read_info(path, beside=names))
        except (CheckpointError, OSError) as error:
            skipped.append((path, str(error)))
            log.warning("skipped %s: %s", path, error)
    infos.sort(key=lambda info: info.timestamp, reverse=True)
    return CheckpointList(infos, skipped)


def find_job(directory: Path, name: str) -> Path:
    """The checkpoint of a job named by id, unique prefix of it, or path."""
    given = Path(os.path.expanduser(name))
    if given.suffix in (".db", ".json") or len(given.parts) > 1:
        if given.is_file():
            return given
        raise CheckpointError(f"Checkpoint not found: {name}")
    paths = {path.stem: path for suffix in ("json", "db") for path in directory.glob(f"batch_{escape(name)}*.{suffix}")}
    if not name:
        paths = {}
    if f"batch_{name}" in paths:
        return paths[f"batch_{name}"]
    if len(paths) == 1:
        return next(iter(paths.values()))
    if not paths:
        raise CheckpointError(f"Unknown job: {name or '(no name)'}; ai-router jobs lists those there are")
    names = ", ".join(sorted(stem.removeprefix("batch_") for stem in paths))
    raise CheckpointError(f"{name} is not unique: {names}")


def delete_checkpoint(path: Path) -> None:
    """Remove a job's checkpoint and all that stands beside it; refused while it runs."""
    if owner := lock_owner(path):
        raise CheckpointError(f"Job {path.stem.removeprefix('batch_')} is being run by process {owner.pid}")
    try:
        path.unlink()
    except FileNotFoundError:
        raise CheckpointError(f"Checkpoint not found: {path}") from None
    except OSError as error:
        raise CheckpointError(f"Cannot delete {path}: {error.strerror}") from error
    if path.suffix == ".db":
        # The JSON file too, where the job began as one: it would stand in the list again, as it was then.
        for suffix in (".db-wal", ".db-shm", ".lock", ".live", ".log", ".json", ".find", SUFFIX):
            with suppress(OSError):
                path.with_suffix(suffix).unlink()
