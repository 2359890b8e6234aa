"""`ai-router label`: what a person says of a job."""

from __future__ import annotations

import argparse
from dataclasses import replace

from ai_router.cli.errors import Exit
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import emit_json, narrate
from batch.checkpoint import find_job
from batch.checkpoint.about import read_about, tags_of, write_about

USAGE = "JOB [options]"
DESCRIPTION = "Give a job a name, tags or a note, for the lists of jobs; without options, say which it has."
EXAMPLES = """\
examples:
  ai-router label 1a2b3c4d --name "first try" --tag nightly --tag small
  ai-router label 1a --untag small --note "stopped: wrong template"
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("job", metavar="JOB", help="id, beginning of an id, or file of a job")
    parser.add_argument("--name", metavar="NAME", help="its name; an empty one takes it away")
    parser.add_argument("--tag", metavar="TAG", action="append", default=[], help="add a tag; may be repeated")
    parser.add_argument("--untag", metavar="TAG", action="append", default=[], help="take a tag away")
    parser.add_argument("--note", metavar="TEXT", help="a note; an empty one takes it away")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    path = find_job(session.workspace.checkpoints, args.job)
    before = about = read_about(path)
    if args.name is not None:
        about = replace(about, name=args.name.strip())
    if args.note is not None:
        about = replace(about, note=args.note.strip())
    try:
        tags = {*about.tags, *tags_of(" ".join(args.tag))} - set(tags_of(" ".join(args.untag)))
        about = replace(about, tags=tags_of(" ".join(tags)))
    except ValueError as error:
        raise UsageError(str(error)) from error
    if about != before:
        write_about(path, about)
        narrate(f"Job {path.stem.removeprefix('batch_')} is labelled.")
    emit_json({"name": about.name, "tags": list(about.tags), "note": about.note})
    return Exit.DONE
