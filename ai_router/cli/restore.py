"""`ai-router restore`: take a job back from the trash."""

from __future__ import annotations

import argparse

from ai_router.cli.errors import Exit
from ai_router.cli.session import Session
from ai_router.cli.text import narrate
from batch.checkpoint import find_job
from batch.checkpoint.trash import FOLDER, KEPT_DAYS, in_trash, take_back

USAGE = "[JOB]"
DESCRIPTION = f"Take a job back from the trash, where it stays for {KEPT_DAYS} days; without JOB, list what is there."
EXAMPLES = """\
examples:
  ai-router restore
  ai-router restore 1a2b3c4d
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("job", metavar="JOB", nargs="?", help="id, or beginning of an id, of a job in the trash")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    folder = session.workspace.checkpoints
    if args.job is None:
        names = [path.stem.removeprefix("batch_") for path in in_trash(folder)]
        narrate("\n".join(["In the trash, the last thrown away first:", *names]) if names else "The trash is empty.")
        return Exit.DONE
    path = take_back(find_job(folder / FOLDER, args.job))
    narrate(f"Job {path.stem.removeprefix('batch_')} is back.")
    return Exit.DONE
