"""`ai-router collect`: take the answers of a job whose items are with a provider."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ai_router import detaching, jobs
from ai_router.cli import output
from ai_router.cli.display import Display, make_display
from ai_router.cli.flags import add_flags
from ai_router.cli.following import detach, run_job
from ai_router.cli.resume import after_of, write_complete
from ai_router.cli.run import add_display_flags
from ai_router.cli.session import Session, UsageError
from ai_router.cli.signals import Signals
from ai_router.cli.text import plural
from batch.checkpoint import CheckpointStore
from batch.checkpoint.submissions import with_provider
from batch.job import BatchJob
from batch.jobfile import ExportOptions
from batch.notify import NotifyOptions

USAGE = "JOB [options]"
DESCRIPTION = """\
Take the answers to prompts that are with a provider, as far as they are there, with the job's own model. Prompts that
come back without an answer are handed over again. With --wait it stays until all have come; else it looks once, and
ends with 75 where some are still awaited.
"""
EXAMPLES = """\
examples:
  ai-router collect 1a2b3c4d
  ai-router collect 1a --wait --output answers.jsonl
  ai-router collect 1a --wait --detach
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("job", metavar="JOB", help="id, beginning of an id, or file of a job")
    parser.add_argument("--wait", action="store_true", help="stay until every answer has come")
    parser.set_defaults(retry_failed=False)
    add_flags(parser, ExportOptions)
    add_flags(parser, NotifyOptions, defaults=False)
    add_display_flags(parser)


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    display = make_display(args.display)
    with Signals() as signals:
        job = jobs.open_job(session.workspace, args.job)
        detaching.check_free(job)
        away = _away(job)
        if not away:
            return _nothing(args, session, job, display)
        plan = jobs.plan_of(job)
        if problem := jobs.why_not_ready(session.registry, plan):
            raise UsageError(problem)
        for warning in session.workspace.withheld:
            display.note(f"Warning: {warning}")
        after = after_of(args, session, job)
        if args.detach:
            return detach(session, job, after, display, _words(args), verb="collect")
        display.note(f"Job {job.job_id}: {plural(away, 'prompt')} with a provider, model {plan.model}")
        assert job.checkpoint_file is not None
        stream = (
            output.JsonlOutput(after.export.stream, job.checkpoint_file, new=False) if after.export.stream else None
        )
        try:
            return run_job(session, job, plan, after, display, signals, stream, wait=args.wait)
        finally:
            if stream is not None:
                stream.close()


def _away(job: BatchJob) -> int:
    """How many prompts are with a provider."""
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        return len(with_provider(store))


def _nothing(args: argparse.Namespace, session: Session, job: BatchJob, display: Display) -> int:
    """Files are written all the same, as the last `collect` may not have come to that."""
    text = f"Nothing of job {job.job_id} is with a provider"
    if job.processed < job.total_prompts:
        raise UsageError(f"{text}; go on with: {session.command('resume', job)}")
    after = after_of(args, session, job)
    if not (after.wanted or after.export.merge or after.export.stream):
        raise UsageError(f"{text}: it is complete")
    return write_complete(session, job, after, display)


def _words(args: argparse.Namespace) -> Sequence[str]:
    return ["--wait"] if args.wait else []
