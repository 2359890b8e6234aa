"""What can be done with a job, wherever it is shown: run, retry, export, delete, read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ai_router.tui.base import BaseScreen
from ai_router.tui.jobs.again import ask_which
from ai_router.tui.jobs.changed import ask_for_change
from batch.errors import CheckpointError

if TYPE_CHECKING:
    from batch.job import BatchJob

T = TypeVar("T")


class JobActions(BaseScreen[T]):
    """A screen with a job at hand."""

    def job_at_hand(self) -> Path | None:
        """The checkpoint that the actions are about."""
        return None

    def job_is_running(self) -> bool:
        """Whether some process runs it now."""
        return False

    def action_resume(self) -> None:
        """Run what is missing; a running job is watched."""
        self._run(retry_failed=False)

    def action_watch(self) -> None:
        """Watch it run."""
        self._run(retry_failed=False)

    def action_retry(self) -> None:
        """Run the failed prompts again, and what is missing."""
        self._run(retry_failed=True)

    def _run(self, *, retry_failed: bool, allow_change: bool = False) -> None:
        path = self.job_at_hand()
        if path is None:
            return
        if self.job_is_running():
            self.services.open_run(path)
            return
        app = self.services

        def begin() -> Path | str:
            from ai_router import jobs

            job = jobs.open_job(app.workspace, str(path))
            if text := _nothing_to_do(job, retry_failed):
                return text
            app.start_run(job, jobs.plan_of(job), retry_failed=retry_failed, allow_change=allow_change)
            assert job.checkpoint_file is not None
            return job.checkpoint_file

        def begun(result: Path | str) -> None:
            if isinstance(result, str):
                self.notify(result, markup=False)
            else:
                app.open_run(result)
                app.jobs_changed.publish(None)

        def failed(error: Exception) -> None:
            from ai_router.jobs import ChangedModelError

            if isinstance(error, ChangedModelError):
                again = partial(self._run, retry_failed=retry_failed, allow_change=True)
                ask_for_change(self.app, error, again)
                return
            app.show_error(error, retry=lambda: self._run(retry_failed=retry_failed))

        self.in_thread(begin, begun, busy="starting the job", group="run", failed=failed, keys_wait=True)

    def action_picture(self) -> None:
        """The job in plots."""
        if path := self.job_at_hand():
            self.services.go("picture", path)

    def action_open_results(self) -> None:
        """Read the results."""
        if path := self.job_at_hand():
            self.services.open_results(path)

    def action_score(self) -> None:
        """How many answers are right, and what is wrong with the others."""
        if path := self.job_at_hand():
            self.services.go("evaluation", path)

    def action_again(self) -> None:
        """A new job of this one's items, with another model or other options."""
        path = self.job_at_hand()
        if path is not None:
            self.in_thread(lambda: _counts(path), lambda counts: ask_which(self, path, counts), group="again",
                           keys_wait=True)  # fmt: skip

    def action_export(self) -> None:
        """Write the results to a file."""
        if path := self.job_at_hand():
            self.services.turns.export(path)


def _nothing_to_do(job: BatchJob, retry_failed: bool) -> str:
    """A sentence if a run would have nothing to do."""
    left = job.total_prompts - job.processed
    if left or (retry_failed and job.failed):
        return ""
    if job.failed:
        return f"Every prompt of job {job.job_id} has a result; t runs the {job.failed:,} failed ones again"
    return f"Job {job.job_id} is done: every prompt has its answer"


def _counts(path: Path) -> dict[str, int]:
    from batch.checkpoint import CheckpointStore

    if path.suffix == ".json":
        raise CheckpointError("A checkpoint of this old form is run again after it has been opened once")
    with CheckpointStore(path) as store:
        job = store.job()
    left = job.total_prompts - job.processed
    return {"all": job.total_prompts, "done": job.completed, "failed": job.failed, "pending": left}
