"""The pairs of a run for a screen: scored in a thread that can be watched and stopped, texts read by the page."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from ai_router.kinds import kind_of
from ai_router.kinds.base import SCORE
from ai_router.tui.results.data import Counts, read_counts
from ai_router.tui.results.pages import Rows
from batch.errors import BatchError

if TYPE_CHECKING:
    from batch.checkpoint import CheckpointStore
    from batch.evaluation.measure import Measured, Setup
    from batch.evaluation.options import EvaluationOptions
    from batch.evaluation.pairs import Pair, ResultsReader
    from batch.evaluation.report import Report

SHOWN = 600  # characters of a text kept for one line
PAGE = 512
REPORT_SECONDS = 0.2
YIELD_EVERY = 32  # pairs after which the screen gets its turn
NO_TYPE = -1
MOST_TYPES = 30_000

Placed = tuple[int, "Pair"]
Pairs = AbstractContextManager[Rows["Pair"]]


class Stopped(Exception):
    """Nobody waits for this any more."""


class NotADatasetError(BatchError):
    """What was opened has no expected answers."""


class PairSource(ABC):
    """Where the pairs of a run are. A place is what a pair is found by again: the id of an item, or a byte."""

    live = False  # whether more may come

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.at = 0.0  # when it began, in seconds since 1970; 0 where nothing says so
        self.share = 0.0  # of the way through, of the scan under way
        self.reader: ResultsReader | None = None  # of the last scan of a file

    @abstractmethod
    def scan(self, known: bytearray | None = None) -> Iterator[Placed]:
        """The pairs in order; where `known` has a byte for each place, only those that are not in it."""

    @abstractmethod
    def opened(self) -> Pairs:
        """Reads the pairs of some places, whole, in the order of the places."""

    def pairs(self) -> Iterator[Pair]:
        """The pairs alone."""
        return (pair for _, pair in self.scan())

    def number(self, index: int, place: int) -> int:
        """What a row is called on the screen."""
        return index + 1

    def read(self, place: int) -> Pair:
        """One pair, whole."""
        with self.opened() as rows:
            return rows([place])[0]


class JobPairs(PairSource):
    """The results of a job whose answers are known."""

    live = True

    def __init__(self, path: Path) -> None:
        from batch.checkpoint import CheckpointStore

        with CheckpointStore(path) as store:
            job = store.job()
        if SCORE not in kind_of(job.kind).actions:
            raise NotADatasetError(f"Job {job.job_id} has no expected answers to score its results against")
        self.details = dict(job.config.get("details", {}))
        self.model, self.total, self.job_id = job.model_id, job.total_prompts, job.job_id
        source = str(job.config.get("source", "")).replace("\\", "/").rpartition("/")[2]
        super().__init__(path, f"{source} · {job.job_id}" if source else job.job_id)
        self.at = _seconds(job.created_at)

    @property
    def about(self) -> str:
        """The model, and its adapter where it has one."""
        adapter = self.details.get("adapter_path")
        return f"{self.model} + {Path(str(adapter)).name}" if adapter else self.model

    def number(self, index: int, place: int) -> int:
        """The number of the item."""
        return place + 1

    def scan(self, known: bytearray | None = None) -> Iterator[Placed]:
        """In the order of the items."""
        from batch.checkpoint import CheckpointStore
        from batch.datasets.results import pair_of, with_requests

        self.share = 0.0
        with CheckpointStore(self.path) as store:
            if known is None:
                results: Iterable[object] = store.iter_results()
            else:
                ids = [i for i in sorted([*store.ids("done"), *store.ids("failed")]) if not known[i]]
                results = chain.from_iterable(store.results(ids=ids[at : at + PAGE]) for at in range(0, len(ids), PAGE))
            for request, result in with_requests(store, results):  # type: ignore[arg-type]  # iter_results' items
                self.share = (result.prompt_index + 1) / self.total
                yield result.prompt_index, pair_of(request, result)

    @contextmanager
    def opened(self) -> Iterator[Rows[Pair]]:
        """One store for as long as pages are read."""
        from batch.checkpoint import CheckpointStore

        with CheckpointStore(self.path) as store:
            yield lambda places: _job_pairs(store, places)

    def failed(self) -> set[int]:
        """The items that have failed by now."""
        from batch.checkpoint import CheckpointStore

        with CheckpointStore(self.path) as store:
            return set(store.ids("failed"))

    def counts(self) -> Counts:
        """How far the job is, and whether any process runs it."""
        return read_counts(self.path)


def _seconds(timestamp: str) -> float:
    try:
        return datetime.fromisoformat(timestamp).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _job_pairs(store: CheckpointStore, places: Sequence[int]) -> list[Pair]:
    from batch.datasets.results import pair_of, with_requests

    found = {
        result.prompt_index: pair_of(request, result)
        for request, result in with_requests(store, store.results(ids=sorted(set(places))))
    }
    return [found[place] for place in places]


class FilePairs(PairSource):
    """The rows of a results file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, path.name)

    def scan(self, known: bytearray | None = None) -> Iterator[Placed]:
        """In the order of the file."""
        from batch.evaluation.pairs import ResultsReader

        self.share = 0.0
        self.reader = reader = ResultsReader(self.path)
        size = max(1, self.path.stat().st_size) if self.path.is_file() else 1
        for pair in reader:
            self.share = reader.offset / size
            yield reader.offset, pair

    @contextmanager
    def opened(self) -> Iterator[Rows[Pair]]:
        """One file for as long as pages are read."""
        import orjson

        from batch.evaluation.pairs import pair_of

        with self.path.open("rb") as file:

            def rows(places: Sequence[int]) -> list[Pair]:
                found = []
                for place in places:
                    file.seek(place)
                    found.append(pair_of(orjson.loads(file.readline().removeprefix(b"\xef\xbb\xbf"))))
                return found

            yield rows


