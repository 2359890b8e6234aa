"""A job's batches with providers: how they stand, by the disk or by the provider, and their end asked by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ai_router import jobs
from ai_router.models import Registry
from ai_router.models.factory import describe_for_engine
from batch.checkpoint import CheckpointStore, submissions
from batch.checkpoint.lock import JobLock
from batch.checkpoint.schema import connect, transaction
from batch.engines.desk import Submission
from batch.engines.provider.base import Page, Remote, Settings
from batch.engines.provider.faults import Lost, Refused, asked
from batch.engines.provider.row import open_page, settings_of
from batch.errors import BatchError, FatalError
from batch.job import BatchJob


class NoProviderError(BatchError):
    """The model of a batch is no provider's any more."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a batch stands. Times are seconds since the epoch; counts are None where the provider has none yet."""

    key: str
    name: str  # the provider's, else ours
    provider: str
    count: int
    word: str  # the provider's word for its state, or what keeps us from knowing it
    over: bool = False
    done: int | None = None
    failed: int | None = None
    at: float | None = None  # when it was handed over
    expires: float | None = None
    unclear: str = ""  # what a person has to settle

    @property
    def age(self) -> str:
        """Since it was handed over."""
        return hours(time.time() - self.at) if self.at is not None else "—"

    @property
    def until(self) -> str:
        """Until its provider gives it up; "" where that is not known or does not matter any more."""
        return "" if self.expires is None or self.over else hours(self.expires - time.time())

    @property
    def counts(self) -> str:
        """`1,200 done, 3 failed`, or ""."""
        if self.done is None:
            return ""
        return f"{self.done:,} done" + (f", {self.failed:,} failed" if self.failed else "")

    @property
    def text(self) -> str:
        """All of it in a line."""
        parts = [self.name, self.provider, f"{self.count:,} requests", self.unclear or self.word]
        parts += [self.counts, f"age {self.age}", f"expires in {self.until}" if self.until else ""]
        return "  ".join(part for part in parts if part)


def hours(seconds: float) -> str:
    """`5 min`, `2 h 05 min`."""
    minutes = max(0, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def open_of(job: BatchJob) -> list[Submission]:
    """What is with a provider."""
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        return submissions.open_submissions(store)


def standing_of(submission: Submission) -> Standing:
    """As it stood when this program last looked."""
    details = submission.details
    made = submission.remote_id is not None
    unknown = "not known whether it was made; ai-router collect looks for it"
    return Standing(
        submission.key,
        submission.remote_id or submission.key,
        str(details.get("provider") or ""),
        submission.count,
        str(details.get("state") or "handed over") if made else unknown,
        done=details.get("done"),
        failed=details.get("failed"),
        at=details.get("at"),
        expires=details.get("expires"),
        unclear=str(details.get("unclear") or ""),
    )


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
