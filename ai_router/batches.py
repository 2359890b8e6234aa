"""A job's batches with providers: how they stand, by the disk or by the provider, and their end asked by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ai_router import jobs
from ai_router.models import Registry
from ai_router.models.factory import describe_for_engine
from ai_router.standings import Standing, hours, standing_of
from batch.checkpoint import CheckpointStore, submissions
from batch.checkpoint.lock import JobLock
from batch.checkpoint.schema import connect, transaction
from batch.engines.desk import Submission
from batch.engines.provider.base import Page, Remote, Settings
from batch.engines.provider.faults import Lost, Refused, asked
from batch.engines.provider.row import open_page, settings_of
from batch.errors import BatchError, FatalError
from batch.job import BatchJob

__all__ = ["NoProviderError", "Pages", "Standing", "cancel", "hours", "look", "open_of", "pages", "standing_of"]


class NoProviderError(BatchError):
    """The model of a batch is no provider's any more."""


def open_of(job: BatchJob) -> list[Submission]:
    """What is with a provider."""
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        return submissions.open_submissions(store)


class Pages:
    """The pages of a job's submissions, each opened once."""

    def __init__(self, registry: Registry, job: BatchJob) -> None:
        self._registry, self._plan = registry, jobs.plan_of(job)
        self._pages: dict[str, tuple[Settings, Page]] = {}

    def of(self, submission: Submission) -> tuple[Settings, Page]:
        """Where a submission is. Raises NoProviderError where its model is no provider's any more."""
        if submission.lane not in self._pages:
            lane = submission.lane
            spec = self._registry.get(lane) if lane else jobs.spec_of(self._registry, self._plan)
            if spec.engine != "provider":
                raise NoProviderError(f"Model {spec.id} is not a provider's; models.yaml has to name the job's own")
            settings = settings_of(describe_for_engine(spec.place, spec.engine_options))
            self._pages[submission.lane] = settings, open_page(settings)
        return self._pages[submission.lane]

    def close(self) -> None:
        """Close them."""
        for _, page in self._pages.values():
            page.close()


@contextmanager
def pages(registry: Registry, job: BatchJob) -> Iterator[Pages]:
    """The pages of a job, closed at the end."""
    made = Pages(registry, job)
    try:
        yield made
    finally:
        made.close()


def look(submission: Submission, opened: Pages) -> Standing:
    """As its provider says at this moment; nothing is taken."""
    before = standing_of(submission)
    remote_id = submission.remote_id
    if remote_id is None:
        return before
    settings, page = opened.of(submission)
    try:
        remote: Remote = asked(settings.provider, lambda: page.check(remote_id))
    except (Lost, Refused) as error:
        return Standing(before.key, before.name, settings.provider, before.count, str(error), at=before.at)
    counts = {"done": remote.done, "failed": remote.failed}
    return Standing(
        before.key,
        before.name,
        settings.provider,
        before.count,
        remote.word,
        remote.over,
        **counts,
        at=before.at,
        expires=remote.expires or before.expires,
        unclear=before.unclear,
    )


def cancel(job: BatchJob, opened: Pages, tell: Callable[[str], None]) -> int:
    """Ask for the end of every batch, telling of each; how many could not be asked for theirs."""
    failed = 0
    for submission in open_of(job):
        settings, page = opened.of(submission)
        remote_id = submission.remote_id
        if remote_id is None:
            tell(f"{submission.key}: it is not known whether it was made; see ai-router reconcile")
            failed += 1
            continue
        change(job, submissions.note(submission.key, {"cancelled": True}))
        try:
            asked(settings.provider, lambda page=page, name=remote_id: page.cancel(name))  # type: ignore[misc]
        except (Lost, Refused, FatalError) as error:
            tell(f"{remote_id}: {error}")
            failed += 1
        else:
            tell(f"{remote_id}: {settings.provider} is asked to end it")
    return failed


def change(job: BatchJob, *changes: submissions.Change) -> None:
    """Change a job's submissions while nobody runs it."""
    assert job.checkpoint_file is not None
    lock = JobLock(job.checkpoint_file)
    lock.acquire()
    try:
        connection = connect(job.checkpoint_file, "write")
        try:
            with transaction(connection):
                for one in changes:
                    one(connection)
        finally:
            connection.close()
    finally:
        lock.release()
