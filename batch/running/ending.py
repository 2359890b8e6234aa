"""How a run ended, as its job keeps it; and who is told of results while it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from batch.errors import BatchError, Interrupted
from batch.job import BatchJob, BatchResult, JobStatus, now_iso
from batch.running.handle import RunObserver, StoppableRun
from batch.running.progress import RunState, Score

TRIED = "tried "  # how the reason of a job begins of which some items were tried


class Ending(NamedTuple):
    """The last state of a run, the status of its job, and why it ended before the last item."""

    state: RunState
    status: JobStatus
    reason: str | None = None

    def keep(self, job: BatchJob) -> None:
        """Write it into the job."""
        job.status, job.reason = self.status, self.reason
        if self.state is RunState.FINISHED:
            job.completed_at = now_iso()


def ending_of(
    *, finished: bool, waiting: str, error: BaseException | None, too_many_failures: str, asked: str
) -> Ending:
    """An interrupted or stopped job stays `running`, which means resumable.

    `waiting` says what is with a provider, where nothing else is left; `too_many_failures` is a sentence where the
    error strategy ended the run, `asked` says who stopped it otherwise.
    """
    if finished:
        return Ending(RunState.FINISHED, JobStatus.COMPLETED)
    if waiting and (error is None or isinstance(error, Interrupted)) and not too_many_failures:
        return Ending(RunState.WAITING, JobStatus.WAITING, waiting)
    if isinstance(error, Interrupted):  # Ctrl-C
        return Ending(RunState.STOPPED, JobStatus.RUNNING, "interrupted")
    if error is not None:
        text = str(error) if isinstance(error, BatchError) else f"{type(error).__name__}: {error}"
        return Ending(RunState.FAILED, JobStatus.FAILED, text)
    if too_many_failures:
        return Ending(RunState.FAILED, JobStatus.FAILED, too_many_failures)
    return Ending(RunState.STOPPED, JobStatus.RUNNING, asked)


class Listeners:
    """Those who are told of results that are on the disk. After the first one that raises nobody is told any more."""

    def __init__(
        self,
        observer: RunObserver | None,
        on_results: Callable[[Sequence[BatchResult]], None] | None,
        on_progress: Callable[[BatchJob, int], None] | None,
    ) -> None:
        self._observer, self._on_results, self._on_progress = observer, on_results, on_progress
        self._broken = False

    @property
    def hear_results(self) -> bool:
        """Whether anyone wants the results themselves."""
        return not self._broken and (self._observer is not None or self._on_results is not None)

    def committed(
        self, job: BatchJob, results: Sequence[BatchResult], count: int, processed: int
    ) -> BaseException | None:
        """Tell of a group of `count` results, the last of them the `processed`th; what a listener raised.

        `results` may be empty where nobody wants to hear them.
        """
        if self._broken:
            return None
        try:
            if self._observer:
                self._observer.committed(results)
            if self._on_results:
                self._on_results(results)
            if self._on_progress:
                for current in range(processed - count + 1, processed + 1):
                    self._on_progress(job, current)
        except (Exception, KeyboardInterrupt) as error:  # ends the run, with all answers safe
            self._broken = True
            return Interrupted("interrupted") if isinstance(error, KeyboardInterrupt) else error
        return None

    def opened(self, run: StoppableRun) -> None:
        """The job is locked. May raise."""
        if self._observer:
            self._observer.opened(run)

    def ended(self, run: StoppableRun) -> BaseException | None:
        """Nothing more comes. What the observer could not do is returned: the answers are safe all the same."""
        try:
            if self._observer:
                self._observer.ended(run)
        except (BatchError, OSError) as error:
            return error
        return None

    def score(self) -> Score | None:
        """The score so far."""
        return self._observer.score() if self._observer else None

    def news(self) -> list[str]:
        """Lines for a log that nobody has taken yet."""
        return self._observer.news() if self._observer else []
