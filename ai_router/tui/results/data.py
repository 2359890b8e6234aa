"""The rows of a job for a screen, and searches that can be watched and stopped."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ai_router.tui.results.pages import Rows
from ai_router.tui.results.query import parse_query
from ai_router.tui.widgets.columns import Column
from ai_router.tui.widgets.table import Row
from ai_router.tui.widgets.text import count, plural
from batch.prices import dollars
from batch.thinking import thinking_apart

if TYPE_CHECKING:
    from batch.checkpoint import CheckpointStore
    from batch.checkpoint.rows import Part
    from batch.checkpoint.texts import Texts
    from batch.job import BatchJob, BatchResult

SHOWN = 600  # characters of a text kept for one line
SEARCH_PAGE = 512
REPORT_SECONDS = 0.2
MOST_BLOCKS = 400  # of an index that are looked through before the order is asked for
MOST_RANGES = 400  # that SQLite is asked for by name
FIRST_REPORT = 20_000  # items looked at before it is said that nothing was found yet


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


def models_of(job: BatchJob) -> str:
    """The models that its items are meant for: the job's own, or how many."""
    return plural(len(job.models), "model") if len(job.models) > 1 else job.model_id


def read_counts(path: Path) -> Counts:
    """Its counts, and whether any process runs it."""
    from batch.checkpoint import lock_owner

    job = read_job(path)
    return Counts(job.total_prompts, job.completed, job.failed, lock_owner(path) is not None)


def read_ids(path: Path, part: Part) -> array[int]:
    """The ids of a part; eight megabytes a million."""
    from batch.checkpoint import CheckpointStore
    from batch.checkpoint.selecting import select_ids

    with CheckpointStore(path) as store:
        return select_ids(store, part)


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
    model: str = ""
    cost: int | None = None  # billionths of a dollar


def row_data(result: BatchResult) -> RowData:
    """A result without the length of its texts."""
    answer = result.error_message or "failed"
    if result.success or not result.attempts:
        thought, answer = thinking_apart(result.response_text, result.extra)
        if thought and not answer:  # it is longer than what was read
            answer = f"▸ {thought}"
    return RowData(
        result.prompt_index,
        result.prompt[:SHOWN],
        answer[:SHOWN],
        result.success,
        result.attempts,
        result.tokens_output,
        result.duration,
        result.model or "",
        result.cost,
    )


# A billionth of a dollar, the least there is, takes 13 cells.
# Title, what the rows are sorted by, and how wide; the titles also name the columns for a person's choice.
COLUMNS: tuple[tuple[Column, str], ...] = (
    (Column("#", 7, right=True), "id"),
    (Column("Status", 9), "class"),
    (Column("Prompt", flex=2), ""),
    (Column("Answer", flex=3), ""),
    (Column("Model", 14, from_width=110), "model"),
    (Column("Tokens", 7, right=True, from_width=70), "tokens"),
    (Column("Tries", 6, right=True, from_width=120), "tries"),
    (Column("Cost", 13, right=True, from_width=130), "cost"),
    (Column("Time", 8, right=True, from_width=60), "time"),
)
TITLES = tuple(column.title for column, _ in COLUMNS)


def table_row(data: RowData, *, marked: bool = False) -> Row:
    """The cells of COLUMNS; a marked row has a sign of its own."""
    number = count(data.id + 1)
    if not data.attempts:
        return (
            number,
            ("● pending", "accent") if marked else ("◌ pending", "muted"),
            data.prompt,
            "",
            "",
            "",
            "",
            "",
            "",
        )
    status = ("✓ done", "success") if data.success else ("✗ failed", "error")
    if marked:
        status = (f"●{status[0][1:]}", "accent")
    return (
        number,
        status,
        data.prompt,
        data.answer if data.success else (data.answer, "error"),
        (data.model, "muted"),
        (count(data.tokens), "muted"),
        (count(data.attempts), "warning" if data.attempts > 1 else "muted"),
        ("—" if data.cost is None else dollars(data.cost), "muted"),
        (f"{data.seconds:,.2f} s", "muted"),
    )


@contextmanager
def job_rows(path: Path) -> Iterator[Rows[RowData]]:
    """Reads the rows of a checkpoint's items, for a `PageReader`, in the order that is asked for."""
    from batch.checkpoint import CheckpointStore

    with CheckpointStore(path) as store:

        def read(ids: Sequence[int]) -> list[RowData]:
            found = {r.prompt_index: row_data(r) for r in store.results(ids=list(ids), preview=SHOWN)}
            return [found[item] for item in ids if item in found]

        yield read


