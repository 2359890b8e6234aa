"""`ai-router poll`: how a job's batches stand, as their provider says at this moment."""

from __future__ import annotations

import argparse
import time

from ai_router import batches, jobs
from ai_router.cli.errors import Exit
from ai_router.cli.session import Session
from ai_router.cli.text import emit, inert, narrate
from ai_router.cli.waiting import SETTLE
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

exit codes: 0 all are over and can be collected, 75 some are not, or a person has to say what became of them
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
    with batches.pages(session.registry, job) as opened:
        while True:
            found = _look(job, opened)
            waiting = any(not standing.over and not standing.unclear for standing in found)
            if not waiting or not args.watch:
                break
            time.sleep(max(0.05, args.every))
    if not found:
        narrate(f"Nothing of job {job.job_id} is with a provider")
    elif unclear := any(standing.unclear for standing in found):
        narrate(f"{SETTLE}: {session.command('reconcile', job)}")
        waiting |= unclear
    elif not waiting:
        narrate(f"Collect the answers with: {session.command('collect', job)}")
    return Exit.WAITING if waiting else Exit.DONE


def _look(job: BatchJob, opened: batches.Pages) -> list[batches.Standing]:
    """A line for each batch; how they stand."""
    found = []
    for submission in batches.open_of(job):
        found.append(batches.look(submission, opened))
        emit(inert(found[-1].text))
    return found
