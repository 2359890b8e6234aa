"""`ai-router resume`: the rest of a job."""

from __future__ import annotations

import argparse
from dataclasses import replace

from ai_router import detaching, jobs
from ai_router.cli import metrics, output
from ai_router.cli.display import Display, make_display
from ai_router.cli.errors import Exit
from ai_router.cli.flags import add_flags, as_arguments, flag_name, given
from ai_router.cli.following import AfterRun, detach, run_job
from ai_router.cli.run import add_display_flags, check_after, notify_options
from ai_router.cli.session import Session, UsageError
from ai_router.cli.signals import Signals
from ai_router.cli.text import can_ask, confirm, plural
from ai_router.kinds import kind_of
from batch.checkpoint import CheckpointStore
from batch.job import BatchJob, JobStatus
from batch.jobfile import ExportOptions
from batch.notify import NotifyOptions
from batch.options import RunOptions, SamplingOptions
from batch.running.policy import ErrorStrategy

USAGE = "JOB [options]"
DESCRIPTION = """\
Go on with a job: exactly the prompts that have no result yet, with the options it began with. A flag changes an
option from now on.
"""
EXAMPLES = """\
examples:
  ai-router resume 1a2b3c4d
  ai-router resume 1a --retry-failed --max-tokens 512
  ai-router resume 1a2b3c4d --workers 2 --output answers.csv --detach
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("job", metavar="JOB", help="id, beginning of an id, or file of a job")
    parser.add_argument("--retry-failed", action="store_true", help="also try again what has failed")
    parser.add_argument("--model", metavar="ID", help="go on with another model")
    add_flags(parser, SamplingOptions, defaults=False)
    add_flags(parser, RunOptions, defaults=False)
    add_flags(parser, ExportOptions)
    add_flags(parser, NotifyOptions, defaults=False)
    add_display_flags(parser)
    parser.add_argument("--yes", action="store_true", help="ask nothing; go on with another model or other weights too")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    display = make_display(args.display)
    with Signals() as signals:
        job = jobs.open_job(session.workspace, args.job)
        detaching.check_free(job)
        plan = _plan(args, session, job, display)
        for problem in session.workspace.withheld:
            display.note(f"Warning: {problem}")
        after = after_of(args, session, job)
        if job.processed >= job.total_prompts and not (args.retry_failed and job.failed):
            return _nothing_left(session, job, plan, after, args, display, signals)
        if problem := jobs.why_not_ready(session.registry, plan):
            raise UsageError(problem)
        _allow_change(args, session, job, plan, display)
        return _go_on(session, job, plan, after, args, display, signals)


def _plan(args: argparse.Namespace, session: Session, job: BatchJob, display: Display) -> jobs.JobPlan:
    plan = jobs.plan_of(job)
    plan.sampling = replace(plan.sampling, **given(args, SamplingOptions))
    plan.run = replace(plan.run, **given(args, RunOptions))
    ErrorStrategy.parse(plan.run.on_error)
    if args.model and kind_of(job.kind).own_engine:
        raise UsageError(f"--model: job {job.job_id} is of kind {job.kind} and goes on with its own model")
    if args.model:
        plan.model = session.registry.get(args.model).id
    return plan


def _allow_change(
    args: argparse.Namespace, session: Session, job: BatchJob, plan: jobs.JobPlan, display: Display
) -> None:
    """Ask where the rest would come from another model or other weights than what is there."""
    problem = jobs.model_changed(session.registry, job, plan)
    if not problem:
        return
    if args.yes:
        display.note(f"Warning: {problem}")
        return
    if not can_ask():
        raise UsageError(f"{problem}; --yes goes on all the same")
    if not confirm(f"{problem}. Go on?"):
        raise UsageError("Nothing was run")
    args.yes = True


def after_of(args: argparse.Namespace, session: Session, job: BatchJob) -> AfterRun:
    """What is to happen with the answers, as the flags say; refused where a job of this kind has no use for them."""
    said = given(args, ExportOptions)
    if kind_of(job.kind).files and said:
        flags = ", ".join(f"--{flag_name(ExportOptions, name)}" for name in said)
        raise UsageError(f"{flags}: only for jobs of prompts; job {job.job_id} makes files of its own")
    export = output.resolved(ExportOptions(**said), openai_batch=is_openai_batch(job))
    notify, notify_given = notify_options(args, session.workspace.settings)
    form = "format" in said
    after = AfterRun(export, form or "path" in said, form, notify, notify_given, args.retry_failed)
    after.metrics = metrics.check(args.metrics)
    assert job.checkpoint_file is not None
    check_after(after, args, [job.checkpoint_file])
    return after


def is_openai_batch(job: BatchJob) -> bool:
    """Whether the prompts came from lines of an OpenAI batch, as the first one says."""
    if not job.total_prompts:
        return False
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file, "snapshot") as store:
        extra = store.request(0).extra
    return bool(extra and extra.get("openai_batch"))


def _go_on(
    session: Session,
    job: BatchJob,
    plan: jobs.JobPlan,
    after: AfterRun,
    args: argparse.Namespace,
    display: Display,
    signals: Signals,
) -> int:
    if args.detach:
        changes = as_arguments(SamplingOptions, given(args, SamplingOptions))
        changes += as_arguments(RunOptions, given(args, RunOptions))
        model = [] if kind_of(job.kind).own_engine else ["--model", plan.model]
        agreed = ["--yes"] if args.yes else []
        return detach(session, job, after, display, [*changes, *model, *agreed])
    assert job.checkpoint_file is not None
    left = job.total_prompts - job.processed + (job.failed if args.retry_failed else 0)
    display.note(
        f"Job {job.job_id}: {left:,} of {plural(job.total_prompts, kind_of(job.kind).item)} left, model {plan.model}"
    )
    stream = output.JsonlOutput(after.export.stream, job.checkpoint_file, new=False) if after.export.stream else None
    try:
        return run_job(session, job, plan, after, display, signals, stream, allow_change=args.yes)
    finally:
        if stream is not None:
            stream.close()


def _nothing_left(
    session: Session,
    job: BatchJob,
    plan: jobs.JobPlan,
    after: AfterRun,
    args: argparse.Namespace,
    display: Display,
    signals: Signals,
) -> int:
    """Every prompt has a result; what was asked for with them is done all the same."""
    if job.status != JobStatus.COMPLETED:  # killed between its last answer and its end
        args.detach = False
        return _go_on(session, job, plan, after, args, display, signals)
    return write_complete(session, job, after, display)


def write_complete(session: Session, job: BatchJob, after: AfterRun, display: Display) -> int:
    """Write what is asked for of a job that has all its results; returns the exit code."""
    assert job.checkpoint_file is not None
    display.note(f"Job {job.job_id} is complete: {job.completed:,} done, {job.failed:,} failed.")
    if after.export.stream:
        stream = output.JsonlOutput(after.export.stream, job.checkpoint_file, new=False)
        try:
            stream.catch_up()
        finally:
            stream.close()
    if after.wanted:
        target, _ = output.write(job, after.export, session.workspace.outputs)
        if target != output.STDOUT:
            display.note(f"Wrote {target}")
    if after.export.merge:
        output.merge(job, after.export)
        display.note(f"Wrote {after.export.merge}")
    if not (after.wanted or after.export.merge or after.export.stream):
        display.note(f"Results: {session.command('show', job)}")
    if job.failed:
        display.note(f"Try the failed ones again with: {session.command('resume', job, ['--retry-failed'])}")
    return Exit.SOME_FAILED if job.failed else Exit.DONE
