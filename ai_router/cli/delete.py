"""`ai-router delete`: remove a job and its results."""

from __future__ import annotations

import argparse

from ai_router.cli.errors import Exit
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import can_ask, confirm, narrate
from batch.checkpoint import delete_checkpoint, find_job
from batch.checkpoint.listing import read_info
from batch.checkpoint.lock import lock_owner
from batch.checkpoint.trash import throw_away
from batch.errors import CheckpointError

USAGE = "JOB [options]"
DESCRIPTION = "Remove a job: its prompts, its results and its log. Exports stay. A job that is running is refused."
EXAMPLES = """\
examples:
  ai-router delete 1a2b3c4d
  ai-router delete 1a --yes
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("job", metavar="JOB", help="id, beginning of an id, or file of a job")
    parser.add_argument("--trash", action="store_true", help="into the trash, from where restore takes it back")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    path = find_job(session.workspace.checkpoints, args.job)
    name = path.stem.removeprefix("batch_")
    try:
        info = read_info(path)
        what = f"job {name} with {info.completed + info.failed:,} results of {info.total:,} prompts"
    except CheckpointError:  # a damaged one may go too; it is known by its name only
        if not path.name.startswith("batch_"):
            raise
        what = f"the damaged checkpoint {path}"
    if owner := lock_owner(path):
        raise CheckpointError(f"Job {name} is being run by process {owner.pid}; stop it with: ai-router stop {name}")
    if args.trash:
        throw_away(path)
        narrate(f"Moved {what} to the trash; to take it back: ai-router restore {name}")
        return Exit.DONE
    if not args.yes:
        if not can_ask():
            raise UsageError(f"Nobody can be asked here; to delete {what}, add --yes")
        if not confirm(f"Delete {what} for good?"):
            narrate("Nothing was deleted.")
            return Exit.DONE
    delete_checkpoint(path)
    narrate(f"Deleted {what}.")
    return Exit.DONE
