"""`ai-router merge`: the shards of an input as one job."""

from __future__ import annotations

import argparse

from ai_router import shards
from ai_router.cli.display import make_display
from ai_router.cli.errors import Exit
from ai_router.cli.session import Session
from ai_router.cli.text import emit, narrate, plural
from batch.checkpoint import find_job

USAGE = "JOB JOB …"
DESCRIPTION = """\
Make one job of all the shards of an input, each of which was begun with `ai-router run --shard i/n`, on this machine or
another. The new job has their prompts in the input's order, their answers, tries and costs; the shards stay as they
are. It is shown, scored and exported like any other, and its id is written to stdout.
"""
EXAMPLES = """\
examples:
  ai-router merge 1a2b3c4d 5e6f7a8b
  ai-router merge /shared/checkpoints/batch_*.db
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("jobs", metavar="JOB", nargs="+", help="id, beginning of an id, or file of each shard")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    display = make_display("auto")
    files = [find_job(session.workspace.checkpoints, name) for name in args.jobs]
    job = shards.merge(
        session.workspace, files, lambda done: display.busy(f"Writing the checkpoint… {plural(done, 'prompt')}")
    )
    display.busy("")
    left = job.total_prompts - job.processed
    narrate(
        f"Job {job.job_id}: {plural(job.total_prompts, 'prompt')} of {plural(len(files), 'shard')}, "
        f"{job.completed:,} done, {job.failed:,} failed" + (f", {left:,} left" if left else "")
    )
    narrate(f"Results: {session.command('show', job)}")
    emit(job.job_id)
    return Exit.DONE
