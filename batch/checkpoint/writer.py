"""Puts results on disk: one thread, one connection, commits in groups."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from batch.checkpoint import schema
from batch.checkpoint.store import clean, dump_json
from batch.errors import CheckpointError, Failure
from batch.items import Answer, BatchResponse
from batch.job import BatchJob, BatchResult, now_iso

GROUP_SECONDS = 0.05


class ResultRow(NamedTuple):
    """One result on its way to the disk."""

    id: int
    prompt: str  # not written; for whoever hears of the commit
    text: str
    success: bool
    tokens_input: int
    tokens_output: int
    duration: float
    attempts: int
    error_class: str | None
    error: str | None
    extra: str | None  # JSON
    old: int  # 0 new, 1 replaces a failure

    @classmethod
    def of(
        cls, response: BatchResponse[Answer], prompt: str, error: Failure | None, attempt: int, *, replaces: bool
    ) -> ResultRow:
        """The row of an engine's response; `error` is what the run made of it."""
        answer = response.data
        return cls(
            int(response.id),
            prompt,
            answer.text if answer and error is None else "",
            error is None,
            response.tokens_input,
            response.tokens_output,
            response.duration_ns / 1e9,
            attempt,
            error.error_class if error else None,
            error.message if error else None,
            dump_json(answer.extra) if answer else None,
            int(replaces),
        )

    def result(self) -> BatchResult:
        """The same as the library hands it out; attempts are those of this run."""
        return BatchResult(
            self.id,
            self.prompt,
            self.text,
            self.tokens_input,
            self.tokens_output,
            self.duration,
            self.success,
            self.error,
            self.error_class,
            self.attempts,
        )


class ResultWriter:
    """Commits results and the job's row together.

    After an idle time a row is committed at once; under load, groups follow each other every 50 ms. `on_commit` is
    called from the writer's thread with the rows that are now safe, `on_error` once with what went wrong; after an
    error nothing more is written.
    """

    def __init__(
        self,
        job: BatchJob,
        on_commit: Callable[[Sequence[ResultRow]], None],
        on_error: Callable[[CheckpointError], None],
        elapsed: Callable[[], float],
    ) -> None:
        assert job.checkpoint_file is not None
        self._job = job
        self._on_commit = on_commit
        self._on_error = on_error
        self._elapsed = elapsed
        self._path = job.checkpoint_file
        self._connection = schema.connect(self._path, "write")
        self._wake = threading.Condition()
        self._rows: list[ResultRow] = []
        self._urgent = False
        self._closing = False
        self.failed: CheckpointError | None = None
        try:
            self._save([])
        except Exception as error:
            self._connection.close()
            raise schema.damaged(self._path, error) from error
        self._thread = threading.Thread(target=self._run, name=f"writer-{job.job_id}", daemon=True)
        self._thread.start()

    def put(self, row: ResultRow, *, urgent: bool = False) -> None:
        """Queue a result; `urgent` ones do not wait for their group."""
        with self._wake:
            self._rows.append(row)
            self._urgent |= urgent
            if len(self._rows) == 1 or urgent:
                self._wake.notify()

    @property
    def backlog(self) -> int:
        """Results not yet committed."""
        return len(self._rows)

    def drain(self) -> None:
        """Commit what is queued; nothing may be put afterwards."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def close(self) -> None:
        """Commit what is queued and the job's row as it is now, and close the file."""
        self.drain()
        try:
            if self.failed is None:
                self._save([])
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except Exception as error:
            self._fail(error)
        finally:
            self._connection.close()

    def _run(self) -> None:
        last = 0.0
        while True:
            with self._wake:
                while not self._rows and not self._closing:
                    self._wake.wait()
                rest = last + GROUP_SECONDS - time.monotonic()
                if rest > 0 and not self._closing and not self._urgent:
                    self._wake.wait(rest)
                rows, self._rows = self._rows, []
                self._urgent = False
                if not rows:
                    if self._closing:
                        return
                    continue
            last = time.monotonic()
            try:
                self._save(rows)
            except Exception as error:  # whatever it is, the run must hear that nothing is kept any more
                self._fail(error)
                return
            self._on_commit(rows)

    def _fail(self, error: Exception) -> None:
        self.failed = schema.damaged(self._path, error)
        self._on_error(self.failed)

    def _save(self, rows: Sequence[ResultRow]) -> None:
        job = self._job
        new_failed = sum(not row.success for row in rows)
        replaced = sum(row.old for row in rows)
        completed = job.completed + len(rows) - new_failed
        failed = job.failed + new_failed - replaced
        tokens_input = job.tokens_input + sum(row.tokens_input for row in rows)
        tokens_output = job.tokens_output + sum(row.tokens_output for row in rows)
        updated, elapsed = now_iso(), self._elapsed()
        with schema.transaction(self._connection):
            self._connection.executemany(
                schema.UPSERT_RESULT,
                [
                    (r.id, r.success, r.tokens_input, r.tokens_output, r.duration, r.attempts, r.error_class)
                    for r in rows
                ],
            )
            self._connection.executemany(
                schema.UPSERT_ANSWER, [(r.id, clean(r.text), r.error and clean(r.error), r.extra) for r in rows]
            )
            self._connection.execute(
                schema.UPDATE_JOB,
                (
                    completed,
                    failed,
                    job.status,
                    job.started_at,
                    job.completed_at,
                    updated,
                    tokens_input,
                    tokens_output,
                    elapsed,
                    job.reason,
                    job.model_id,
                    dump_json(job.config) or "{}",
                ),
            )
        # Counted only now that it is on the disk.
        # Failures first: who looks in between sees one item too few done, never one too many.
        job.failed, job.completed, job.updated_at = failed, completed, updated
        job.tokens_input, job.tokens_output, job.elapsed = tokens_input, tokens_output, elapsed
