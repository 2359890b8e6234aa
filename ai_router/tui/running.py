"""What is running just now, here and in other processes, for the line that every screen shows."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ai_router.tui.widgets.runs_strip import Running

ELSEWHERE_EVERY = 5  # looks at our own runs

if TYPE_CHECKING:
    from ai_router.tui.services import Services
    from batch.running.run import Run


def name_of(source: str, job_id: str) -> str:
    """The file that a job's prompts come from, without its folder; its id where there is none."""
    return source.replace("\\", "/").rstrip("/").rpartition("/")[2] or job_id


def running_here(runs: Mapping[str, Run]) -> list[Running]:
    """Those of this process, in the order in which they began."""
    found = []
    for run in list(runs.values()):
        job = run.job
        if job.checkpoint_file is not None and not run.wait(0):
            name = name_of(str(job.config.get("source", "")), job.job_id)
            found.append(Running(job.checkpoint_file, name, run.snapshot()))
    return found


def running_elsewhere(folder: Path, here: Iterable[str]) -> list[Running]:
    """Those of other processes, by the files in which they say how they go; for a thread.

    A folder of a thousand jobs that rest costs one listing of it. `here` are the ids of jobs that are looked after.
    """
    from batch.checkpoint import lock_owner
    from batch.checkpoint.listing import read_info
    from batch.errors import CheckpointError
    from batch.running.live import read_live

    known, found = set(here), []
    for live in sorted(folder.glob("batch_*.live")):
        path = live.with_suffix(".db")
        job_id = path.stem.removeprefix("batch_")
        snapshot = None if job_id in known else read_live(path)
        if snapshot is None or snapshot.state.over or lock_owner(path) is None:
            continue
        try:
            name = name_of(read_info(path).source, job_id)
        except (CheckpointError, OSError):
            name = job_id
        found.append(Running(path, name, snapshot))
    return found


def next_after(jobs: Iterable[Running], watched: Path | None) -> Path | None:
    """The run to open: the one after the one that is looked at, else the first."""
    paths = [job.path for job in jobs]
    if not paths:
        return None
    return paths[(paths.index(watched) + 1) % len(paths)] if watched in paths else paths[0]


class RunsInSight:
    """Keeps the line of running jobs on the screen that is shown; the app ticks it."""

    def __init__(self, app: Services) -> None:
        self._app = app
        self._elsewhere: list[Running] = []  # as last looked at
        self._ticks = 0

    @property
    def running(self) -> list[Running]:
        """What runs just now, here and elsewhere."""
        return [*running_here(self._app.runs), *self._elsewhere]

    def tick(self, screen: object) -> None:
        """Look at our own runs, and show all where the screen has a line for them.

        Other processes are looked for now and then, in a thread.
        """
        app = self._app
        self._ticks += 1
        if self._ticks % ELSEWHERE_EVERY == 1:
            folder, here = app.workspace.checkpoints, list(app.runs)

            def look() -> None:
                found = running_elsewhere(folder, here)
                if app.is_running:
                    app.call_later(self._take, found)

            threading.Thread(target=look, name="runs-elsewhere", daemon=True).start()
        if show := getattr(screen, "show_runs", None):
            show(self.running, app.turns.waiting)

    def _take(self, found: list[Running]) -> None:
        runs = self._app.runs
        self._elsewhere = [job for job in found if job.path.stem.removeprefix("batch_") not in runs]
