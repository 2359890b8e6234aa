"""What can be scored: a results file, or a job whose answers are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ai_router.cli.session import Session, UsageError

if TYPE_CHECKING:
    from batch.evaluation.pairs import Pair
    from batch.job import BatchJob

_SQLITE = b"SQLite format 3\0"

Progress = Callable[[int], None]  # is told how many rows were read


@dataclass(frozen=True, slots=True)
class Scored:
    """A run to score. `pairs` reads it anew at each call."""

    name: str
    path: Path  # where it lies, so that nothing is written over it
    page: Path  # where its report goes if nobody says
    pairs: Callable[[Progress | None], Iterable[Pair]]


def find(name: str, session: Session) -> Scored:
    """A results file by its path, or a job by its id, the beginning of it, or its checkpoint."""
    from batch.sources import user_path

    path = user_path(name)
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_SQLITE)) == _SQLITE:
                return _job(str(path), session)
    elif not path.exists() and path.name == name and not path.suffix:
        return _job(name, session)
    return _file(path)


def _file(path: Path) -> Scored:
    from batch.evaluation.pairs import read_results

    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a results file in it")
    return Scored(path.name, path, path.with_suffix(".html"), lambda progress: read_results(path, progress))


def _job(name: str, session: Session) -> Scored:
    from ai_router import jobs
    from ai_router.kinds import kind_of
    from ai_router.kinds.base import SCORE
    from batch.errors import CheckpointError

    try:
        job = jobs.open_job(session.workspace, name)
    except CheckpointError as error:
        if str(error).startswith("Unknown job"):
            raise UsageError(
                f"{name} is neither a results file nor a job; ai-router jobs lists those there are"
            ) from None
        raise
    if SCORE not in kind_of(job.kind).actions:
        raise UsageError(
            f"job {job.job_id} has no expected answers to score against; name a results file, "
            "or a job of: ai-router dataset run"
        )
    assert job.checkpoint_file is not None
    page = session.workspace.outputs / f"evaluation_{job.job_id}.html"
    return Scored(
        f"job {job.job_id} ({job.model_id})", job.checkpoint_file, page, lambda progress: _pairs(job, progress)
    )


def _pairs(job: BatchJob, progress: Progress | None) -> Iterator[Pair]:
    from batch.checkpoint import CheckpointStore
    from batch.datasets.results import pair_of, with_requests

    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file, "snapshot") as store:
        for count, (request, result) in enumerate(with_requests(store, store.iter_results()), 1):
            yield pair_of(request, result)
            if progress is not None and count % 500 == 0:
                progress(count)