@dataclass(frozen=True, slots=True)
class Order:
    """What a list is sorted by; as the items were put in, where nothing else is said."""

    by: str = "id"
    descending: bool = False

    @property
    def natural(self) -> bool:
        """Whether it is the order of the items."""
        return self == Order()


class Search:
    """The items that a filter holds, in an order: found in a thread, readable while it goes on."""

    def __init__(self, path: Path, part: Part, text: str, total: int, order: Order = Order()) -> None:
        self.path, self.text, self.total, self.order = path, text, total, order
        self.query = parse_query(text)
        self.part: Part = self.query.part or part
        self.found: array[int] = array("q")
        self.position = 0  # items looked at
        self.stopped = False

    @property
    def percent(self) -> int:
        """How far it is."""
        return min(100, self.position * 100 // max(1, self.total))

    def run(self, progress: Callable[[], object]) -> Search:
        """Look; `progress` is called with the first hit and then a few times a second, from this thread."""
        from batch.checkpoint import CheckpointStore
        from batch.checkpoint.texts import open_index, pages

        query = self.query
        with CheckpointStore(self.path) as store:
            index = open_index(self.path) if query.texts else None
            blocks = index.candidates(query.texts) if index is not None else None
            block = index.block if index is not None else 1
            if not query.conditions and self.order.natural:
                self._look(pages(store, self.part, self.total, blocks, block, SEARCH_PAGE), progress)
            elif blocks is not None and len(blocks) <= MOST_BLOCKS:  # the texts say more than conditions and order
                self._look(pages(store, self.part, self.total, blocks, block, SEARCH_PAGE), progress, store)
                self.found = self._ordered(store, self.found)
            else:
                ids = self._ordered(store)
                if not (query.texts or query.without):
                    self.found, self.position = ids, self.total
                    return self
                if blocks is not None:
                    wanted = set(blocks)
                    ids = array("q", (item for item in ids if item // block in wanted))
                self.total = len(ids)
                self._look(_chosen(store, ids), progress)
        if not self.stopped:
            self.position = self.total
        return self

    def _ordered(self, store: CheckpointStore, among: array[int] | None = None) -> array[int]:
        """All that meet the conditions, or those of some items, in the order that is asked for."""
        from batch.checkpoint.selecting import select_ids

        few = None if among is None or len(among) > MOST_RANGES else [(item, item) for item in among]
        by, conditions = self.order.by, self.query.conditions
        ids = select_ids(store, self.part, conditions, by=by, descending=self.order.descending, within=few)
        if among is None or few is not None:
            return ids
        wanted = set(among)
        return array("q", (item for item in ids if item in wanted))

    def _look(
        self,
        found: Iterator[tuple[int, list[Texts]]],
        progress: Callable[[], object],
        store: CheckpointStore | None = None,
    ) -> None:
        """Look through pages; with a store, at the conditions too."""
        from batch.checkpoint.selecting import select_ids

        told, texts, conditions = -math.inf, self.query.texts, self.query.conditions
        for position, page in found:
            if self.stopped:
                return
            # All of a page at once: of most pages that is all there is to do.
            whole = "\n".join(text for _, *parts in page for text in parts).casefold() if texts else ""
            hits = array("q")
            if all(text in whole for text in texts):
                hits.extend(item for item, *parts in page if self.query.holds_in(*parts))
            if hits and conditions and store is not None:
                for start in range(0, len(hits), MOST_RANGES):
                    some = [(item, item) for item in hits[start : start + MOST_RANGES]]
                    self.found.extend(select_ids(store, self.part, conditions, within=some))
            else:
                self.found.extend(hits)
            self.position = position
            if time.monotonic() - told >= REPORT_SECONDS and (self.found or told > 0 or position > FIRST_REPORT):
                told = time.monotonic()
                progress()

    def stop(self) -> None:
        """Look no further; what was found stays."""
        self.stopped = True


def _chosen(store: CheckpointStore, ids: Sequence[int]) -> Iterator[tuple[int, list[Texts]]]:
    from batch.checkpoint.texts import texts_of

    for start in range(0, len(ids), SEARCH_PAGE):
        page = ids[start : start + SEARCH_PAGE]
        yield start + len(page), texts_of(store, page)


def index_texts(path: Path, total: int, stopped: Callable[[], bool]) -> None:
    """Make the index that a large job's texts are found by, where there is none that is up to date."""
    from batch.checkpoint.texts import WORTH, build_index, open_index

    if total >= WORTH and open_index(path) is None:
        build_index(path, stopped)
