"""Shards of one input, each answered as a job of its own, become one job again, in the input's order."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from batch.checkpoint import schema
from batch.checkpoint.creating import checkpoint_path
from batch.checkpoint.placing import aside, place
from batch.checkpoint.store import CheckpointStore
from batch.errors import CheckpointError
from batch.items import Request
from batch.job import BatchJob, JobStatus

PAGE = 1000

# Item k of shard s (from 0) of n was item k * n + s.
_MODEL = "(SELECT m.id FROM main.models m JOIN shard.models s ON s.name = m.name WHERE s.id = r.model)"
_COPY = (
    "INSERT OR IGNORE INTO main.models (name) SELECT name FROM shard.models",
    "INSERT INTO main.results (id, success, tokens_input, tokens_output, duration, attempts, error_class, model, cost,"
    " tokens_cached, tokens_reasoning, units) SELECT id * :n + :s, success, tokens_input, tokens_output, duration,"
    f" attempts, error_class, {_MODEL}, cost, tokens_cached, tokens_reasoning, units FROM shard.results r",
    "INSERT INTO main.answers (id, text, error, extra) SELECT id * :n + :s, text, error, extra FROM shard.answers",
    "INSERT INTO main.attempts (item, attempt, model, error_class, error, tokens_input, tokens_output, tokens_cached,"
    f" cost, duration, at) SELECT item * :n + :s, attempt, {_MODEL}, error_class, error, tokens_input, tokens_output,"
    " tokens_cached, cost, duration, at FROM shard.attempts r",
    "UPDATE main.job AS t SET completed = t.completed + j.completed, failed = t.failed + j.failed,"
    " tokens_input = t.tokens_input + j.tokens_input, tokens_output = t.tokens_output + j.tokens_output,"
    " elapsed = max(t.elapsed, j.elapsed), cost = t.cost + j.cost, cost_unknown = t.cost_unknown + j.cost_unknown,"
    " started_at = min(coalesce(t.started_at, j.started_at), coalesce(j.started_at, t.started_at)),"
    " completed_at = max(coalesce(t.completed_at, j.completed_at), coalesce(j.completed_at, t.completed_at)),"
    " model_id = j.model_id"
    " FROM (SELECT * FROM shard.job) j",
)


def merge_shards(
    directory: Path, job: BatchJob, shards: Sequence[Path], progress: Callable[[int], None] | None = None
) -> Path:
    """Write a new job that holds the items and results of shards 1 … n, given in that order; returns its file.

    The file appears whole. Raises CheckpointError where the shards cannot be of one input, as their sizes tell.
    """
    sizes = []
    for path in shards:
        with CheckpointStore(path) as store:
            sizes.append(store.plan().total)
    total, n = sum(sizes), len(shards)
    for number, size in enumerate(sizes):
        if size != (wanted := (total - number + n - 1) // n):
            raise CheckpointError(
                f"The shards are not of one input: shard {number + 1} of {n} has {size:,} items, not {wanted:,}"
            )
    target = checkpoint_path(directory, job.job_id)
    with aside(target) as folder:
        CheckpointStore.create(folder, job, _interleaved(shards, total), progress=progress).close()
        made = checkpoint_path(folder, job.job_id)
        with closing(schema.connect(made, "write")) as connection:
            for number, path in enumerate(shards):
                _copy(connection, path, n, number)
            connection.execute(
                "UPDATE job SET status = CASE WHEN completed + failed = ? THEN ? ELSE ? END",
                (total, JobStatus.COMPLETED, JobStatus.PENDING),
            )
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA journal_mode = DELETE")
        place(made, target)
    job.checkpoint_file = target
    return target


def _copy(connection: sqlite3.Connection, path: Path, n: int, number: int) -> None:
    try:
        connection.execute("ATTACH ? AS shard", (f"{path.absolute().as_uri()}?mode=ro",))
        with schema.transaction(connection):
            for statement in _COPY:
                connection.execute(statement, {"n": n, "s": number} if ":n" in statement else {})
        connection.execute("DETACH shard")
    except schema.FAULTS as error:
        raise schema.damaged(path, error) from error


def _interleaved(shards: Sequence[Path], total: int) -> Iterator[Request]:
    stores = [CheckpointStore(path) for path in shards]
    try:
        readers = [_requests(store, store.plan().total) for store in stores]
        for index in range(total):
            yield next(readers[index % len(readers)])
    finally:
        for store in stores:
            store.close()


def _requests(store: CheckpointStore, total: int) -> Iterator[Request]:
    for start in range(0, total, PAGE):
        for _, request in store.requests(range(start, min(start + PAGE, total))):
            yield request
