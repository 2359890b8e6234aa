"""`ai-router watch`: a job that another process runs, seen and steered from here."""

from __future__ import annotations

import argparse

from ai_router.cli.display import KINDS, Display, Outcome, make_display
from ai_router.cli.errors import Exit
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import narrate
from ai_router.cli.waiting import ways_on
from ai_router.kinds import counted, kind_of
from ai_router.lanes import OWN_LIMITS
from batch.checkpoint import CheckpointStore, find_job
from batch.options import RunOptions, parse_option
from batch.running.live import Watch
from batch.running.progress import RunState, Snapshot

USAGE = "JOB [options]"
DESCRIPTION = """\
Follow a job that runs in the background or elsewhere on this machine. Ctrl-C leaves; the job goes on. With --pause,
--resume, --stop or --workers the job is told so and nothing is followed.
"""
EXAMPLES = """\
examples:
  ai-router watch 1a2b3c4d
  ai-router watch 1a --pause
  ai-router watch 1a --workers 4 --resume
  ai-router watch 1a --stop now
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("job", metavar="JOB", help="id, beginning of an id, or file of a job")
    steer = parser.add_mutually_exclusive_group()
    steer.add_argument("--pause", action="store_true", help="give out no further prompts")
    steer.add_argument("--resume", action="store_true", help="go on after a pause")
    steer.add_argument(
        "--stop",
        nargs="?",
        const="drain",
        choices=("drain", "now"),
        help="drain: finish what is in flight, then stop (the default); now: abandon it. The job stays resumable",
    )
    parser.add_argument("--workers", metavar="N", help="prompts in flight at once from now on")
    parser.add_argument("--display", choices=KINDS, default="auto", help="how it is shown (default auto)")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    watch = open_watch(session, args.job)
    workers = None if args.workers is None else parse_option(RunOptions, "workers", args.workers)
    if workers is not None:
        if len(watch.snapshot().lanes) > 1:
            raise UsageError(f"--workers: {OWN_LIMITS}")
        watch.set_concurrency(workers)
        narrate(f"Job {watch.job.job_id} is told to have {workers:,} in flight.")
    if args.pause:
        watch.pause()
        narrate(f"Job {watch.job.job_id} is told to pause; go on with: {session.command('watch', watch.job)} --resume")
    elif args.resume:
        watch.resume()
        narrate(f"Job {watch.job.job_id} is told to go on.")
    elif args.stop:
        return stop(session, watch, now=args.stop == "now")
    if workers is not None or args.pause or args.resume:
        return Exit.DONE
    return _follow(session, watch, make_display(args.display))


def open_watch(session: Session, name: str) -> Watch:
    """The job of that name; one that cannot be run elsewhere, as it is an old checkpoint, is refused."""
    path = find_job(session.workspace.checkpoints, name)
    if path.suffix == ".json":
        raise UsageError(f"Job {name} is not running; go on with: ai-router resume {name}")
    return Watch(path)


def stop(session: Session, watch: Watch, *, now: bool) -> int:
    """Stop a job that another process runs, and wait until it has."""
    watch.stop("now" if now else "drain")
    job_id = watch.job.job_id
    narrate(f"Job {job_id} is told to stop" + (" now." if now else "; it finishes what is in flight."))
    watch.wait()
    snapshot = watch.snapshot()
    narrate(f"Job {job_id} {snapshot.state}: {snapshot.processed:,} of {snapshot.total:,} done.")
    if snapshot.processed < snapshot.total:
        narrate(f"Resume with: {session.command('resume', watch.job)}")
    return Exit.DONE


def _follow(session: Session, watch: Watch, display: Display) -> int:
    try:
        while True:
            display.update(counted(watch.snapshot(), watch.job))
            if watch.wait(display.interval):
                break
    except KeyboardInterrupt:
        display.alert(f"Left; job {watch.job.job_id} goes on. Stop it with: {session.command('stop', watch.job)}")
        return Exit.INTERRUPTED
    return _end(session, watch, display)


def _end(session: Session, watch: Watch, display: Display) -> int:
    snapshot = watch.snapshot()
    job, kind = watch.job, kind_of(watch.job.kind)
    finished = snapshot.state is RunState.FINISHED
    waiting = snapshot.state is RunState.WAITING
    with CheckpointStore(watch.path, "snapshot") as store:
        errors = tuple(store.error_counts(5)) if job.failed else ()
        cut = 0 if kind.unit else store.cut()
    code = exit_code_of(snapshot)
    display.end(
        Outcome(
            snapshot=counted(snapshot, job),
            exit_code=code,
            tokens_input=snapshot.tokens_input,
            tokens_output=snapshot.tokens_output,
            seconds=snapshot.elapsed,
            errors=errors,
            cut=cut,
            results=session.command("show", job),
            export=session.command("export", job, [] if kind.files else ["--format", "csv"]),
            resume=None if finished or waiting else session.command("resume", job),
            **(ways_on(session, job) if waiting else {}),
            retry=session.command("resume", job, ["--retry-failed"]) if finished and job.failed else None,
            error=snapshot.reason if code == Exit.FAILED else None,
            unit=kind.unit or None,
        )
    )
    return code


def exit_code_of(snapshot: Snapshot) -> int:
    """The exit code that the process which ran the job had, as far as its checkpoint tells."""
    if snapshot.state is RunState.FINISHED:
        return Exit.SOME_FAILED if snapshot.failed else Exit.DONE
    if snapshot.state is RunState.FAILED:
        return Exit.SOME_FAILED if (snapshot.reason or "").startswith("stopped after") else Exit.FAILED
    if snapshot.state is RunState.WAITING:
        return Exit.WAITING
    return Exit.INTERRUPTED
