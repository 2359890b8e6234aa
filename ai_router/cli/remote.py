"""What the verbs about batches with a provider share: a job's open submissions, and the pages they are with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ai_router import jobs
from ai_router.cli.session import Session, UsageError
from ai_router.models.factory import describe_for_engine
from batch.checkpoint import CheckpointStore
from batch.checkpoint.submissions import open_submissions
from batch.engines.desk import Submission
from batch.engines.provider.base import Page, Settings
from batch.engines.provider.row import open_page, settings_of
from batch.job import BatchJob


def open_of(job: BatchJob) -> list[Submission]:
    """What is with a provider."""
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        return open_submissions(store)


class Pages:
    """The pages of a job's submissions, each opened once."""

    def __init__(self, session: Session, job: BatchJob) -> None:
        self._session, self._plan = session, jobs.plan_of(job)
        self._pages: dict[str, tuple[Settings, Page]] = {}

    def of(self, submission: Submission) -> tuple[Settings, Page]:
        """Where a submission is. Raises UsageError where its model is no provider's any more."""
        if submission.lane not in self._pages:
            if submission.lane:
                spec = self._session.registry.get(submission.lane)
            else:
                spec = jobs.spec_of(self._session.registry, self._plan)
            if spec.engine != "provider":
                raise UsageError(f"Model {spec.id} is not a provider's; models.yaml has to name the one of the job")
            settings = settings_of(describe_for_engine(spec.place, spec.engine_options))
            self._pages[submission.lane] = settings, open_page(settings)
        return self._pages[submission.lane]

    def close(self) -> None:
        """Close them."""
        for _, page in self._pages.values():
            page.close()


@contextmanager
def pages(session: Session, job: BatchJob) -> Iterator[Pages]:
    """The pages of a job, closed at the end."""
    made = Pages(session, job)
    try:
        yield made
    finally:
        made.close()
