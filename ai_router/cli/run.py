"""`ai-router run`: prompts in, answers kept."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ai_router import estimate, jobs, shards
from ai_router.cli import metrics, output, tables
from ai_router.cli.display import KINDS, Display, make_display
from ai_router.cli.errors import Exit
from ai_router.cli.flags import add_flags, given
from ai_router.cli.following import PRIVATE, AfterRun, detach, run_job
from ai_router.cli.jobfiles import save_template, trusted_template
from ai_router.cli.kept import keep, take_preset
from ai_router.cli.routing import add_routing_flags, lines_of, planned, refuse_flags, router_for, wish_of
from ai_router.cli.session import Session, UsageError
from ai_router.cli.signals import Signals
from ai_router.cli.text import can_ask, confirm, emit, plural
from ai_router.cli.trying import Tries, try_first
from ai_router.lanes import named
from ai_router.memory import Memory
from ai_router.models import ModelSpec
from ai_router.models.factory import check_cluster
from ai_router.routing import AUTO
from ai_router.settings import Settings
from batch.errors import BatchError
from batch.items import Request
from batch.job import BatchJob
from batch.jobfile import ExportOptions, JobFile, SourceOptions
from batch.notify import NotifyOptions, check_options
from batch.options import OptionError, RunOptions, SamplingOptions, build_options, options_dict
from batch.running.policy import ErrorStrategy
from batch.sources import Source, Validation, user_path

if TYPE_CHECKING:
    from ai_router.routing.router import Router

USAGE = "INPUT [options]"
DESCRIPTION = """\
Answer every prompt of INPUT with a model. Every answer is saved the moment it comes: whatever happens, the printed
`ai-router resume …` goes on where it stopped.

