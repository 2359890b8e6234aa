"""The rows of a job for a screen, and searches that can be watched and stopped."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ai_router.tui.results.pages import Rows
from ai_router.tui.widgets.table import Row
from ai_router.tui.widgets.text import count

if TYPE_CHECKING:
    from batch.checkpoint.rows import Part
    from batch.job import BatchJob, BatchResult

SHOWN = 600  # characters of a text kept for one line
SEARCH_PAGE = 512
REPORT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a job is."""

    total: int
    completed: int
    failed: int
    running: bool

    def of(self, part: str) -> int:
        """How many items are of a part."""
        pending = self.total - self.completed - self.failed
        return {"all": self.total, "done": self.completed, "failed": self.failed}.get(part, pending)


def read_job(path: Path) -> BatchJob:
    """A job as last committed."""
    from batch.checkpoint import CheckpointStore

    with CheckpointStore(path) as store:
        return store.job()


def read_counts(path: Path) -> Counts:
    """Its counts, and whether any process runs it."""
    from batch.checkpoint import lock_owner

    job = read_job(path)
    return Counts(job.total_prompts, job.completed, job.failed, lock_owner(path) is not None)


def read_ids(path: Path, part: Part) -> array[int]:
    """The ids of a part; eight megabytes a million."""
    from batch.checkpoint import CheckpointStore

    with CheckpointStore(path) as store:
        return array("q", store.ids(part))


def read_errors(path: Path) -> list[tuple[str, str, int]]:
    """Failures by class and message, with counts."""
    from batch.checkpoint import CheckpointStore

    with CheckpointStore(path) as store:
        return store.error_counts()


def read_result(path: Path, item: int) -> BatchResult:
    """One item, whole."""
    from batch.checkpoint import CheckpointStore

    with CheckpointStore(path) as store:
        return store.result(item)


@dataclass(frozen=True, slots=True)
class RowData:
    """What a line shows of an item. `attempts` is 0 while it is pending."""

    id: int
    prompt: str
    answer: str  # or the error
    success: bool
    attempts: int
    tokens: int
    seconds: float


def row_data(result: BatchResult) -> RowData:
    """A result without the length of its texts."""
    answer = result.response_text if result.success or not result.attempts else result.error_message or "failed"
    return RowData(
        result.prompt_index,
        result.prompt[:SHOWN],
        answer[:SHOWN],
        result.success,
        result.attempts,
        result.tokens_output,
        result.duration,
    )


def table_row(data: RowData) -> Row:
    """Number, status, prompt, answer, tokens, time."""
    if not data.attempts:
        return (count(data.id + 1), ("◌ pending", "muted"), data.prompt, "", "", "")
    status = ("✓ done", "success") if data.success else ("✗ failed", "error")
    return (
        count(data.id + 1),
        status,
        data.prompt,
        data.answer if data.success else (data.answer, "error"),
        (count(data.tokens), "muted"),
        (f"{data.seconds:,.2f} s", "muted"),
    )


@contextmanager
def job_rows(path: Path) -> Iterator[Rows[RowData]]:
    """Reads the rows of a checkpoint's items, for a `PageReader`."""
    from batch.checkpoint import CheckpointStore

    with CheckpointStore(path) as store:
        yield lambda ids: [row_data(result) for result in store.results(ids=list(ids), preview=SHOWN)]


class Search:
    """Which items of a part hold a text: found in a thread, in input order, readable while it goes on."""

    def __init__(self, path: Path, part: Part, text: str, total: int) -> None:
        self.path, self.part, self.text, self.total = path, part, text, total
        self.found: array[int] = array("q")
        self.position = 0  # items looked at, by their ids
        self.stopped = False

    @property
    def percent(self) -> int:
        """How far it is."""
        return min(100, self.position * 100 // max(1, self.total))

    def run(self, progress: Callable[[], object]) -> Search:
        """Look; `progress` is called a few times a second, from this thread."""
        from batch.checkpoint import CheckpointStore

        needle = self.text.casefold()
        reported = time.monotonic()
        with CheckpointStore(self.path) as store:
            while not self.stopped:
                page = store.results(part=self.part, start=self.position, limit=SEARCH_PAGE)
                if not page:
                    break
                self.found.extend(r.prompt_index for r in page if _holds(r, needle))
                self.position = page[-1].prompt_index + 1
                if time.monotonic() - reported >= REPORT_SECONDS:
                    reported = time.monotonic()
                    progress()
        return self

    def stop(self) -> None:
        """Look no further; what was found stays."""
        self.stopped = True


def _holds(result: BatchResult, needle: str) -> bool:
    return (
        needle in result.prompt.casefold()
        or needle in result.response_text.casefold()
        or (result.error_message is not None and needle in result.error_message.casefold())
    )
