"""What scored jobs have shown of each model: one SQLite table in the workspace, and the rates that follow from it.

A row is one graded answer: how the prompt looks, the model, whether it was right, what it cost and took. Rows come from
jobs whose answers are known, from comparisons, and from a person's own choice; never from guesses.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_router.routing.beta import interval
from ai_router.routing.categories import Guess, guess_of, shares_of
from ai_router.routing.cues import CATEGORIES
from ai_router.routing.features import features, plain_features
from batch.errors import BatchError

if TYPE_CHECKING:
    from ai_router.models import Registry
    from ai_router.settings import Workspace
    from batch.evaluation.pairs import Pair
    from batch.job import BatchJob, BatchResult

NAME = "evidence.db"
FORMAT = 1
ENOUGH = 10  # graded rows of a model in a category, from which on its rate counts as known
PRIOR = 4.0  # rows that the rate of a category is drawn to the model's own rate with
HASHED = 175  # signed features of a row beside the plain ones and the shares of the categories
_PAGE = 1000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS graded (
    id INTEGER PRIMARY KEY, prompt BLOB NOT NULL, category TEXT NOT NULL, model TEXT NOT NULL, right REAL NOT NULL,
    cost INTEGER, tokens_input INTEGER NOT NULL, tokens_output INTEGER NOT NULL, seconds REAL NOT NULL,
    source TEXT NOT NULL, features BLOB NOT NULL, UNIQUE (prompt, model, source)
) STRICT;
CREATE TABLE IF NOT EXISTS taken (job TEXT PRIMARY KEY, state TEXT NOT NULL, note TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""

GRADED = frozenset({"dataset"})  # kinds of jobs whose answers are known


class EvidenceError(BatchError):
    """The evidence cannot be read or written; the text names the file."""


@dataclass(frozen=True, slots=True)
class Graded:
    """One graded answer. `right` is 0 to 1; `cost` billionths of a dollar, None where unknown."""

    prompt: str
    model: str
    right: float
    source: str  # the job it comes from, "compare" or "choice"
    cost: int | None = None
    tokens_input: int = 0
    tokens_output: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Rate:
    """How often a model is right in a category: the posterior's mean and 95 % interval, and what it is known from."""

    model: str
    category: str  # "" for all together
    n: int
    right: float
    mean: float
    low: float
    high: float
    cost: float | None  # of an answer, billionths of a dollar
    seconds: float
    tokens_output: float

    @property
    def enough(self) -> bool:
        """Whether it may decide anything."""
        return self.n >= ENOUGH


@dataclass(slots=True)
class Rates:
    """The rates of all models, by category and together."""

    by_category: dict[tuple[str, str], Rate] = field(default_factory=dict)
    overall: dict[str, Rate] = field(default_factory=dict)

    def of(self, model: str, category: str) -> Rate | None:
        """The rate of a model in a category; None where nothing was graded."""
        return self.by_category.get((model, category))