INPUT is a .txt (a prompt a line, # comments), .json, .jsonl, .csv, .tsv, .parquet or .arrow file, compressed with gzip
or not, or - for standard input. With a Jinja template each row of a table is a prompt, and --merge writes the table
again with the answers as new columns.
"""
EXAMPLES = """\
examples:
  ai-router run prompts.txt
  ai-router run prompts.csv --column question --model demo --output answers.csv
  cat prompts.txt | ai-router run - --output - --format jsonl > answers.jsonl
  ai-router run prompts.txt --on-error threshold:10 --max-tokens 64 --detach
  ai-router run prompts.txt --check
  ai-router run table.parquet --template prompt.j2 --merge table-with-answers.parquet

exit codes: 0 all answered, 1 some failed, 2 usage or input, 3 engine or disk failed, 130 interrupted
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("input", nargs="?", metavar="INPUT", help="file of prompts, or - for standard input")
    parser.add_argument(
        "--model", metavar="ID", help="the model, see `ai-router models`, or auto (default: as in the settings)"
    )
    parser.add_argument("--check", action="store_true", help="only read the prompts and report what is wrong with them")
    parser.add_argument(
        "--template",
        metavar="FILE",
        action="append",
        default=[],
        help="a .yaml file: take all options from it, flags win over it; any other: a Jinja template over INPUT's "
        "columns that gives the prompt of each row",
    )
    parser.add_argument("--preset", metavar="NAME", help="options kept by this name, here or on the options screen")
    parser.add_argument("--keep-preset", metavar="NAME", help="keep the options of this run by a name")
    parser.add_argument("--save-template", metavar="FILE", help="write all options to a YAML file, then run")
    add_flags(parser, SourceOptions, skip=["path", "template"])
    parser.add_argument(
        "--shard", metavar="I/N", help="take every N-th prompt only, from the I-th on; `ai-router merge` joins the jobs"
    )
    add_flags(parser, SamplingOptions)
    add_flags(parser, RunOptions)
    add_flags(parser, ExportOptions)
    add_flags(parser, NotifyOptions, defaults=False)
    add_routing_flags(parser, budget=False)
    add_display_flags(parser)
    parser.add_argument(
        "--try",
        dest="try_first",
        metavar="[random:]N",
        help="answer the first N prompts, or any N, show what they cost and what all would, and ask before the rest",
    )
    parser.add_argument("--yes", action="store_true", help="ask nothing")


def add_display_flags(parser: argparse.ArgumentParser) -> None:
    """How a run is shown and where it happens; `run` and `resume` share these."""
    group = parser.add_argument_group("display")
    group.add_argument(
        "--display",
        choices=KINDS,
        default="auto",
        help="plain: a progress line; log: lines with a time; json: an object a line; none: only errors (default auto)",
    )
    group.add_argument(
        "--metrics",
        metavar="[HOST]:PORT",
        help="answer Prometheus there while it runs, as in :9400; without HOST to this machine alone",
    )
    group.add_argument("--detach", action="store_true", help="go on in the background, with a log file")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    display = make_display(args.display)
    _tries(args)
    with Signals() as signals:
        task = _prepare(args, session, display)
        with task.source:
            return _run(task, args, session, display, signals)


@dataclass(slots=True)
class _Task:
    """All that was asked for, checked as far as it can be before the prompts are read."""

    jobfile: JobFile
    spec: ModelSpec
    source: Source
    after: AfterRun
    router: Router | None = None  # of a job whose items each have a model of their own


def _prepare(args: argparse.Namespace, session: Session, display: Display) -> _Task:
    whole, prompt = tables.split_templates(args.template)
    jobfile = trusted_template(user_path(whole), display) if whole else JobFile()
    memory = Memory(session.workspace.checkpoints)
    take_preset(args.preset, jobfile, memory)
    _take_flags(jobfile, args)
    if prompt is not None:
        jobfile.source.template = prompt
    for problem in (*session.workspace.withheld, *session.registry.skipped):
        display.note(f"Warning: {problem}")
    wanted = args.model or jobfile.model or session.workspace.settings.model
    router = None
    if wanted == AUTO:
        wish_of(args, jobfile.run.budget)  # checked before anything is read
        router = router_for(session, args)
        wanted = router.default if router.default in router.allowed else router.allowed[0]
    else:
        refuse_flags(args)
    spec = session.registry.get(wanted)
    sampling = {**spec.sampling, **options_dict(jobfile.sampling), **given(args, SamplingOptions)}
    try:
        jobfile.sampling = build_options(SamplingOptions, sampling)
    except OptionError as error:
        raise OptionError(f"model {spec.id}: {error}") from None
    if not spec.configured(jobfile.run).ready and not args.check:
        raise UsageError(f"Model {spec.id} is not ready: {spec.why}")
    jobfile.model = spec.id
    if args.keep_preset is not None:
        keep(args.keep_preset, jobfile, memory, display)
    if jobfile.run.cluster is not None and not args.check:
        try:
            check_cluster(spec)
        except BatchError as error:
            raise UsageError(str(error)) from None
    ErrorStrategy.parse(jobfile.run.on_error)
    notify, notify_given = notify_options(args, session.workspace.settings, jobfile.notify)
    source = tables.source_of(jobfile)
    try:
        export = output.resolved(jobfile.export, openai_batch=source.openai_batch)
        tables.check_merge(export, source, jobfile, spec)
        form = jobfile.export.format is not None
        after = AfterRun(export, form or jobfile.export.path is not None, form, notify, notify_given)
        after.metrics = metrics.check(args.metrics)
        check_after(after, args, [source.path] if source.path else [])
    except BaseException:
        source.close()
        raise
    return _Task(jobfile, spec, source, after, router)


def _take_flags(jobfile: JobFile, args: argparse.Namespace) -> None:
    """Put the command line over the template."""
    for section in (jobfile.source, jobfile.export):
        for name in ("path", "stream", "merge", "template"):
            if value := getattr(section, name, None):
                setattr(section, name, jobfile.resolve(value))
    if args.input is not None:
        jobfile.source.path = args.input
    if jobfile.source.path is None:
        raise UsageError("Which prompts? Name a file, or - for standard input: ai-router run FILE")
    jobfile.source = replace(jobfile.source, **given(args, SourceOptions))
    jobfile.run = replace(jobfile.run, **given(args, RunOptions))
    jobfile.export = replace(jobfile.export, **given(args, ExportOptions))


def notify_options(
    args: argparse.Namespace, settings: Settings, base: NotifyOptions | None = None
) -> tuple[NotifyOptions, dict[str, object]]:
    """Who hears of the end: the settings, over them the template, over it the flags; and what the latter two say."""
    said = {**options_dict(base or NotifyOptions()), **given(args, NotifyOptions)}
    for name, variable in PRIVATE.items():  # taken out, so that nothing this process starts has it
        if value := os.environ.pop(variable, None):
            said[name] = value
    options = NotifyOptions(
        bell=settings.bell, desktop=settings.osc9, command=settings.notify_command, webhook=settings.webhook
    )
    options = replace(options, **said)
    check_options(options)
    return options, said


def check_after(after: AfterRun, args: argparse.Namespace, forbidden: list[Path]) -> None:
    """Raise where the answers could not be written, or a background run has nowhere to write them."""
    if args.detach and output.STDOUT in (after.export.path, after.export.stream):
        raise UsageError("A background run has no stdout; name a file with --output")
    output.check(after.export, forbidden)


def _run(task: _Task, args: argparse.Namespace, session: Session, display: Display, signals: Signals) -> int:
    jobfile, source, export = task.jobfile, task.source, task.after.export
    plan = jobs.JobPlan(task.spec.id, jobfile.sampling, jobfile.run, source.name)
    plan.shard = shards.parse_shard(args.shard) if args.shard else None
    # Among several models, what is too long for one goes to another: only what none can hold is too long.
    widest = task.spec if task.router is None else task.router.widest
    report = jobs.check(source, widest, plan, lambda n: display.busy(f"Reading… {n:,} prompts"), session.registry)
    display.busy("")
    planned = None if task.router is not None else estimate.before(task.spec, report, jobfile.sampling, jobfile.run)
    if session.verbose and not args.check:
        for line in report.lines():
            display.note(line)
    if args.check:
        for line in report.lines():
            emit(line)
        if planned is not None:
            emit(f"plan: {planned.text}")
        tables.show_preview(source)
        save_template(args, jobfile, display)
        return Exit.DONE if report.ok else Exit.USAGE
    _judge(report, task.after, args, display)
    if not getattr(args, "wait", True):
        _check_far(task, report, session)
    _afford(task, planned, display)
    plan.table = tables.kept(source)
    _mention_answers(source, display)
    save_template(args, jobfile, display)
    requests = source if task.router is None else _routed(task, plan, args, display)
    if plan.shard is not None:
        requests = shards.of_shard(requests, plan.shard)
    new_stream = export.stream not in (None, output.STDOUT) and not os.path.exists(str(export.stream))
    _reserve_stream(export)
    try:
        job = jobs.create_job(
            session.workspace,
            plan,
            requests,
            lambda n: display.busy(f"Writing the checkpoint… {n:,} prompts"),
            task.spec,
            session.registry,
        )
    except BaseException:
        if new_stream:
            output.remove_empty(export.stream)
        raise
    display.busy("")
    return _start(session, job, plan, task.after, args, display, signals)


def _routed(task: _Task, plan: jobs.JobPlan, args: argparse.Namespace, display: Display) -> Iterable[Request]:
    """The prompts with their models, after the plan was told, and asked about where it costs something."""
    assert task.router is not None
    run = task.jobfile.run
    routed = planned(
        task.router, task.source, args, task.jobfile.sampling, display.busy, budget=run.budget, lane=run.lane
    )
    for line in lines_of(routed):
        display.note(line)
    figures = routed.figures
    if not args.yes and figures and figures.cost and figures.cost[0] and can_ask() and not confirm("Run it so?"):
        raise UsageError("Nothing was run")
    plan.chains = {lane: asdict(chain) for lane, chain in routed.chains.items()}
    plan.only = list(task.router.only)
    return routed.directed(task.source)


def _start(
    session: Session,
    job: BatchJob,
    plan: jobs.JobPlan,
    after: AfterRun,
    args: argparse.Namespace,
    display: Display,
    signals: Signals,
) -> int:
    if args.detach:
        return detach(session, job, after, display)
    tries = _tries(args)
    if tries is not None and tries.number < job.total_prompts:
        code = try_first(session, job, plan, tries, display, signals, yes=args.yes)
        if code is not None:
            return code
    assert job.checkpoint_file is not None
    display.note(f"Job {job.job_id}: {plural(job.total_prompts, 'prompt')}, model {plan.model}")
    stream = output.JsonlOutput(after.export.stream, job.checkpoint_file, new=True) if after.export.stream else None
    try:
        return run_job(session, job, plan, after, display, signals, stream, wait=getattr(args, "wait", True))
    finally:
        if stream is not None:
            stream.close()


def _judge(report: Validation, after: AfterRun, args: argparse.Namespace, display: Display) -> None:
    """Refuse what cannot run; tell of what can, but may not be meant."""
    errors = [problem.text for problem in report.problems if problem.severity == "error"]
    if errors:
        raise UsageError("; ".join(_named(text, report.name) for text in errors))
    doubtful = False
    for problem in report.problems:
        display.note(f"Warning: {problem.text}")
        doubtful |= problem.code == "too_long"
    if args.yes or report.name == "standard input" or not can_ask():
        return
    if doubtful and not confirm("Run all the same?"):
        raise UsageError("Nothing was run")
    target = after.export.path
    exists = target not in (None, output.STDOUT) and os.path.isfile(str(target))
    if exists and not confirm(f"{target} exists. Replace it when the job ends?"):
        raise UsageError("Nothing was run; name another file with --output")


def _check_far(task: _Task, report: Validation, session: Session) -> None:
    """Refuse to hand over what no provider would answer: it would be answered here, while somebody waits."""
    if task.router is not None or "" in report.named.counts:
        return
    found = (named(session.registry, name) for name in report.named.counts)
    if not any(spec.engine == "provider" for spec in (task.spec, *found) if spec is not None):
        text = f"Model {task.spec.id} is no provider's and answers while one waits: use ai-router run instead of submit"
        raise UsageError(text)


def _mention_answers(source: Source, display: Display) -> None:
    """Say where the file's own answers could be scored against; here they are not."""
    from batch.datasets.source import looks_like_dataset

    if source.path is not None and source.format != "txt" and looks_like_dataset(source.path):
        display.note(f"{source.name} holds known answers; to score against them: ai-router dataset run --test-file …")


def _afford(task: _Task, planned: estimate.Estimate | None, display: Display) -> None:
    """Say what it will cost; refuse a budget that could not be kept."""
    if planned is None:
        return
    if task.jobfile.run.budget is not None and planned.cost is None:
        raise UsageError(
            f"What {task.spec.id} costs is not known, so a budget cannot be kept: give it in models.yaml, "
            "price: {input: …, output: …}"
        )
    if planned.cost is None or planned.cost[1]:
        display.note(f"Plan: {planned.text}")


def _tries(args: argparse.Namespace) -> Tries | None:
    if args.try_first is None:
        return None
    tries = Tries.of(args.try_first)
    if args.detach:
        raise UsageError("--try asks before it goes on, which a background run cannot")
    return tries


def _named(text: str, name: str) -> str:
    return text if name in text else f"{name}: {text}"


def _reserve_stream(export: ExportOptions) -> None:
    """Open the stream once before there is a job, as a file that holds other results is refused."""
    path = export.stream
    # A pipe is opened once only, as its reader would take the first end for the last.
    if path and path != output.STDOUT and (os.path.isfile(path) or not os.path.exists(path)):
        from batch.export import JsonlWriter

        JsonlWriter(path, new=True).close()
