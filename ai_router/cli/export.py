"""`ai-router export`: the results of a job as a file."""

from __future__ import annotations

import argparse

from ai_router import jobs
from ai_router.cli import output
from ai_router.cli.display import make_display
from ai_router.cli.errors import Exit
from ai_router.cli.flags import add_flags, flag_name, given
from ai_router.cli.resume import is_openai_batch
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import emit, narrate, plural
from ai_router.kinds import JobKind, kind_of
from batch.job import BatchJob
from batch.jobfile import ExportOptions

USAGE = "JOB [options]"
DESCRIPTION = """\
Write a job's results in the order of its prompts; of a job that is not complete, those there are. The file appears
whole or not at all. Without --output it goes to the workspace's outputs folder, and its path is printed. A job of
semantic IDs writes its codebooks again.
"""
EXAMPLES = """\
examples:
  ai-router export 1a2b3c4d --format csv --output answers.csv
  ai-router export 1a --format jsonl --output - | jq .response_text
  ai-router export 1a --output report.html
  ai-router export 1a --merge table-with-answers.parquet

formats: json, csv, jsonl, openai (the output lines of an OpenAI batch), html (a page to be read: figures, plots,
failures, prompts and answers), dataset (input, expected and predicted of a dataset job); without --format the file's
name decides
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("job", metavar="JOB", help="id, beginning of an id, or file of a job")
    add_flags(parser, ExportOptions, skip=["stream"])


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    job = jobs.open_job(session.workspace, args.job)
    if (kind := kind_of(job.kind)).files:
        return _export_own(job, kind, args, session)
    assert job.checkpoint_file is not None
    options = output.resolved(ExportOptions(**given(args, ExportOptions)), openai_batch=is_openai_batch(job))
    output.check(options, [job.checkpoint_file])
    if options.merge is not None:
        merged = output.merge(job, options)
        narrate(f"Wrote {plural(job.total_prompts, 'row')} with {plural(merged, 'answer')}: {options.merge}")
        if options.path is None and "format" not in given(args, ExportOptions):
            return Exit.DONE
    target, count = output.write(job, options, session.workspace.outputs)
    if target != output.STDOUT:
        left = job.total_prompts - count
        rest = f"; {left:,} prompts have none yet" if left > 0 else ""
        narrate(f"Wrote {count:,} results{rest}: {target}")
        if options.path is None:
            emit(target)
    return Exit.DONE


def _export_own(job: BatchJob, kind: JobKind, args: argparse.Namespace, session: Session) -> int:
    """The files that jobs of this kind make, once more."""
    if said := given(args, ExportOptions):
        flags = ", ".join(f"--{flag_name(ExportOptions, name)}" for name in said)
        raise UsageError(f"{flags}: only for jobs of prompts; job {job.job_id} makes files of its own")
    display = make_display("auto")
    written = kind.write(
        job, session.workspace.outputs, lambda done: display.busy(f"Writing… {plural(done, kind.unit or kind.item)}")
    )
    display.busy("")
    for file in written.files:
        narrate(f"Wrote {file}")
        emit(str(file))
    if not written.whole:
        narrate(f"Not all is there: {written.lacking}")
    return Exit.DONE if written.whole else Exit.SOME_FAILED