class Evidence:
    """The table of one workspace. Each call opens the file and closes it, so that processes can share it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, workspace: Workspace) -> Evidence:
        """That of a workspace."""
        return cls(workspace.root / NAME)

    def add(self, rows: Iterable[Graded]) -> int:
        """Keep graded answers; the same prompt, model and source once more takes the place of the one before."""
        with self._open(write=True) as database:
            count = _insert(database, rows)
            database.commit()
            return count

    def take(self, job: str, state: str, note: str, rows: Iterable[Graded]) -> int:
        """Keep a job's rows in the place of those it gave before, and that it was looked at in this state."""
        with self._open(write=True) as database:
            database.execute("DELETE FROM graded WHERE source = ?", (job,))
            count = _insert(database, rows)
            database.execute("INSERT OR REPLACE INTO taken VALUES (?, ?, ?)", (job, state, note))
            database.commit()
            return count

    def taken(self) -> dict[str, tuple[str, str]]:
        """The jobs that were looked at: in what state, and why nothing was taken where so."""
        with self._open() as database:
            return {job: (state, note) for job, state, note in database.execute("SELECT job, state, note FROM taken")}

    def rates(self) -> Rates:
        """What the table says of each model, in each category and altogether."""
        sql = (
            "SELECT model, category, count(*), sum(right), avg(cost), avg(seconds), avg(tokens_output)"
            " FROM graded GROUP BY model, category"
        )
        with self._open() as database:
            found = database.execute(sql).fetchall()
        made = Rates()
        totals: dict[str, list[float]] = {}
        for model, _, n, right, cost, seconds, tokens in found:
            total = totals.setdefault(model, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
            known = cost is not None
            for at, value in enumerate((n, right, n * (cost or 0.0), n * known, n * seconds, n * tokens)):
                total[at] += value
        for model, (n, right, cost, priced, seconds, tokens) in totals.items():
            mean_cost = cost / priced if priced else None
            made.overall[model] = _rate(model, "", int(n), right, 1.0, 1.0, mean_cost, seconds / n, tokens / n)
        for model, category, n, right, cost, seconds, tokens in found:
            centre = made.overall[model].mean
            made.by_category[model, category] = _rate(
                model, category, n, right, PRIOR * centre, PRIOR * (1 - centre), cost, seconds, tokens
            )
        return made

    def rows(self, model: str) -> tuple[Any, Any, list[str]]:
        """Of a model's rows: features [rows, features], whether each was right, and their categories. Needs numpy."""
        import numpy as np

        with self._open() as database:
            found = database.execute(
                "SELECT features, right, category FROM graded WHERE model = ? ORDER BY id", (model,)
            ).fetchall()
        width = len(found[0][0]) // 2 if found else 0
        x = np.frombuffer(b"".join(row[0] for row in found), dtype="<f2").reshape(len(found), width)
        return x.astype(np.float32), np.array([row[1] for row in found], np.float32), [row[2] for row in found]

    @contextmanager
    def _open(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            if not write and not self.path.is_file():
                with closing(sqlite3.connect(":memory:")) as database:
                    database.executescript(_SCHEMA)
                    yield database
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=10)) as database:
                version = database.execute("PRAGMA user_version").fetchone()[0]
                if version > FORMAT:
                    raise EvidenceError(f"{self.path} was written by a newer version of ai-router")
                if version < FORMAT and write:
                    database.executescript(_SCHEMA + f"PRAGMA user_version = {FORMAT};")
                yield database
        except (sqlite3.Error, OSError) as error:
            raise EvidenceError(
                f"{self.path} cannot be used: {error}; delete it, and it is made anew from your jobs"
            ) from None


def _rate(
    model: str, category: str, n: int, right: float, a: float, b: float, cost: float | None, seconds: float, out: float
) -> Rate:
    a, b = a + right, b + n - right
    low, high = interval(a, b)
    return Rate(model, category, n, right, a / (a + b), low, high, cost, seconds, out)


def _insert(database: sqlite3.Connection, rows: Iterable[Graded]) -> int:
    count = 0
    seen: dict[bytes, tuple[str, bytes]] = {}
    for row in rows:
        key = hashlib.blake2b(
            unicodedata.normalize("NFKC", row.prompt).encode("utf-8", "replace"), digest_size=16
        ).digest()
        if key not in seen:
            if len(seen) >= _PAGE:
                seen.clear()
            seen[key] = (category_in(vector(row.prompt)).category, packed(row.prompt))
        category, made = seen[key]
        database.execute(
            "INSERT OR REPLACE INTO graded (prompt, category, model, right, cost, tokens_input, tokens_output, seconds,"
            " source, features) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (key, category, row.model, float(row.right), row.cost, row.tokens_input, row.tokens_output, row.seconds,
             row.source, made),
        )  # fmt: skip
        count += 1
    return count


@lru_cache(maxsize=1024)
def vector(text: str) -> tuple[float, ...]:
    """A prompt in few numbers: its features folded into `HASHED`, with signs, and the shares of its categories."""
    folded = [0.0] * HASHED
    found = features(text)
    for bucket, weight in zip(*found, strict=True):
        # Fibonacci hashing; the sign from another bit, so that what falls together cancels on average.
        mixed = bucket * 2654435761 & 0xFFFFFFFF
        folded[(mixed >> 8) % HASHED] += weight if mixed >> 31 else -weight
    return (*folded, *plain_features(text), *shares_of(found))


def category_in(numbers: Sequence[float]) -> Guess:
    """The category of a prompt that is there as `vector`."""
    return guess_of(numbers[-len(CATEGORIES) :])


def packed(text: str) -> bytes:
    """`vector` as it is stored: 16-bit floats, little-endian."""
    values = [max(-60000.0, min(60000.0, value)) for value in vector(text)]
    return struct.pack(f"<{len(values)}e", *values)


