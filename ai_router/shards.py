"""A large input in several jobs, on as many machines: each takes every n-th item, and merged they are one job again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ai_router.settings import Workspace
from batch.checkpoint import CheckpointStore, checkpoint_path, lock_owner
from batch.checkpoint.merging import merge_shards
from batch.errors import BatchError
from batch.job import BatchJob, new_job_id

T = TypeVar("T")
MOST = 100_000
KEY = "shard"  # in a job's configuration: [i, n]


class ShardError(BatchError):
    """A shard that cannot be, or shards that do not belong together."""


def parse_shard(text: str) -> tuple[int, int]:
    """`2/4` as (2, 4): the second of four."""
    first, slash, second = text.partition("/")
    if not (slash and first.isascii() and second.isascii() and first.isdigit() and second.isdigit()):
        raise ShardError(f"--shard: {text} is no shard; the second of four is 2/4")
    number, count = int(first[:9]), int(second[:9])
    if not 1 <= number <= count <= MOST:
        raise ShardError(f"--shard: {text} is no shard; it must be between 1/{min(max(count, 1), MOST)} and the last")
    return number, count


def of_shard(items: Iterable[T], shard: tuple[int, int]) -> Iterator[T]:
    """The items of a shard; ShardError where it has none."""
    number, count = shard
    given = False
    for index, item in enumerate(items):
        if index % count == number - 1:
            given = True
            yield item
    if not given:
        raise ShardError(f"--shard: there is no prompt for shard {number} of {count}")


def shard_of(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Which shard a job of this configuration is, None where it is none."""
    said = config.get(KEY)
    if isinstance(said, list) and len(said) == 2 and all(isinstance(part, int) for part in said):
        return said[0], said[1]
    return None


def merge(workspace: Workspace, files: Sequence[Path], progress: Callable[[int], None] | None = None) -> BatchJob:
    """All shards of an input as one new job with their answers. Raises ShardError where one is missing, or is not."""
    by_number: dict[int, BatchJob] = {}
    count = 0
    for path in files:
        with CheckpointStore(path) as store:
            job = store.job()
        shard = shard_of(job.config)
        if shard is None:
            raise ShardError(f"Job {job.job_id} is no shard: it was not begun with --shard")
        if owner := lock_owner(path):
            raise ShardError(f"Job {job.job_id} is being run by process {owner.pid}; merge it when it is done")
        number, count_here = shard
        if number in by_number:
            raise ShardError(f"Jobs {by_number[number].job_id} and {job.job_id} are both shard {number}")
        if count and count_here != count:
            raise ShardError(f"Job {job.job_id} is one of {count_here} shards, and the others are of {count}")
        count = count_here
        by_number[number] = job
    if missing := [number for number in range(1, count + 1) if number not in by_number]:
        raise ShardError(f"Shards {', '.join(map(str, missing[:10]))} of {count} are missing")
    ordered = [by_number[number] for number in sorted(by_number)]
    first = ordered[0]
    config = {key: value for key, value in first.config.items() if key != KEY}
    for job in ordered[1:]:
        for key in ("source", "sampling"):
            if job.config.get(key) != first.config.get(key):
                raise ShardError(f"Jobs {first.job_id} and {job.job_id} differ in their {key}")
    merged = BatchJob(new_job_id(), first.asked_model or first.model_id, [], 0, config=config)
    while checkpoint_path(workspace.checkpoints, merged.job_id).exists():
        merged.job_id = new_job_id()
    workspace.checkpoints.mkdir(parents=True, exist_ok=True)
    made = merge_shards(workspace.checkpoints, merged, [Path(str(job.checkpoint_file)) for job in ordered], progress)
    with CheckpointStore(made) as store:
        return store.job(recount=True)
