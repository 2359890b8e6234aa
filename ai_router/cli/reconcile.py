"""`ai-router reconcile`: what a person knows of an order that nobody answered."""

from __future__ import annotations

import argparse

from ai_router import detaching, jobs
from ai_router.batches import change, open_of
from ai_router.cli.errors import Exit
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import can_ask, confirm, emit, narrate
from batch.checkpoint import submissions
from batch.engines.desk import Submission
from batch.job import BatchJob

USAGE = "JOB [--adopt KEY=BATCH] [--again KEY]"
DESCRIPTION = """\
Settle what could not be told: an order that was not answered and may have been made, or results that are gone. Without
a flag it lists them, and asks where there is a terminal. Nothing is handed over again, and so paid for again, unless
you say so.
"""
EXAMPLES = """\
examples:
  ai-router reconcile 1a2b3c4d
  ai-router reconcile 1a --adopt 5f0c2a9e71-1=msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d
  ai-router reconcile 1a --again 5f0c2a9e71-1
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("job", metavar="JOB", help="id, beginning of an id, or file of a job")
    parser.add_argument("--adopt", metavar="KEY=BATCH", action="append", default=[], help="this order is that batch")
    parser.add_argument(
        "--again", metavar="KEY", action="append", default=[], help="it was not made, or is to be paid for once more"
    )


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    job = jobs.open_job(session.workspace, args.job)
    detaching.check_free(job)
    unclear = {s.key: s for s in open_of(job) if s.remote_id is None or s.details.get("unclear")}
    if not unclear:
        narrate(f"Everything of job {job.job_id} is clear")
        return Exit.DONE
    changes = [_adopt(text, unclear) for text in args.adopt] + [_resubmit(key, unclear) for key in args.again]
    if not changes:
        changes = [made for s in unclear.values() for made in _asked(job, s)]
    if changes:
        change(job, *changes)
        narrate(f"Go on with: {session.command('resume', job)}")
    left = len(unclear) - len(changes)
    return Exit.WAITING if left > 0 else Exit.DONE


def _known(key: str, unclear: dict[str, Submission]) -> str:
    if key not in unclear:
        raise UsageError(f"{key} is no order that is unclear; there are {', '.join(unclear)}")
    return key


def _adopt(text: str, unclear: dict[str, Submission]) -> submissions.Change:
    key, _, remote = text.partition("=")
    if not remote:
        raise UsageError("--adopt: KEY=BATCH is meant")
    return submissions.submit(_known(key, unclear), remote, {"unclear": ""})


def _resubmit(key: str, unclear: dict[str, Submission]) -> submissions.Change:
    return submissions.withdraw(_known(key, unclear), {"ended": "given up by hand"})


def _asked(job: BatchJob, submission: Submission) -> list[submissions.Change]:
    why = submission.details.get("unclear") or "its order was not answered; ai-router collect looks for it first"
    emit(f"{submission.key}  {submission.count:,} requests  {submission.details.get('provider', '')}  {why}")
    if not can_ask() or not submission.details.get("unclear"):
        return []
    for name in submission.details.get("maybe") or ():
        if confirm(f"Is it {name}?"):
            return [submissions.submit(submission.key, str(name), {"unclear": ""})]
    if confirm(f"Hand its {submission.count:,} requests over again, and pay again if they were answered?"):
        return [submissions.withdraw(submission.key, {"ended": "given up by hand"})]
    return []