def gather(workspace: Workspace, registry: Registry) -> list[str]:
    """Take what the workspace's scored jobs show into the table; returns sentences about what was left out.

    A job is looked at again when it has more results than before.
    """
    from batch.checkpoint import CheckpointStore
    from batch.checkpoint.listing import list_jobs

    evidence = Evidence.of(workspace)
    known = evidence.taken()
    notes = []
    for info in list_jobs(workspace.checkpoints):
        if info.kind not in GRADED or info.file.suffix == ".json":
            continue
        state = f"{info.completed}/{info.failed}"
        if known.get(info.job_id, ("", ""))[0] != state:
            with CheckpointStore(info.file) as store:
                job = store.job()
            note, rows = _graded(job, registry)
            evidence.take(info.job_id, state, note, rows)
        else:
            note = known[info.job_id][1]
        if note:
            notes.append(note)
    return notes


def answers_of_jobs(workspace: Workspace, registry: Registry, model: str) -> set[bytes]:
    """The answers that a model gave in scored jobs which are counted, as `answer_key` has them."""
    from batch.checkpoint import CheckpointStore
    from batch.checkpoint.listing import list_jobs

    found: set[bytes] = set()
    for info in list_jobs(workspace.checkpoints):
        if info.kind in GRADED and info.file.suffix != ".json":
            with CheckpointStore(info.file) as store:
                job = store.job()
            why, name = _model_of(job, registry)
            if not why:
                found.update(answer_key(pair) for pair, by in _pairs(job) if _answered_by(by, job, name) == model)
    return found


def answer_key(pair: Pair) -> bytes:
    """An answer to a prompt, as a results file has them, in few bytes."""
    return hashlib.blake2b(f"{pair.input}\0{pair.predicted}".encode("utf-8", "replace"), digest_size=16).digest()


def _graded(job: BatchJob, registry: Registry) -> tuple[str, Iterator[Graded]]:
    """A job's graded answers; or why none of them counts."""
    why, model = _model_of(job, registry)
    return why, iter(()) if why else _rows(job, model, str(job.config.get("details", {}).get("match", "exact")))


def _model_of(job: BatchJob, registry: Registry) -> tuple[str, str]:
    """The model whose answers a job has, by its name today; or why they are nobody's."""
    details = job.config.get("details", {})
    model = job.asked_model or job.model_id
    try:
        spec = registry.get(model)
    except BatchError:
        spec = None
    if spec is not None:
        own = str(spec.adapter.absolute()) if spec.adapter else None
        if (details.get("adapter_path") or None) != own:
            other = next((s for s in registry.all() if _is(s, spec.place, details.get("adapter_path"))), None)
            if other is None:
                return f"Job {job.job_id} ran {model} with another adapter than any model has: not counted", ""
            model = other.id
        else:
            model = spec.id
    return "", model


def _is(spec: Any, place: Any, adapter: str | None) -> bool:
    own = str(spec.adapter.absolute()) if spec.adapter else None
    return bool(spec.place == place and own == adapter)


def _rows(job: BatchJob, model: str, match: str) -> Iterator[Graded]:
    from batch.evaluation.tally import ScoreTally

    score = ScoreTally(match)  # type: ignore[arg-type]
    for pair, result in _pairs(job):
        if (right := score.add(pair)) is not None:
            yield Graded(
                result.prompt, _answered_by(result, job, model), float(right), job.job_id, result.cost,
                result.tokens_input, result.tokens_output, result.duration,
            )  # fmt: skip


def _pairs(job: BatchJob) -> Iterator[tuple[Pair, BatchResult]]:
    from batch.checkpoint import CheckpointStore
    from batch.datasets.results import pair_of, with_requests

    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        for request, result in with_requests(store, store.iter_results(part="done")):
            yield pair_of(request, result), result


def _answered_by(result: BatchResult, job: BatchJob, model: str) -> str:
    return model if result.model in (None, job.model_id) else str(result.model)


def best_single(rates: Rates, models: Sequence[str]) -> str | None:
    """The model with the highest rate over everything graded; None where none is known well enough."""
    known = [rates.overall[model] for model in models if model in rates.overall and rates.overall[model].enough]
    return max(known, key=lambda rate: rate.mean).model if known else None
