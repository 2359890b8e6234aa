"""`ai-router semantic-ids run`: a job a model, one after the other."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from ai_router import jobs, semantic_jobs
from ai_router.cli.display import KINDS, Display, make_display
from ai_router.cli.errors import Exit
from ai_router.cli.flags import add_flags, given
from ai_router.cli.following import AfterRun, run_job
from ai_router.cli.semantic_ids.common import AnyHub, add_from, add_to, hub_of, may_upload, show_plan
from ai_router.cli.session import Session, UsageError
from ai_router.cli.signals import Signals
from ai_router.cli.text import emit, plural
from ai_router.kinds.semantic_ids import KIND
from batch.errors import BatchError
from batch.job import BatchJob
from batch.options import build_options, options_dict
from batch.semantic_ids.choose import choose_models
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.hub import UnreachableError
from batch.semantic_ids.output import output_files
from batch.semantic_ids.processor import upload_addresses, upload_files
from batch.semantic_ids.task import CodebookOptions, Task, prepare
from batch.sources import user_path

USAGE = "[MODEL …] [options]"
DESCRIPTION = """\
Encode the dataset of each MODEL and write codebooks-NAME.csv (Pid, Codebook, Vector). MODEL is all (the default), nyc,
tky, a model's id or the last part of it. Each model is a job: it is resumed, listed, shown and exported like any other.
What is wrong with one model costs none of the others.
"""
EXAMPLES = """\
examples:
  ai-router semantic-ids run --from ./city
  ai-router semantic-ids run tky --vector quantized --parquet
  ai-router semantic-ids run rqvae-nyc-div0.25-commit0.5-lr5e-5 --suffix --upload --dry-run

exit codes: 0 all encoded, 1 a model failed or rows could not be encoded, 2 usage, 130 interrupted
"""
INTERRUPTED = (Exit.INTERRUPTED, Exit.TERMINATED, Exit.HANGUP, Exit.PIPE)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this action."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help="all, nyc, tky, or models by name")
    add_from(parser)
    add_flags(parser, CodebookOptions, title="codebooks")
    parser.add_argument("--output", metavar="DIR", help="the folder of the files (default: the workspace's outputs)")
    parser.add_argument("--upload", action="store_true", help="then put the files into the dataset's repository")
    add_to(parser)
    parser.add_argument("--display", choices=KINDS, default="auto", help="how it is shown (default auto)")


@dataclass(slots=True)
class _Ready:
    """A model that can be encoded, and later its job."""

    task: Task
    folder: Path
    job: BatchJob | None = None


def main(args: argparse.Namespace, session: Session) -> int:
    """Do it."""
    display = make_display(args.display)
    hub = hub_of(args.source)
    target = hub_of(args.to) if args.to else hub
    options = build_options(CodebookOptions, given(args, CodebookOptions))
    if problem := KIND.why_not_ready({"options": options_dict(options)}):
        raise UsageError(f"Encoding semantic IDs {problem}")
    # Without a token the models run all the same: their files can be uploaded later.
    uploads = args.upload and (args.dry_run or may_upload(target))
    try:
        models = choose_models(args.models, hub)
    except SemanticIdError as error:
        raise UsageError(str(error)) from None
    folder = user_path(args.output).absolute() if args.output else session.workspace.outputs
    with Signals() as signals:
        ready, failed = _prepare(models, hub, options, folder, display)
        if args.dry_run:
            _say_plan(ready, target, display)
            return Exit.SOME_FAILED if failed else Exit.DONE
        for entry in ready:
            entry.job = semantic_jobs.create_job(session.workspace, entry.task, folder if args.output else None)
        code = _run_all(ready, target if uploads else None, session, display, signals)
    short = failed or uploads != args.upload
    return max(code, Exit.SOME_FAILED) if short and code == Exit.DONE else code


def _prepare(
    models: list[str], hub: AnyHub, options: CodebookOptions, folder: Path, display: Display
) -> tuple[list[_Ready], int]:
    """Fetch and check what each model needs; returns those that are ready and how many are not."""
    ready: list[_Ready] = []
    for number, model in enumerate(models, 1):
        display.busy(f"Fetching… {number}/{len(models)} {model}")
        try:
            ready.append(_Ready(prepare(model, hub, options), folder))
        except UnreachableError as error:
            display.busy("")
            left = len(models) - number
            rest = f"; {plural(left, 'other model was', 'other models were')} not tried" if left else ""
            display.alert(f"Error: {model}: {error}{rest}")
            break
        except SemanticIdError as error:
            display.busy("")
            display.alert(f"Error: {model}: {error}")
    display.busy("")
    return ready, len(models) - len(ready)


def _say_plan(ready: list[_Ready], target: AnyHub, display: Display) -> None:
    for entry in ready:
        task = entry.task
        what = f"{plural(task.rows, 'item')} of {task.config.dataset_name} in {plural(task.blocks, 'block')}"
        display.note(f"{task.model}: {what}; checkpoint {task.checkpoint}, features {task.features}")
        files = output_files(task, entry.folder)
        addresses = upload_addresses(target, task.config.dataset_name, tuple(file.name for file in files))
        show_plan([str(file) for file in files], list(addresses))


def _run_all(ready: list[_Ready], target: AnyHub | None, session: Session, display: Display, signals: Signals) -> int:
    worst: int = Exit.DONE
    for number, entry in enumerate(ready):
        job = entry.job
        assert job is not None
        rows = plural(entry.task.rows, "row")
        display.note(f"[{number + 1}/{len(ready)}] Job {job.job_id}: {rows} of {entry.task.config.dataset_name}, "
                     f"model {entry.task.config.run_name}")  # fmt: skip
        code = run_job(session, job, jobs.plan_of(job), AfterRun(), display, signals)
        if code in INTERRUPTED:
            for left in ready[number + 1 :]:
                assert left.job is not None
                display.alert(f"Not begun: {left.task.config.run_name}; run it with: "
                              f"{session.command('resume', left.job)}")  # fmt: skip
            return code
        if code not in (Exit.DONE, Exit.SOME_FAILED):
            code = Exit.SOME_FAILED  # the engine's or the disk's failure is this model's alone
        else:
            code = max(code, _deliver(entry, target, display))
        worst = max(worst, code)
    return worst


def _deliver(entry: _Ready, target: AnyHub | None, display: Display) -> int:
    """Name the files on stdout, and upload them where that was asked for."""
    files = tuple(file for file in output_files(entry.task, entry.folder) if file.is_file())
    for file in files:
        emit(str(file))
    if target is None or not files:
        return Exit.DONE
    try:
        for address in upload_files(target, entry.task.config.dataset_name, files):
            display.note(f"Uploaded {address}")
    except BatchError as error:
        display.alert(f"Error: {error}; the files are kept in {entry.folder}")
        return Exit.SOME_FAILED
    return Exit.DONE
