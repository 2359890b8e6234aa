"""`ai-router cancel`: end a job's batches with a provider."""

from __future__ import annotations

import argparse

from ai_router import jobs
from ai_router.cli.errors import Exit
from ai_router.cli.remote import open_of, pages
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import narrate
from batch.checkpoint import submissions
from batch.checkpoint.lock import JobLock
from batch.checkpoint.schema import connect, transaction
from batch.engines.provider.faults import Lost, Refused, asked
from batch.errors import FatalError
from batch.job import BatchJob

USAGE = "JOB"
DESCRIPTION = """\
Ask the provider to end the batches of JOB. What it has answered by then is paid for, and `ai-router collect` takes it;
the rest is handed over again only by `ai-router resume`.

examples:
  ai-router cancel 1a2b3c4d
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("job", metavar="JOB", help="id, beginning of an id, or file of a job")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    job = jobs.open_job(session.workspace, args.job)
    jobs.check_free(job)
    found = open_of(job)
    if not found:
        raise UsageError(f"Nothing of job {job.job_id} is with a provider")
    failed = 0
    with pages(session, job) as opened:
        for submission in found:
            settings, page = opened.of(submission)
            remote_id = submission.remote_id
            if remote_id is None:
                narrate(f"{submission.key}: it is not known whether it was made; see ai-router reconcile")
                failed += 1
                continue
            change(job, submissions.note(submission.key, {"cancelled": True}))
            try:
                asked(settings.provider, lambda page=page, name=remote_id: page.cancel(name))  # type: ignore[misc]
            except (Lost, Refused, FatalError) as error:
                narrate(f"{remote_id}: {error}")
                failed += 1
            else:
                narrate(f"{remote_id}: {settings.provider} is asked to end it")
    narrate(f"Take what was answered with: {session.command('collect', job)}")
    return Exit.SOME_FAILED if failed else Exit.DONE


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
