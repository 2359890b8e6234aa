"""The checkpoint of one job: created whole, read by page, never held in memory."""

from __future__ import annotations

import sqlite3
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from batch.alike import Alike
from batch.checkpoint import migrations, schema
from batch.checkpoint.creating import write_new
from batch.checkpoint.lock import lock_path
from batch.checkpoint.pages import TextPages
from batch.checkpoint.prompts import Prompts
from batch.checkpoint.rows import FROM, FROM_FAILED, WHERE, Part, columns, result_of
from batch.errors import CheckpointError
from batch.items import Request
from batch.job import BatchJob, BatchResult, JobStatus, check_job_id
from batch.jsontext import load_json

PAGE = 512
BLOCK = 8192

DONE = 1  # in a map of a job's items: nothing is left to do
WITH_PROVIDER = 2  # not done, and not to be given out

_JOB = """
    p.job_id, j.model_id, p.total, j.completed, j.failed, j.status, j.started_at, j.completed_at, p.created_at,
    j.updated_at, j.tokens_input, j.tokens_output, j.elapsed, j.reason, j.config, j.cost, j.cost_unknown, p.model_id,
    EXISTS (SELECT 1 FROM held)
"""
# The same of a file of format 1, as it is: through what makes it look like one of today it takes three times as long.
_JOB_1 = """
SELECT job_id, model_id, total, completed, failed, status, started_at, completed_at, created_at, updated_at,
    tokens_input, tokens_output, elapsed, reason, config, 0, completed, model_id, 0 FROM main.job
"""
_WITH_PROVIDER = "SELECT count(*) FROM held h WHERE NOT EXISTS (SELECT 1 FROM results r WHERE r.id = h.item)"
_JOB_TYPES: tuple[type | types.UnionType, ...] = (
    *(str, str, int, int, int, str, str | None, str | None, str),
    *(str, int, int, float, str | None, str, int, int, str),
    int,
)
_ITEM = """
    SELECT i.id, i.text, i.extra, g.name, i.reason, i.columns FROM items i LEFT JOIN models g ON g.id = i.model
"""
# In the same statement as the job's row, so that both are of one moment.
_COUNTS = """
    (SELECT max(id) FROM items), (SELECT count(*) FROM results),
    (SELECT count(*) FROM results WHERE success = 0)
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """A job as it was asked for; never changed afterwards."""

    job_id: str
    model_id: str
    total: int
    created_at: str
    config: Mapping[str, Any]


class CheckpointStore:
    """Reads one job. Each thread uses a store of its own; writing results is the `ResultWriter`'s."""

    def __init__(self, path: Path, mode: schema.Mode = "read") -> None:
        self.path = Path(path)
        self._connection, self._format = schema.opened(self.path, mode)
        self._text_pages = TextPages(self.rows)

    @classmethod
    def create(
        cls,
        directory: Path,
        job: BatchJob,
        requests: Iterable[Request | str],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> CheckpointStore:
        """Write a new checkpoint with all its items in one transaction; sets the job's total and checkpoint file.

        The file appears whole: it is filled under another name, synced and renamed. `progress` is called with the
        number of items written so far.
        """
        return cls(write_new(directory, job, requests, progress))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> CheckpointStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rows(self, sql: str, parameters: Sequence[Any] = (), *, of_format_1: str = "") -> list[Any]:
        """All rows of a query, for the modules of this package; CheckpointError where the file is damaged.

        `of_format_1` is the same query as it is put to a file of format 1, where that is worth while.
        """
        old = self._format != schema.FORMAT and not sql.startswith("PRAGMA")
        asked = ((self._format == 1 and of_format_1) or migrations.PREFIXES[self._format] + sql) if old else sql
        try:
            return self._connection.execute(asked, parameters).fetchall()
        except schema.FAULTS as error:
            # It may be that it was read as an older format, and another process has brought it up to date meanwhile.
            before, self._format = self._format, self._format_now()
            if before == self._format:
                raise schema.damaged(self.path, error) from error
        return self.rows(sql, parameters, of_format_1=of_format_1)

    def _format_now(self) -> int:
        try:
            found: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        except schema.FAULTS as error:
            raise schema.damaged(self.path, error) from error
        return found

    # -- the job ------------------------------------------------------------------------------------------------

    def job(self, *, recount: bool = False) -> BatchJob:
        """The job as last committed, with its prompts as a lazy sequence.

        `recount` counts the results instead of believing the job's row, and checks that no item is missing.
        """
        sql = f"SELECT {_JOB}{',' + _COUNTS if recount else ''} FROM job j JOIN plan p ON p.id = j.id"
        rows = self.rows(sql, of_format_1="" if recount else _JOB_1)
        if not rows:
            raise CheckpointError(f"Damaged checkpoint {self.path}: it holds no job")
        row = rows[0]
        try:
            for value, type_ in zip(row[: len(_JOB_TYPES)], _JOB_TYPES, strict=True):
                if not isinstance(value, type_):
                    raise TypeError(f"{value!r} in the job's row")
            datetime.fromisoformat(row[9])
            config = load_json(row[14])
            if not isinstance(config, dict):
                raise TypeError("the configuration is not an object")
            JobStatus(row[5])
            check_job_id(row[0])
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"Damaged checkpoint {self.path}: {error}") from error
        job = BatchJob(
            job_id=row[0],
            model_id=row[1],
            prompts=Prompts(self.path, row[2]),
            total_prompts=row[2],
            completed=row[3],
            failed=row[4],
            status=row[5],
            started_at=row[6],
            completed_at=row[7],
            checkpoint_file=self.path,
            created_at=row[8],
            updated_at=row[9],
            tokens_input=row[10],
            tokens_output=row[11],
            elapsed=row[12],
            reason=row[13],
            config=config,
            cost=row[15],
            cost_unknown=row[16],
            asked_model=row[17],
            with_provider=self.rows(_WITH_PROVIDER)[0][0] if row[18] else 0,
        )
        if recount:
            last, results, failed = row[len(_JOB_TYPES) :]
            if (-1 if last is None else last) + 1 != job.total_prompts:
                raise CheckpointError(f"Damaged checkpoint {self.path}: items are missing")
            if (results - failed, failed) != (job.completed, job.failed):
                self.verify()  # both are written in one transaction, so results may have been lost
            job.completed, job.failed = results - failed, failed
        return job

    def plan(self) -> Plan:
        """The job as it was asked for, whatever later runs made of it."""
        rows = self.rows("SELECT job_id, model_id, total, created_at, config FROM plan")
        if not rows:
            raise CheckpointError(f"Damaged checkpoint {self.path}: it holds no job")
        try:
            job_id, model_id, total, created_at, config = rows[0]
            return Plan(job_id, model_id, total, created_at, load_json(config))
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"Damaged checkpoint {self.path}: {error}") from error

    def answered_by(self) -> dict[str | None, int]:
        """How many results each model gave; under None those of format 1, which did not keep who answered."""
        sql = "SELECT m.name, n FROM (SELECT model, count(*) n FROM results GROUP BY model) LEFT JOIN models m"
        return dict(self.rows(f"{sql} ON m.id = model ORDER BY n DESC"))

    def meant_for(self, besides: Collection[str | None]) -> list[str]:
        """The models beside these that items are meant for by name, in the order in which items first named them."""
        others = [(number, name) for number, name in self.rows("SELECT id, name FROM models ORDER BY id")
                  if name not in besides]  # fmt: skip
        if not others:
            return []  # without a look at every item
        named = {number for (number,) in self.rows("SELECT DISTINCT model FROM items WHERE model IS NOT NULL")}
        return [name for number, name in others if number in named]

    def has_reasons(self) -> bool:
        """Whether any item says why it is meant for its model."""
        return bool(self.rows("SELECT EXISTS (SELECT 1 FROM items WHERE reason IS NOT NULL)")[0][0])

    def carried_names(self) -> list[str]:
        """The names of all columns that items carry through, in the order in which they come up."""
        names: dict[str, None] = {}
        last = -1
        sql = f"SELECT id, columns FROM items WHERE id > ? AND columns IS NOT NULL ORDER BY id LIMIT {BLOCK}"
        while rows := self.rows(sql, (last,)):
            try:
                for _, text in rows:
                    names.update(dict.fromkeys(load_json(text)))
            except (ValueError, TypeError) as error:
                raise CheckpointError(f"Damaged checkpoint {self.path}: {error}") from error
            last = rows[-1][0]
        return list(names)

    def counts(self) -> tuple[int, int]:
        """Completed and failed, counted."""
        total, failed = self.rows("SELECT count(*), (SELECT count(*) FROM results WHERE success = 0) FROM results")[0]
        return total - failed, failed

    def verify(self) -> None:
        """Read every page of the file; raises `CheckpointError` on the first fault. Takes seconds a gigabyte."""
        answer = self.rows("PRAGMA integrity_check(1)")[0][0]
        if answer != "ok":
            raise CheckpointError(f"Damaged checkpoint {self.path}: {answer}")

    # -- items --------------------------------------------------------------------------------------------------

    def request(self, index: int) -> Request:
        """One item as it was put in."""
        rows = self.rows(f"{_ITEM} WHERE i.id = ?", (index,))
        if not rows:
            raise IndexError(index)
        return self._request(*rows[0])

    def _request(self, index: int, text: Any, extra: Any, model: Any, reason: Any, columns: Any) -> Request:
        try:
            if not isinstance(text, str):
                raise TypeError(f"the text of item {index} is not a text")
            return Request(
                text,
                load_json(extra) if extra else None,
                model,
                reason,
                load_json(columns) if columns else None,
            )
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"Damaged checkpoint {self.path}: {error}") from error

    def requests(self, ids: Sequence[int]) -> list[tuple[int, Request]]:
        """Items by ascending ids, each of them once; close ids are read in one sweep."""
        if not ids:
            return []
        first, last = ids[0], ids[-1]
        if last - first + 1 == len(ids) > 1 and (texts := self._text_pages.read(first, last)) is not None:
            return [(index, Request(text)) for index, text in zip(ids, texts, strict=True)]
        if last - first < 4 * len(ids):
            rows = self.rows(f"{_ITEM} WHERE i.id BETWEEN ? AND ? ORDER BY i.id", (first, last))
            if len(rows) != len(ids):
                wanted = set(ids)
                rows = [row for row in rows if row[0] in wanted]
        else:
            marks = ",".join("?" * len(ids))
            rows = self.rows(f"{_ITEM} WHERE i.id IN ({marks}) ORDER BY i.id", ids)
        if len(rows) != len(ids):
            raise CheckpointError(f"Damaged checkpoint {self.path}: items are missing")
        return [(row[0], self._request(*row)) for row in rows]

    def texts(self, ids: Sequence[int]) -> dict[int, str]:
        """The texts alone of some items, up to a few hundred, by ascending ids, each of them once."""
        if ids and (texts := self._text_pages.read_some(ids)) is not None:
            return dict(zip(ids, texts, strict=True))
        return {index: request.text for index, request in self.requests(ids)}

    def done_map(self, total: int, *, retry_failed: bool = False) -> bytearray:
        """One byte an item: 0, `DONE` where nothing is left to do, or `WITH_PROVIDER`. A megabyte a million items."""
        done = bytearray(total)
        success = " AND success = 1" if retry_failed else ""
        if self.rows("SELECT 1 FROM results WHERE id < 0 OR id >= ? LIMIT 1", (total,)):
            raise CheckpointError(f"Damaged checkpoint {self.path}: a result has no item")
        for start in range(0, total, BLOCK):
            block = (start, min(start + BLOCK, total) - 1)
            size = block[1] - start + 1
            where = f"FROM results WHERE id BETWEEN ? AND ?{success}"
            count = self.rows(f"SELECT count(*) {where}", block)[0][0]
            # Counting is far cheaper than reading ids, and most blocks are all done or not begun.
            if count == size:
                done[start : start + size] = bytes((DONE,)) * size
            elif count:
                for (index,) in self.rows(f"SELECT id {where}", block):
                    done[index] = DONE
        for (index,) in self.rows("SELECT item FROM held"):
            if not 0 <= index < total:
                raise CheckpointError(f"Damaged checkpoint {self.path}: a submission has an item that is none")
            done[index] = done[index] or WITH_PROVIDER
        return done

    # -- results ------------------------------------------------------------------------------------------------

    def results(
        self,
        *,
        part: Part = "all",
        start: int = 0,
        limit: int = PAGE,
        ids: Sequence[int] | None = None,
        preview: int | None = None,
    ) -> list[BatchResult]:
        """A page in input order, of items from id `start` on, or of the given ids. A pending item has attempts 0.

        `preview` cuts the texts of an item to so many characters each, and leaves out what the engine said beside.
        """
        wanted = columns(preview)
        if ids is not None:
            marks = ",".join("?" * len(ids))
            rows = self.rows(f"SELECT {wanted} {FROM} WHERE i.id IN ({marks}) ORDER BY i.id", ids)
        elif part == "failed":  # through the index of failures
            rows = self.rows(
                f"SELECT {wanted} {FROM_FAILED} WHERE r.success = 0 AND r.id >= ? ORDER BY r.id LIMIT ?",
                (start, limit),
            )
        else:
            rows = self.rows(
                f"SELECT {wanted} {FROM} WHERE i.id >= ? AND {WHERE[part]} ORDER BY i.id LIMIT ?", (start, limit)
            )
        try:
            return [result_of(row, preview) for row in rows]
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"Damaged checkpoint {self.path}: {error}") from error

    def iter_results(self, *, part: Part = "all") -> Iterator[BatchResult]:
        """Every item of a part in input order; without `pending` ones for `all`, as exports want it."""
        start = 0
        while page := self.results(part=part, start=start):
            start = page[-1].prompt_index + 1
            yield from (r for r in page if r.attempts or part == "pending")

    def result(self, index: int) -> BatchResult:
        """One item with its result; attempts is 0 while it is pending."""
        page = self.results(ids=[index])
        if not page:
            raise IndexError(index)
        return page[0]

    def ids(self, part: Part = "all", *, search: str = "") -> list[int]:
        """The ids of a part in input order, where prompt, answer or error contains `search` (case-insensitive)."""
        if not search:
            sql = "SELECT id FROM results WHERE success = 0 ORDER BY id" if part == "failed" else None
            sql = sql or f"SELECT i.id {FROM} WHERE {WHERE[part]} ORDER BY i.id"
            return [row[0] for row in self.rows(sql)]
        escaped = search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        like = f"%{escaped}%"
        sql = (
            f"SELECT i.id {FROM} WHERE {WHERE[part]} AND (i.text LIKE ?1 ESCAPE '\\'"
            " OR a.text LIKE ?1 ESCAPE '\\' OR a.error LIKE ?1 ESCAPE '\\') ORDER BY i.id"
        )
        return [row[0] for row in self.rows(sql, (like,))]

    def error_counts(self, limit: int = 20) -> list[tuple[str, str, int]]:
        """Failures by class and message, most first; messages that differ in their numbers alone are one kind."""
        rows = self.rows(
            "SELECT coalesce(r.error_class, 'permanent'), substr(coalesce(a.error, ''), 1, 120) m, count(*) n"
            " FROM results r LEFT JOIN answers a ON a.id = r.id WHERE r.success = 0"
            " GROUP BY 1, 2 ORDER BY n DESC"
        )
        found: list[tuple[str, str, int]] = []
        for name in dict.fromkeys(row[0] for row in rows):
            kinds = Alike((message, number) for kind, message, number in rows if kind == name)
            found += [(name, message, number) for message, number in kinds.most_common(limit)]
        return sorted(found, key=lambda kind: -kind[2])[:limit]

    def cut(self) -> int:
        """How many answers end at the limit of tokens and not by themselves; takes a second a million results."""
        rows = self.rows(
            "SELECT count(*) FROM results r JOIN answers a ON a.id = r.id WHERE r.success = 1"
            " AND json_extract(a.extra, '$.finish_reason') = 'length'"
        )
        return int(rows[0][0])

    def performance(self) -> dict[str, Any]:
        """A summary of the answers so far: counts, tokens, attempts, seconds (mean, p50, p95, p99, longest).

        `cut` of the answers end at the limit of tokens.
        """
        count, mean, longest, tokens_in, tokens_out, attempts = self.rows(
            "SELECT count(*), avg(duration), max(duration), sum(tokens_input), sum(tokens_output), sum(attempts)"
            " FROM results WHERE success = 1"
        )[0]
        summary: dict[str, Any] = {
            "answers": count,
            "mean_seconds": mean or 0.0,
            "longest_seconds": longest or 0.0,
            "tokens_input": tokens_in or 0,
            "tokens_output": tokens_out or 0,
            "attempts": attempts or 0,
            "cut": self.cut(),
        }
        for name, fraction in (("p50_seconds", 0.5), ("p95_seconds", 0.95), ("p99_seconds", 0.99)):
            rows = self.rows(
                "SELECT duration FROM results WHERE success = 1 ORDER BY duration LIMIT 1 OFFSET ?",
                (max(0, round(fraction * count) - 1),),
            )
            summary[name] = rows[0][0] if rows else 0.0
        return summary

    def send(self, command: str, value: str | None = None) -> None:
        """Leave a word for the process that runs this job: pause, resume, stop or concurrency."""
        if self.path.stat().st_nlink > 1 and not lock_path(self.path).exists():
            raise CheckpointError(f"{self.path} is run under another of its names; say it there")
        # Not upgraded: the process that runs the job may be an older version.
        connection = schema.connect(self.path, "write", upgrade=False)
        try:
            connection.execute("INSERT INTO control (command, value) VALUES (?, ?)", (command, value))
        except sqlite3.Error as error:
            raise schema.damaged(self.path, error) from error
        finally:
            connection.close()
