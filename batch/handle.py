"""The face of a run, whoever runs it."""

from __future__ import annotations

from typing import Literal, Protocol

from batch.job import BatchJob
from batch.progress import Snapshot

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
