"""Jobs that wait for their turn, and files that jobs of some kinds make when they end."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from ai_router.tui.widgets.text import plural

if TYPE_CHECKING:
    from ai_router.tui.services import Services
    from batch.job import BatchJob
    from batch.running.run import Run


class Turns:
    """What follows the end of a run: its files are written, and the next job that waits is begun."""

    def __init__(self, app: Services) -> None:
        self._app = app
        self._waiting: deque[BatchJob] = deque()
        self._beginning = False
        self._before: Path | None = None  # the job that ended last
        self._after: dict[Path, Path] = {}  # the job that took the turn after another
        self._moved: set[str] = set()
        self._writing: set[Path] = set()

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return len(self._waiting)

    def start(self, jobs: list[BatchJob]) -> None:
        """Run some jobs one after the other; from any thread. Raises where the first cannot begin."""
        first, *others = jobs
        self._app.start_run(first)
        self._waiting.extend(others)

    def latest(self, path: Path) -> Path:
        """The job whose turn it is of those that began with this one."""
        while path in self._after:
            path = self._after[path]
        return path

    def add(self, job: BatchJob) -> None:
        """Run a job when what runs here, and what waits already, is through."""
        self._waiting.append(job)

    def begun(self, job: BatchJob) -> None:
        """A job runs; where it waited, somebody did not: it has no turn any more."""
        for other in [other for other in self._waiting if other.job_id == job.job_id]:
            self._waiting.remove(other)

    def ended(self, run: Run) -> None:
        """A run is over."""
        from ai_router.kinds import kind_of
        from batch.running.progress import RunState

        state = run.snapshot().state
        path = self._before = run.job.checkpoint_file
        moved = run.job.job_id in self._moved
        if state is RunState.FINISHED and run.job.completed and path is not None and kind_of(run.job.kind).files:
            self.write_files(path)
        if state is RunState.STOPPED and self._waiting and not moved:
            left = plural(len(self._waiting), "job")
            self._waiting.clear()
            self._app.notify(f"{left} not begun; they stand among the jobs, to be run", markup=False)

    def tick(self) -> None:
        """Begin the next job where nothing runs here any more."""
        if self._waiting and not self._beginning and not self._app.live_runs():
            self._begin_next(self._before)

    def moved(self, run: Run) -> None:
        """A run is about to be stopped here and to go on elsewhere: what waits is not stopped with it."""
        self._moved.add(run.job.job_id)

    def _begin_next(self, before: Path | None) -> None:
        """The next job, in the place of the one before where that is what is looked at."""
        self._beginning = True
        job, app = self._waiting.popleft(), self._app

        def show(path: Path) -> None:
            if app.watched == before:
                app.open_run(path)

        def begin() -> None:
            try:
                app.start_run(job)
            except Exception as error:  # said, and the one after it gets its turn
                app.call_later(app.show_error, error)
                return
            finally:
                self._beginning = False
            if before is not None and job.checkpoint_file is not None:
                self._after.pop(job.checkpoint_file, None)  # one that ran before: no job comes after itself
                self._after[before] = job.checkpoint_file
                app.call_later(show, job.checkpoint_file)

        threading.Thread(target=begin, name="next-job", daemon=True).start()

    def export(self, path: Path) -> None:
        """Write the results of a job to a file: which, is asked for, unless its kind makes files of its own."""
        from ai_router.kinds import kind_at

        if kind_at(path).files:
            self.write_files(path)
            return
        self._app.go("export", path)

    def is_writing(self, path: Path) -> bool:
        """Whether the files of a job are being written."""
        return path in self._writing

    def write_files(self, path: Path) -> None:
        """Write the files of a job in a process of its own, and say where they are."""
        from ai_router.kinds import kind_at

        if path in self._writing:
            return
        self._writing.add(path)
        app, workspace = self._app, self._app.workspace
        app.notify(f"Writing the {kind_at(path).files}…", timeout=2)

        def said(ok: bool, text: str) -> None:
            self._writing.discard(path)
            if ok:
                app.notify(text, markup=False)
            else:
                app.show_error(text)
            app.jobs_changed.publish(None)

        def work() -> None:
            from ai_router import detaching

            files, problem = detaching.export_elsewhere(workspace, path)
            if not app.is_running:
                return
            lines = [*(f"Wrote {file}" for file in files), *([problem] if problem else [])]
            app.call_later(said, bool(files), "\n".join(lines))

        # A daemon, so that leaving need not wait: the other process goes on by itself.
        threading.Thread(target=work, name="write-files", daemon=True).start()
