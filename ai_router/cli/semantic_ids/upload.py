"""`ai-router semantic-ids upload`: codebooks into the dataset's repository."""

from __future__ import annotations

import argparse
from pathlib import Path

from ai_router import jobs
from ai_router.cli.errors import Exit
from ai_router.cli.semantic_ids.common import add_to, hub_of, may_upload, show_plan
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import emit, narrate
from ai_router.kinds.semantic_ids import output_paths, task_of
from batch.errors import BatchError, MissingExtraError
from batch.semantic_ids.parser import ModelConfigParser
from batch.semantic_ids.processor import upload_addresses, upload_files
from batch.sources import user_path

USAGE = "JOB|FILE … [options]"
DESCRIPTION = """\
Put files of codebooks into `LLM Dataset/Intermediate Files` of the repository of their dataset, in the place of older
ones. The token comes from the environment variable HF_TOKEN and from nowhere else; it needs the right to write there.
"""
EXAMPLES = """\
examples:
  ai-router semantic-ids upload 1a2b3c4d --dry-run
  HF_TOKEN=… ai-router semantic-ids upload 1a2b3c4d
  ai-router semantic-ids upload outputs/codebooks-rqvae-nyc-div0.25-commit0.5-lr5e-5.csv --to ./city
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this action."""
    parser.add_argument("things", nargs="+", metavar="JOB|FILE", help="id of a job, or a file of codebooks")
    add_to(parser)


def main(args: argparse.Namespace, session: Session) -> int:
    """Upload; what is wrong with one file costs none of the others."""
    hub = hub_of(args.to)
    if not args.dry_run and not may_upload(hub):
        return Exit.SOME_FAILED
    failed = False
    for thing in args.things:
        try:
            files, dataset = _files(thing, session)
            if args.dry_run:
                names = tuple(file.name for file in files)
                show_plan([str(file) for file in files], list(upload_addresses(hub, dataset, names)))
                continue
            for address in upload_files(hub, dataset, files):
                emit(address)
        except MissingExtraError:
            raise
        except BatchError as error:
            narrate(f"Error: {thing}: {error}")
            failed = True
    return Exit.SOME_FAILED if failed else Exit.DONE


def _files(thing: str, session: Session) -> tuple[tuple[Path, ...], str]:
    """The files that are meant, and their dataset."""
    path = user_path(thing)
    if path.suffix in (".csv", ".parquet"):
        if not path.is_file():
            raise UsageError(f"There is no {path}")
        return (path,), ModelConfigParser.parse(path.stem.removeprefix("codebooks-")).dataset_name
    job = jobs.open_job(session.workspace, thing)
    task = task_of(job)
    files = output_paths(job, session.workspace.outputs)
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UsageError(f"There is no {missing[0]} yet; make it with: {session.command('export', job)}")
    return files, task.config.dataset_name
