"""`ai-router cancel`: end a job's batches with a provider."""

from __future__ import annotations

import argparse

from ai_router import batches, detaching, jobs
from ai_router.cli.errors import Exit
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import narrate

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
    detaching.check_free(job)
    if not batches.open_of(job):
        raise UsageError(f"Nothing of job {job.job_id} is with a provider")
    with batches.pages(session.registry, job) as opened:
        failed = batches.cancel(job, opened, narrate)
    narrate(f"Take what was answered with: {session.command('collect', job)}")
    return Exit.SOME_FAILED if failed else Exit.DONE
