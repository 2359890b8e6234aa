"""What a dataset job does beside answering: rows as they finish, a score with its interval, an end when it is sure."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from batch.checkpoint import CheckpointStore
from batch.datasets.results import (
    ResultsFile,
    pair_of,
    rewrite,
    row_of,
    summary_of,
    summary_path,
    with_requests,
    write_summary,
)
from batch.evaluation.match import Match
from batch.evaluation.tally import ScoreTally
from batch.items import Request
from batch.job import BatchJob, BatchResult
from batch.running.handle import StoppableRun
from batch.running.progress import Score

LINE_EVERY = 10  # examples between two progress lines, as in the reference
KEPT_LINES = 10_000
SCORE_NAMES: Mapping[Match, str] = {
    "exact": "exact match",
    "contains": "contains match",
    "regex": "regex match",
    "number": "number match",
    "json": "JSON match",
    "choice": "choice accuracy",
}


class DatasetObserver:
    """Follows the run of a dataset job, whose `details` say how.

    `output_file` is where the rows go (absolute; none are written without), `output_name` how the summary calls it;
    `match` says when an answer is right (see `batch.evaluation.match`); `until_interval` ends the run once the score's
    interval reaches no further than that to either side (0 to 1). A resumed job counts what it has; one that was sure
    already when it is resumed runs to its end.
    """

    def __init__(self, job: BatchJob) -> None:
        details: dict[str, Any] = job.config["details"]
        self._job = job
        self._details = details
        self._until: float | None = details.get("until_interval")
        self._verbose = details.get("log_level") == "DEBUG"
        match = details.get("match", "exact")
        self._match: Match = match if match in SCORE_NAMES else "exact"
        self._score = ScoreTally(self._match)
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._run: StoppableRun | None = None
        self._file: ResultsFile | None = None
        self._store: CheckpointStore | None = None  # of the run's thread
        self._done = self._done_before = 0
        self._began = 0.0

    @property
    def output(self) -> Path | None:
        """The results file."""
        name = self._details.get("output_file")
        return Path(name) if name else None

    def opened(self, run: StoppableRun) -> None:
        """Take what the job has already: into the score, and into the results file."""
        self._run = run
        assert self._job.checkpoint_file is not None
        with CheckpointStore(self._job.checkpoint_file) as store:
            kept = store.iter_results(part="done" if run.retry_failed else "all")
            for request, result in with_requests(store, kept):
                self._score.add(pair_of(request, result))
                self._done += 1
            if self.output is not None:
                self._file = ResultsFile(self.output, store)
        self._done_before = self._done
        if self._until is not None and self._done and self._score.half_width <= self._until:
            self._until = None

    def committed(self, results: Sequence[BatchResult]) -> None:
        """Score and write rows, and stop the run where the score is sure enough."""
        now = time.monotonic()
        if not self._began:
            self._began = now - max(result.duration for result in results)
        if self._store is None:
            assert self._job.checkpoint_file is not None
            self._store = CheckpointStore(self._job.checkpoint_file)
        rows = []
        for request, result in with_requests(self._store, results):
            right = self._score.add(pair_of(request, result))
            row = row_of(request, result)
            rows.append(row)
            self._count(request, row, right, now)
        if self._file is not None:
            self._file.add(rows)
        if self._until is not None and self._run is not None and self._score.half_width <= self._until:
            reason = f"the score is known to within {self._until * 100:g} points: {self._text()}"
            self._until = None
            self._run.stop("drain", reason=reason)

    def _count(self, request: Request, row: dict[str, Any], right: bool | None, now: float) -> None:
        self._done += 1
        done, total = self._done, self._job.total_prompts
        if self._verbose:
            sign = {True: "right", False: "wrong", None: "failed"}[right]
            said = row.get("error") or row["predicted"]
            self._lines.append(
                f"example {row['example_id']} {sign}: {row['input']} → {said} (expected {row['expected']})"
            )
        if done % LINE_EVERY == 0 or done == total:
            average = (now - self._began) / max(1, done - self._done_before)
            left = average * (total - done)
            self._lines.append(f"Processed {done}/{total} examples (avg: {average:.2f}s/example, ETA: {left:.1f}s)")

    def ended(self, run: StoppableRun) -> None:
        """Bring the rows into the order of the examples, write the summary, and keep the score with the job."""
        job = self._job
        score = self.score()
        job.config["details"] = self._details = {**self._details, "score": asdict(score) if score else None}
        if self._store is not None:
            self._store.close()
        if self._file is not None:
            self._file.close()
        if self.output is None:
            return
        assert job.checkpoint_file is not None
        with CheckpointStore(job.checkpoint_file) as store:
            rewrite(self.output, store)
        name = self._details.get("output_name") or str(self.output)
        summary = summary_of(job, name, self._details["score"], int(self._details.get("skipped", 0)))
        write_summary(summary_path(self.output), summary)

    def score(self) -> Score | None:
        """The share of right answers so far."""
        low, high = self._score.interval
        return Score(SCORE_NAMES[self._match], self._score.score, low, high, self._score.n)

    def _text(self) -> str:
        score = self.score()
        return score.text if score else ""

    def news(self) -> list[str]:
        """Progress lines, and with the log level DEBUG every example."""
        lines = []
        while self._lines:
            lines.append(self._lines.popleft())
        return lines