def open_source(path: Path) -> PairSource:
    """A job's checkpoint or a results file. Raises what a person can act on."""
    from batch.export.atomic import is_checkpoint

    if path.is_file() and is_checkpoint(path):
        return JobPairs(path)
    if not path.is_file():
        from batch.evaluation.pairs import read_results

        next(iter(read_results(path)), None)  # says what is wrong
    return FilePairs(path)


def cut_pair(pair: Pair) -> Pair:
    """A pair without the length of its texts."""
    return replace(
        pair,
        input=pair.input[:SHOWN],
        expected=pair.expected[:SHOWN],
        predicted=pair.predicted[:SHOWN],
        error=pair.error[:SHOWN] if pair.error else pair.error,
    )


class Scored:
    """The verdicts of a run as they come, by their numbers: some 15 bytes a row, in the order of the pairs."""

    def __init__(self) -> None:
        self.places: array[int] = array("q")
        self.verdicts = bytearray()
        self.types: array[int] = array("h")
        self.type_names: dict[str, int] = {}
        self._of: dict[int, array[int]] = {}  # the rows of a verdict
        self._sorted = True

    def __len__(self) -> int:
        return len(self.verdicts)

    def add(self, place: int, verdict: int, error_type: str | None) -> None:
        """Another row."""
        if self.places and place < self.places[-1]:
            self._sorted = False
        row = len(self.verdicts)
        self.places.append(place)
        number = NO_TYPE
        if error_type is not None and (error_type in self.type_names or len(self.type_names) < MOST_TYPES):
            number = self.type_names.setdefault(error_type, len(self.type_names))
        self.types.append(number)
        self._of.setdefault(verdict, array("i")).append(row)
        self.verdicts.append(verdict)  # last: whoever counts rows from another thread finds them whole

    def count(self, verdict: int | None = None) -> int:
        """How many rows there are of a verdict, or in all."""
        return len(self) if verdict is None else len(self._of.get(verdict, ()))

    def select(self, verdict: int | None = None, error_type: str | None = None) -> Sequence[int]:
        """The rows of a verdict and of an error type, in order; they may grow while more is scored."""
        chosen: Sequence[int] = range(len(self)) if verdict is None else self._of.setdefault(verdict, array("i"))
        if error_type is None:
            return chosen
        number = self.type_names.get(error_type, NO_TYPE - 1)
        return array("i", (row for row in chosen if self.types[row] == number))

    def copy_in_order(self) -> Scored:
        """The same rows by their places: themselves where they are in order."""
        if self._sorted:
            return self
        names = list(self.type_names)
        fresh = Scored()
        fresh.type_names = dict(self.type_names)
        for row in sorted(range(len(self)), key=self.places.__getitem__):
            number = self.types[row]
            fresh.add(self.places[row], self.verdicts[row], names[number] if number != NO_TYPE else None)
        return fresh


