"""`ai-router submit`: prompts to a provider; the answers are collected later."""

from __future__ import annotations

import argparse

from ai_router.cli import run
from ai_router.cli.session import Session, UsageError

USAGE = "INPUT --model ID [options]"
DESCRIPTION = """\
Hand every prompt of INPUT to a provider's batch API and leave: the job waits, the machine may be switched off, and the
printed `ai-router collect …` takes the answers. All flags are those of `ai-router run`.
"""
EXAMPLES = """\
examples:
  ai-router submit prompts.csv --model gpt-batch
  ai-router submit table.parquet --template prompt.j2 --model claude-batch --lane auto --deadline 6h

exit codes: 75 handed over, 0 all answered already, 2 usage or input, 3 the provider refused
"""

configure = run.configure


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    if args.detach:
        raise UsageError("--detach: a submit does not stay; leave it out")
    args.wait = False
    return run.main(args, session)
