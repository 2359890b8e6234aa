"""`ai-router semantic-ids report`: what the codes of a job or a file amount to."""

from __future__ import annotations

import argparse
import sys

from ai_router import jobs
from ai_router.cli.errors import Exit
from ai_router.cli.session import Session
from ai_router.cli.text import emit, emit_json, is_terminal, width_of
from ai_router.kinds.semantic_ids import read_report
from batch.semantic_ids.report import CodesReport, report_of_file
from batch.sources import user_path

USAGE = "JOB|FILE … [options]"
DESCRIPTION = """\
Unique SIDs, collisions, how evenly each level's codewords are used, and of a job the errors of reconstruction and
quantisation. FILE is a codebooks-*.csv or .parquet, whoever wrote it.
"""
EXAMPLES = """\
examples:
  ai-router semantic-ids report 1a2b3c4d
  ai-router semantic-ids report outputs/codebooks-rqvae-nyc-div0.25-commit0.5-lr5e-5.csv --codewords 32
  ai-router semantic-ids report 1a 2b --json | jq '.[].collision_rate'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this action."""
    parser.add_argument("things", nargs="+", metavar="JOB|FILE", help="id of a job, or a file of codebooks")
    parser.add_argument(
        "--codewords", type=_size, metavar="N", help="codewords a level, for a file (default: a power of two)"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, a list")


def main(args: argparse.Namespace, session: Session) -> int:
    """Print the reports."""
    reports = [_read(thing, args.codewords, session) for thing in args.things]
    if args.json:
        emit_json([report.as_dict() for report in reports])
    else:
        width = width_of(sys.stdout) if is_terminal(sys.stdout) else 100
        emit("\n\n".join("\n".join(report.lines(width)) for report in reports))
    return Exit.SOME_FAILED if any(report.bad or report.missing for report in reports) else Exit.DONE


def _read(thing: str, codewords: int | None, session: Session) -> CodesReport:
    path = user_path(thing)
    if path.suffix in (".csv", ".parquet"):
        return report_of_file(path, codewords)
    return read_report(jobs.open_job(session.workspace, thing))


def _size(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
