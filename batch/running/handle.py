"""The face of a run, whoever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from batch.job import BatchJob, BatchResult
from batch.running.progress import Score, Snapshot

StopMode = Literal["drain", "now"]


class RunHandle(Protocol):
    """What a front end needs of a run, in this process (`Run`) or in another (`Watch`)."""

    @property
    def job(self) -> BatchJob:
        """The job as last known."""
        ...

    def snapshot(self) -> Snapshot:
        """How it is going; cheap, from any thread."""
        ...

    def pause(self) -> None:
        """Give out no further items until `resume`."""
        ...

    def resume(self) -> None:
        """Go on after a pause."""
        ...

    def stop(self, mode: StopMode = "drain") -> None:
        """`drain`: finish what is in flight. `now`: abandon it. Either way the job stays resumable."""
        ...

    def set_concurrency(self, workers: int) -> None:
        """Most items in flight from now on."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Until the run is over; False on timeout (seconds)."""
        ...


class StoppableRun(RunHandle, Protocol):
    """A run as its observer has it."""

    @property
    def retry_failed(self) -> bool:
        """Whether failures of earlier runs are tried again."""
        ...

    def stop(self, mode: StopMode = "drain", *, reason: str | None = None) -> None:
        """Stop; a run that was stopped for a reason has done what it was for."""
        ...


class RunObserver(Protocol):
    """Follows a run from within its process: what kinds of jobs do beside answering."""

    def opened(self, run: StoppableRun) -> None:
        """The job is locked and no item is given out yet; in the thread that starts the run. May raise."""
        ...

    def committed(self, results: Sequence[BatchResult]) -> None:
        """Results are on the disk; in the run's thread. Raising ends the run with all answers safe."""
        ...

    def ended(self, run: StoppableRun) -> None:
        """Nothing more comes, and the job is about to be saved for the last time; in the run's thread. May raise."""
        ...

    def score(self) -> Score | None:
        """The score so far; from any thread."""
        ...

    def news(self) -> list[str]:
        """Lines for a log that nobody has taken yet; from any thread."""
        ...