class Scorer:
    """Scores a source in one thread; another reads what it has so far in `rows`, and may stop it."""

    def __init__(
        self, source: PairSource, options: EvaluationOptions, *, setup: Setup | None = None, keep_ids: bool = False
    ) -> None:
        self.source, self.options = source, options
        self.rows = Scored()
        self.report: Report | None = None
        self.measured: Measured | None = None
        self.scored_rows: array[int] = array("i")  # rows of the pairs that were scored, in the order of their counts
        self.seconds = 0.0  # what the last scoring took
        self.step = "scoring"
        self._setup, self._keep_ids = setup, keep_ids
        self._failed: set[int] = set()
        self._stopped = False

    @property
    def percent(self) -> int:
        """How far it is."""
        return min(100, int(self.source.share * 100))

    @property
    def text(self) -> str:
        """What it is at."""
        return f"{self.step} {self.percent} %" if self.step == "scoring" else self.step

    def stop(self) -> None:
        """Score no further."""
        self._stopped = True

    def run(self, progress: Callable[[], object]) -> Scorer:
        """Score what there is, and of a job that was scored before what is new.

        `progress` is called a few times a second, from this thread. Raises Stopped.
        """
        began = time.monotonic()
        known = self._known()
        self.step = "scoring"
        self._add(self.source.scan(known), progress)
        self.check()
        self.step = "working out intervals"
        if self.report is None:  # something to look at
            self._make_report(samples=0)
        progress()
        self._make_report()
        self.seconds = time.monotonic() - began
        return self

    def check(self) -> None:
        """Raise Stopped if nobody waits for this any more."""
        if self._stopped:
            raise Stopped

    def _known(self) -> bytearray | None:
        """The items of a job that are scored; begins anew where one of them may have another result now."""
        from batch.evaluation.measure import LOOKED_AT

        source = self.source
        if self.measured is None or not isinstance(source, JobPairs):
            self._begin()
            return None
        failed = source.failed()
        if len(self.rows) < LOOKED_AT or self._failed - failed:
            self._begin()
            return None
        known = bytearray(source.total)
        for place in self.rows.places:
            known[place] = 1
        return known

    def _begin(self) -> None:
        self.measured, self.rows, self._failed = None, Scored(), set()
        self.scored_rows = array("i")

    def _add(self, placed: Iterator[Placed], progress: Callable[[], object]) -> None:
        from batch.evaluation.measure import LOOKED_AT, VERDICTS, Measured, Setup

        if self.measured is None:
            first = list(islice(placed, LOOKED_AT))
            setup = self._setup or Setup(self.options, [pair for _, pair in first])
            self.measured = Measured(setup, keep_ids=self._keep_ids)
            placed = chain(first, placed)
        measured, numbers = self.measured, {verdict: number for number, verdict in enumerate(VERDICTS)}
        told = time.monotonic()
        for at, (place, pair) in enumerate(placed):
            scored = measured.scored
            verdict = measured.add(pair)
            if pair.error is not None:
                self._failed.add(place)
            elif measured.scored > scored and self._keep_ids:
                self.scored_rows.append(len(self.rows))
            self.rows.add(place, numbers[verdict], pair.error_type)
            if at % YIELD_EVERY == 0:
                self.check()
                time.sleep(0)  # the screen's turn
                if time.monotonic() - told > REPORT_SECONDS:
                    told = time.monotonic()
                    progress()
        self.rows = self.rows.copy_in_order()

    def _make_report(self, samples: int | None = None) -> None:
        from batch.evaluation.evaluate import report_of

        assert self.measured is not None
        self.report = report_of(self.measured, self.source.name, self.source.reader, samples=samples)
