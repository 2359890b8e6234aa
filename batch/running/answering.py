"""What becomes of an engine's answers: counted once, tried again or kept, and told when they are on the disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from batch.checkpoint import ResultWriter
from batch.checkpoint.written import AttemptRow, ResultRow, answered_row, unfit
from batch.errors import Cause, CheckpointError, ErrorClass, Failure, FatalError
from batch.items import Answer, BatchResponse
from batch.job import BatchJob
from batch.running.budget import Budget
from batch.running.ending import Listeners
from batch.running.feed import Feed, Given
from batch.running.handle import StopMode
from batch.running.policy import ErrorStrategy, RetryPolicy
from batch.running.progress import RECENT, Meter


class Answering:
    """The way of a response into the store. All of it belongs to the run's event loop.

    `halt` ends the run, with or without an error.
    """

    def __init__(
        self,
        job: BatchJob,
        feed: Feed,
        meter: Meter,
        listeners: Listeners,
        retry: RetryPolicy,
        strategy: ErrorStrategy,
        *,
        urgent_errors: bool,
        budget: Budget,
        halt: Callable[[StopMode, BaseException | None], None],
    ) -> None:
        self.retry = retry
        self._handed_back = retry  # for items whose submissions end without an answer to them
        self.failures = 0  # of this run
        self.uncommitted_old = 0  # failures of earlier runs whose new result is not on the disk yet
        self.old_failures: set[int] = set()  # failures of earlier runs that this run has yet to try again
        self.saved_at: float | None = None  # monotonic seconds of the last commit
        self._job, self._feed, self._meter, self._listeners = job, feed, meter, listeners
        self._strategy = strategy
        self._budget = budget
        self._urgent_errors = urgent_errors
        self._halt = halt

    def open(self, old_failures: set[int]) -> None:
        """The failures that are tried again."""
        self.old_failures = old_failures
        self.uncommitted_old = len(old_failures)

    def begin(self, writer: ResultWriter) -> None:
        """Where results go."""
        self._writer = writer

    @property
    def enough_failures(self) -> bool:
        """Whether the error strategy ends the run."""
        return self._strategy.stops(self.failures)

    def answered(self, response: BatchResponse[Answer], policy: RetryPolicy | None = None) -> None:
        """Take in a response. One that nobody awaits, a second one or to an unknown id, counts for nothing."""
        if (bad := unfit(response)) is not None:
            response = BatchResponse(response.id, None, error=bad)
        given = self._feed.take_back(response.id, response.tokens_input + response.tokens_output)
        if given is None:
            return
        if self._budget.limit is not None:
            self._budget.settle(response)
        error, answer = response.error, response.data
        if error is None and (answer is None or not (text := answer.text) or text.isspace()):
            error = Failure(ErrorClass.PERMANENT, "the answer is empty")
        elif error is None and answer is not None and not self.old_failures:  # as nearly all are
            self._writer.put(answered_row(response, given[0], answer, given[2], False))
            return
        if error is not None:
            if error.error_class is ErrorClass.FATAL and response.retry_in is None:
                self._feed.retry(int(response.id), given.attempt, 0.0)  # nobody gave it up
                raise FatalError(error.message)
            policy = policy or self.retry
            delay = policy.delay(error, given.attempt) if response.retry_in is None else response.retry_in
            if delay is not None:
                self._writer.attempt(AttemptRow.of(response, error, given.attempt))
                # While the run ends it stays where it is: the next run tries again.
                self._feed.retry(int(response.id), given.attempt + 1, delay)
                return
            self.failures += 1
        self._put(response, given, error)
        if error is not None and self.enough_failures:
            self._halt("drain", None)

    def unanswered(self, index: int) -> None:
        """The submission of an item has ended without an answer to it: a failed try, like one that timed out."""
        failure = Failure(ErrorClass.TRANSIENT, "its submission ended without an answer to it", cause=Cause.SERVER)
        self.answered(BatchResponse(index, None, error=failure), self._handed_back)

    def _put(self, response: BatchResponse[Answer], given: Given, error: Failure | None) -> None:
        old = bool(self.old_failures) and response.id in self.old_failures  # of an earlier run, and was counted then
        if old:
            self.old_failures.discard(int(response.id))
        row = ResultRow.of(response, given.text, error, given.attempt, replaces=old, checked=True)
        self._writer.put(row, urgent=error is not None and self._urgent_errors)

    def committed(self, rows: Sequence[ResultRow], processed: int) -> None:
        """A group of results is on the disk, the last of them the `processed`th of the job."""
        self.saved_at = time.monotonic()
        if self.uncommitted_old:
            self.uncommitted_old -= sum(row.old for row in rows)
        heard = self._listeners.hear_results
        shown = self._with_prompts(rows if heard else rows[-RECENT:])
        self._meter.record(rows, shown[-RECENT:])
        self._feed.wake()
        results = [row.result() for row in shown] if heard else []
        # A failure that is tried again counts when it has its new result.
        error = self._listeners.committed(self._job, results, len(rows), processed - self.uncommitted_old)
        if error is not None:
            self._halt("now", error)

    def _with_prompts(self, rows: Sequence[ResultRow]) -> Sequence[ResultRow]:
        """The rows with their prompts, which are read again where an engine held too many for them to be kept."""
        try:
            texts = self._feed.texts([row.id for row in rows if row.prompt is None])
        except CheckpointError as error:  # the answers are safe, but the file cannot be read any more
            self._halt("now", error)
            return rows
        return [row._replace(prompt=texts[row.id]) if row.id in texts else row for row in rows] if texts else rows
