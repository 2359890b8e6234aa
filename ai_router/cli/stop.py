"""`ai-router stop`: stop a job that another process runs."""

from __future__ import annotations

import argparse

from ai_router.cli import watch
from ai_router.cli.session import Session

USAGE = "JOB [options]"
DESCRIPTION = """\
Stop a job that runs in the background or elsewhere on this machine: it finishes what is in flight, saves, and stays
resumable. Ctrl-C leaves while it does.
"""
EXAMPLES = """\
examples:
  ai-router stop 1a2b3c4d
  ai-router stop 1a --now
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("job", metavar="JOB", help="id, beginning of an id, or file of a job")
    parser.add_argument("--now", action="store_true", help="abandon what is in flight; it runs again on resume")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    return watch.stop(session, watch.open_watch(session, args.job), now=args.now)
