"""How a running job is seen and steered from other processes.

`batch_<id>.live` beside the checkpoint holds the latest snapshot as JSON, replaced whole four times a second and
removed at the end. Commands come the other way through the checkpoint's `control` table.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from batch.checkpoint import CheckpointStore, lock_owner, schema
from batch.engines.lane import LaneSnapshot
from batch.errors import CheckpointError
from batch.job import BatchJob, BatchResult, JobStatus
from batch.jsontext import dump_json
from batch.running.handle import RunHandle, StopMode
from batch.running.progress import InFlight, RunState, Score, Snapshot, job_snapshot
from batch.slo import ServiceLevel, job_levels

HOUSEKEEPING_SECONDS = 0.25
SHOWN_RECENT = 20
SHOWN_CHARACTERS = 400


def live_path(checkpoint: Path) -> Path:
    """`batch_<id>.live` beside the checkpoint."""
    return checkpoint.with_suffix(".live")


class LiveFile:
    """The runner's side: writes snapshots. Failing to is no reason to stop a run."""

    def __init__(self, checkpoint: Path) -> None:
        self._path = live_path(checkpoint)
        self._temporary = self._path.with_suffix(".live.tmp")

    def write(self, snapshot: Snapshot) -> None:
        """Replace the file."""
        short = dataclasses.replace(
            snapshot,
            pid=os.getpid(),
            items=tuple(dataclasses.replace(i, partial=i.partial[-SHOWN_CHARACTERS:]) for i in snapshot.items),
            recent=tuple(
                dataclasses.replace(r, response_text=r.response_text[:SHOWN_CHARACTERS], prompt=r.prompt[:400])
                for r in snapshot.recent[:SHOWN_RECENT]
            ),
        )
        try:
            data = orjson.dumps(short)
        except TypeError:  # a lone surrogate in some text
            data = (dump_json(dataclasses.asdict(short)) or "").encode()
        with suppress(OSError):
            self._temporary.write_bytes(data)
            os.replace(self._temporary, self._path)

    def remove(self) -> None:
        """The run is over."""
        for path in (self._path, self._temporary):
            with suppress(OSError):
                path.unlink()


def read_live(checkpoint: Path) -> Snapshot | None:
    """The latest snapshot of a running job, if it has written one."""
    try:
        data: dict[str, Any] = orjson.loads(live_path(checkpoint).read_bytes())
        data["state"] = RunState(data["state"])
        data["items"] = tuple(InFlight(**item) for item in data["items"])
        data["recent"] = tuple(BatchResult(**result) for result in data["recent"])
        data["errors"] = tuple((kind, count) for kind, count in data["errors"])
        data["rates"] = tuple(data["rates"])
        data["score"] = Score.of(data.get("score"))
        data["lanes"] = tuple(LaneSnapshot(**lane) for lane in data.get("lanes", ()))
        data["service_levels"] = tuple(ServiceLevel(**level) for level in data.get("service_levels", ()))
        return Snapshot(**data)
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Control:
    """The runner's side: commands left in the checkpoint since the run began."""

    def __init__(self, checkpoint: Path) -> None:
        self._connection = schema.connect(checkpoint)
        try:
            self._last = self._connection.execute("SELECT coalesce(max(id), 0) FROM control").fetchone()[0]
        except schema.FAULTS as error:
            self._connection.close()
            raise schema.damaged(checkpoint, error) from error

    def poll(self) -> list[tuple[str, str | None]]:
        """New commands, oldest first."""
        try:
            rows = self._connection.execute(
                "SELECT id, command, value FROM control WHERE id > ? ORDER BY id", (self._last,)
            ).fetchall()
        except sqlite3.Error:  # busy or damaged: the writer will say so
            return []
        if rows:
            self._last = rows[-1][0]
        return [(command, value) for _, command, value in rows]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


async def keep_house(checkpoint: Path, control: Control, run: RunHandle) -> None:
    """Tell other processes how a run goes, and have it do what they ask, until cancelled. In the run's own loop."""
    live = LiveFile(checkpoint)
    try:
        while True:
            live.write(run.snapshot())
            for command, value in control.poll():
                _obey(run, command, value)
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
    finally:
        live.remove()


def _obey(run: RunHandle, command: str, value: str | None) -> None:
    if command == "pause":
        run.pause()
    elif command == "resume":
        run.resume()
    elif command == "stop":
        run.stop("now" if value == "now" else "drain")
    elif command == "concurrency":
        with suppress(TypeError, ValueError):
            run.set_concurrency(int(value or ""))


_STATES = {
    JobStatus.COMPLETED: RunState.FINISHED,
    JobStatus.FAILED: RunState.FAILED,
    JobStatus.WAITING: RunState.WAITING,
}


class Watch:
    """A job that another process runs, with the face of a `Run`; also one that nobody runs."""

    def __init__(self, checkpoint: Path) -> None:
        self.path = checkpoint
        with CheckpointStore(checkpoint, "snapshot") as store:
            self.job: BatchJob = store.job()

    @property
    def running(self) -> bool:
        """Whether some process runs the job now."""
        return lock_owner(self.path) is not None

    def snapshot(self) -> Snapshot:
        """The runner's latest snapshot; of a job that nobody runs, what its checkpoint says."""
        owner = lock_owner(self.path)
        # A runner that was killed leaves its last snapshot behind.
        if owner is not None and (live := read_live(self.path)) is not None and live.pid == owner.pid:
            return live
        with CheckpointStore(self.path, "snapshot") as store:
            self.job = store.job()
            wanted = self.job.config.get("run", {}).get("slo")
            levels = job_levels(wanted, store.performance(), self.job.elapsed) if wanted else ()
        if owner is not None:
            return dataclasses.replace(job_snapshot(self.job, RunState.STARTING), pid=owner.pid)
        return job_snapshot(self.job, _STATES.get(JobStatus(self.job.status), RunState.STOPPED), service_levels=levels)

    def pause(self) -> None:
        """Give out no further items until `resume`."""
        self._send("pause")

    def resume(self) -> None:
        """Go on after a pause."""
        self._send("resume")

    def stop(self, mode: StopMode = "drain") -> None:
        """`drain`: finish what is in flight. `now`: abandon it. Either way the job stays resumable."""
        self._send("stop", mode)

    def set_concurrency(self, workers: int) -> None:
        """Most items in flight from now on."""
        self._send("concurrency", str(max(1, workers)))

    def wait(self, timeout: float | None = None) -> bool:
        """Until nobody runs the job any more; False on timeout (seconds)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.running:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True

    def _send(self, command: str, value: str | None = None) -> None:
        if not self.running:
            raise CheckpointError(f"Job {self.job.job_id} is not running")
        with CheckpointStore(self.path) as store:
            store.send(command, value)
