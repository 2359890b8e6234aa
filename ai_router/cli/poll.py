"""`ai-router poll`: how a job's batches stand, as their provider says at this moment."""

from __future__ import annotations

import argparse
import time

from ai_router import jobs
from ai_router.cli.errors import Exit
from ai_router.cli.remote import Pages, open_of, pages
from ai_router.cli.session import Session
from ai_router.cli.text import emit, narrate
from batch.engines.desk import Submission
from batch.engines.provider.faults import Lost, Refused, asked
from batch.job import BatchJob

USAGE = "JOB [--watch]"
DESCRIPTION = """\
Ask the provider once how the batches of JOB stand. Nothing is taken, nothing handed over. A count is shown where the
provider has one: Anthropic's come only when all is over.
"""
EXAMPLES = """\
examples:
  ai-router poll 1a2b3c4d
  ai-router poll 1a --watch && ai-router collect 1a --output answers.jsonl

exit codes: 0 all are over and can be collected, 75 some are not
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("job", metavar="JOB", help="id, beginning of an id, or file of a job")
    parser.add_argument("--watch", action="store_true", help="ask again until all are over")
    parser.add_argument(
        "--every", type=float, default=30.0, metavar="S", help="with --watch, seconds between (%(default)g)"
    )


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    job = jobs.open_job(session.workspace, args.job)
    with pages(session, job) as opened:
        while True:
            waiting = _look(job, opened)
            if not waiting or not args.watch:
                break
            time.sleep(max(0.05, args.every))
    if not waiting:
        narrate(f"Collect the answers with: {session.command('collect', job)}")
    return Exit.WAITING if waiting else Exit.DONE


def _look(job: BatchJob, opened: Pages) -> int:
    """A line for each batch; how many are not over."""
    found = open_of(job)
    if not found:
        narrate(f"Nothing of job {job.job_id} is with a provider")
    waiting = 0
    for submission in found:
        over, text = _line(submission, opened)
        waiting += not over
        emit(text)
    return waiting


def _line(submission: Submission, opened: Pages) -> tuple[bool, str]:
    settings, page = opened.of(submission)
    head = f"{submission.remote_id or submission.key}  {settings.provider}  {submission.count:,} requests"
    age = _hours(time.time() - float(submission.details.get("at", time.time())))
    remote_id = submission.remote_id
    if remote_id is None:
        return False, f"{head}  not known whether it was made; ai-router collect looks for it  age {age}"
    try:
        remote = asked(settings.provider, lambda: page.check(remote_id))
    except (Lost, Refused) as error:
        return False, f"{head}  {error}  age {age}"
    counts = f"  {remote.done:,} done" if remote.done is not None else ""
    counts += f", {remote.failed:,} failed" if remote.failed else ""
    until = f"  expires in {_hours(remote.expires - time.time())}" if remote.expires and not remote.over else ""
    return remote.over, f"{head}  {remote.word}{counts}  age {age}{until}"


def _hours(seconds: float) -> str:
    minutes = max(0, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
