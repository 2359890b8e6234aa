"""`ai-router trust`: what a folder's files may make this program do."""

from __future__ import annotations

import argparse
from pathlib import Path

from ai_router.cli.errors import Exit
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import can_ask, confirm, emit, narrate
from ai_router.trust import Claim, allowed, claims_of, files_of, forget, is_own, remember, trusted
from batch.errors import BatchError
from batch.sources.paths import user_path

USAGE = "[DIR] [options]"
DESCRIPTION = """\
A folder is data: its ai-router.yaml and models.yaml choose models and options. The commands, webhooks and Python
modules that they name count only after this, which shows them first. A template, a configuration or a job is trusted by
naming its file. Trust ends when what a file names changes, or a script or module of that folder among it.
"""
EXAMPLES = """\
examples:
  ai-router trust
  ai-router trust ~/work/shared-jobs
  ai-router trust nightly.yaml --yes
  ai-router trust --list
  ai-router trust ~/work/shared-jobs --revoke
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("place", nargs="?", metavar="DIR", help="a folder, or a file (default: this workspace)")
    parser.add_argument("--revoke", action="store_true", help="trust it no longer, and nothing in it")
    parser.add_argument("--list", action="store_true", help="all that is trusted")
    parser.add_argument("--yes", action="store_true", help="ask nothing")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    if args.list:
        for name, lines in trusted().items():
            emit(name)
            for line in lines:
                emit(f"  {line}")
        return Exit.DONE
    place = user_path(args.place).absolute() if args.place else session.workspace.root
    if args.revoke:
        gone = forget([place])
        for name in gone:
            narrate(f"No longer trusted: {name}")
        if not gone:
            narrate(f"Nothing in {place} was trusted.")
        return Exit.DONE
    return _trust(place, yes=args.yes)


def _trust(place: Path, *, yes: bool) -> int:
    if not place.exists():
        raise UsageError(f"There is no {place}")
    wanted = _wanted(place)
    if not wanted:
        narrate(f"Nothing to trust: {place} names no command, webhook or Python module that is not allowed already.")
        return Exit.DONE
    for file, claims in wanted:
        emit(str(file))
        for claim in claims:
            emit(f"  {claim}")
    if not yes:
        if not can_ask():
            raise UsageError("Nothing was trusted: there is nobody to ask; --yes trusts what stands above")
        if not confirm("Allow this?"):
            raise UsageError("Nothing was trusted")
    for file, claims in wanted:
        remember(file, claims)
    narrate("Trusted, until what stands above changes. Undo it with --revoke.")
    return Exit.DONE


def _wanted(place: Path) -> list[tuple[Path, list[Claim]]]:
    """The files that want something which is not allowed, and what."""
    found: list[tuple[Path, list[Claim]]] = []
    for file in files_of(place) if place.is_dir() else [place]:
        if is_own(file):
            continue
        try:
            claims = claims_of(file)
        except BatchError as error:
            if not place.is_dir():
                raise
            narrate(f"Skipped: {error}")
            continue
        if claims and not allowed(file, claims):
            found.append((file, claims))
    return found
