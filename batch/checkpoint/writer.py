"""Puts results on disk: one thread, one connection, commits in groups."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from batch.checkpoint import bulk, pace, schema
from batch.checkpoint.written import AttemptRow, ResultRow, fields_of
from batch.errors import CheckpointError
from batch.job import BatchJob, now_iso
from batch.jsontext import clean, dump_json

GROUP_SECONDS = 0.05
LARGEST_SUM = 2**63 - 1

Change = Callable[[sqlite3.Connection], None]

_text, _tokens_input, _tokens_output = map(fields_of, ("text", "tokens_input", "tokens_output"))
_result_columns, _result_rest = fields_of(*schema.RESULT_COLUMNS), fields_of(*schema.RESULT_REST)
_answer_columns = fields_of("id", "text")
_seldom = fields_of(*schema.RESULT_REST, "model", "old", "error", "extra")  # what is mostly the same in a whole group

__all__ = ["AttemptRow", "Change", "ResultRow", "ResultWriter"]


class ResultWriter:
    """Commits results, the tries before them and the job's row together; the only one who writes during a run.

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
        self._rows: deque[ResultRow] = deque()  # put in at one end by one thread, taken at the other by ours: no lock
        self._attempts: list[AttemptRow] = []
        self._changes: list[tuple[Change, Future[None]]] = []
        self._models: dict[str, int] = {}  # name -> number, of those that are on the disk
        self._urgent = False
        self._closing = False
        self.failed: CheckpointError | None = None
        try:
            self._connection.execute(pace.TABLE)
            self._models = dict(self._connection.execute("SELECT name, id FROM models"))
            self._save([], [])
        except Exception as error:
            self._connection.close()
            raise schema.damaged(self._path, error) from error
        self._thread = threading.Thread(target=self._run, name=f"writer-{job.job_id}", daemon=True)
        self._thread.start()

    def put(self, row: ResultRow, *, urgent: bool = False) -> None:
        """Queue a result; `urgent` ones do not wait for their group. Only one thread may put."""
        self._rows.append(row)
        if urgent or len(self._rows) == 1:  # else the writer is awake, or has been called
            with self._wake:
                self._urgent |= urgent
                self._wake.notify()

    def attempt(self, row: AttemptRow) -> None:
        """Queue a try that gave no result: it is to be tried again, or another try was better."""
        with self._wake:
            self._attempts.append(row)
            if len(self._attempts) == 1:
                self._wake.notify()

    def write(self, change: Change) -> Future[None]:
        """Have `change` made in a transaction of its own, after all rows queued so far; done when it is on the disk.

        What `change` raises is the future's, and nothing is changed then. An error of the disk ends the writer too.
        After `drain`, or an error, the future fails with CheckpointError.
        """
        future: Future[None] = Future()
        with self._wake:
            if self._closing or self.failed is not None:
                future.set_exception(self.failed or CheckpointError(f"{self._path} is closed already"))
                return future
            self._changes.append((change, future))
            self._wake.notify()
        return future

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
                self._save([], [])
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except Exception as error:
            self._fail(error)
        finally:
            self._connection.close()

    def _run(self) -> None:
        last = 0.0
        while True:
            with self._wake:
                while not (self._rows or self._attempts or self._changes or self._closing):
                    self._wake.wait()
                rest = last + GROUP_SECONDS - time.monotonic()
                if rest > 0 and not self._closing and not self._urgent and not self._changes:
                    self._wake.wait(rest)
                rows = [self._rows.popleft() for _ in range(len(self._rows))]
                attempts, self._attempts = self._attempts, []
                changes, self._changes = self._changes, []
                self._urgent = False
                if not rows and not attempts and not changes:
                    if self._closing:
                        return
                    continue
            last = time.monotonic()
            try:
                if rows or attempts:
                    self._save(rows, attempts)
                if rows:
                    self._on_commit(rows)
                while changes:
                    self._make(*changes[0])
                    del changes[0]
            except Exception as error:  # whatever it is, the run must hear that nothing is kept any more
                self._fail(error)
                with self._wake:
                    changes += self._changes
                for _, future in changes:
                    if not future.done():
                        future.set_exception(self.failed or error)
                return

    def _make(self, change: Change, future: Future[None]) -> None:
        try:
            with schema.transaction(self._connection):
                change(self._connection)
        except sqlite3.Error:
            raise
        except Exception as error:  # it was not to be made: whoever asked for it hears so
            future.set_exception(error)
        else:
            future.set_result(None)

    def _fail(self, error: Exception) -> None:
        with self._wake:
            self.failed = schema.damaged(self._path, error)
        self._on_error(self.failed)

    def _save(self, rows: Sequence[ResultRow], attempts: Sequence[AttemptRow]) -> None:
        job = self._job
        # As nearly all groups are: one look instead of one at each row.
        alike = len(set(map(_seldom, rows))) == 1 and rows[0].success
        looked_at, times = (rows[:1], len(rows)) if alike else (rows, 1)
        new_failed = sum(not row.success for row in looked_at)
        replaced = times * sum(row.old for row in looked_at)
        completed = job.completed + len(rows) - new_failed
        failed = job.failed + new_failed - replaced
        unknown = job.cost_unknown + times * sum(row.cost is None and row.charged for row in looked_at)
        unknown += sum(row.cost is None and row.charged for row in attempts)
        cost = times * sum(row.cost or 0 for row in looked_at) + sum(row.cost or 0 for row in attempts)
        cost = _bounded(job.cost + cost)
        tokens_input, tokens_output = sum(map(_tokens_input, rows)), sum(map(_tokens_output, rows))
        came = pace.Point(0, len(rows) - new_failed, new_failed, _bounded(tokens_output), cost - job.cost)
        tokens_input = _bounded(job.tokens_input + tokens_input + sum(row.tokens_input for row in attempts))
        tokens_output = _bounded(job.tokens_output + tokens_output + sum(row.tokens_output for row in attempts))
        updated, elapsed = now_iso(), self._elapsed()
        with schema.transaction(self._connection):
            models = self._numbers({*(row.model for row in looked_at), *(row.model for row in attempts)})
            if attempts:
                self._connection.executemany(
                    schema.INSERT_ATTEMPT, [row.columns(models[row.model], updated) for row in attempts]
                )
            if replaced:
                self._connection.executemany(schema.KEEP_SUPERSEDED, [(updated, row.id) for row in rows if row.old])
            if rows:
                self._insert(rows, models, alike)
                pace.note_pace(self._connection, int(elapsed), came)
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
                    cost,
                    unknown,
                ),
            )
        # Counted only now that it is on the disk.
        # Failures first: who looks in between sees one item too few done, never one too many.
        job.failed, job.completed, job.updated_at = failed, completed, updated
        job.tokens_input, job.tokens_output, job.elapsed = tokens_input, tokens_output, elapsed
        job.cost, job.cost_unknown = cost, unknown

    def _insert(self, rows: Sequence[ResultRow], models: Mapping[str | None, int], alike: bool) -> None:
        """The results and their texts. What is `alike` in all rows is handed over once."""
        results, answers = list(map(_result_columns, rows)), list(map(_answer_columns, rows))
        texts = list(map(_text, rows))
        if not all(map(str.isascii, texts)):
            answers = [(index, clean(text)) for index, text in answers]
        same: tuple[object, ...] = ()
        same_beside: tuple[object, ...] = ()
        if alike:
            row = rows[0]
            same, same_beside = (*_result_rest(row), models[row.model]), (row.error and clean(row.error), row.extra)
        else:
            results = [
                (*columns, *_result_rest(row), models[row.model]) for columns, row in zip(results, rows, strict=True)
            ]
            answers = [
                (*columns, row.error and clean(row.error), row.extra)
                for columns, row in zip(answers, rows, strict=True)
            ]
        bulk.insert(self._connection, schema.INSERT_RESULT, results, schema.REPLACE_RESULT, shared=same)
        bulk.insert(
            self._connection,
            schema.INSERT_ANSWER,
            answers,
            schema.REPLACE_ANSWER,
            shared=same_beside,
            characters=sum(map(len, texts)),
        )

    def _numbers(self, names: set[str | None]) -> dict[str | None, int]:
        """The number of each model; None is the job's own. Names that are new are written."""
        numbers: dict[str | None, int] = {}
        for given in names:
            name = clean(self._job.model_id if given is None else given)
            if name not in self._models:
                added = self._connection.execute("INSERT INTO models (name) VALUES (?)", (name,)).lastrowid
                assert added is not None
                self._models[name] = added
            numbers[given] = self._models[name]
        return numbers


def _bounded(total: int) -> int:
    """A sum that SQLite can hold."""
    return min(total, LARGEST_SUM)
