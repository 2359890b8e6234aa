"""The way of a run on the command line: start, show, heed signals, write, tell how it ended."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ai_router import detaching, jobs
from ai_router.cli import metrics, output
from ai_router.cli.display import Display, Outcome
from ai_router.cli.errors import Exit, exit_code_of
from ai_router.cli.flags import as_arguments
from ai_router.cli.session import Session
from ai_router.cli.signals import Signals
from ai_router.cli.text import emit, plural
from ai_router.cli.waiting import ways_on
from ai_router.kinds import Output, counted, kind_of
from ai_router.kinds.base import SCORE
from ai_router.models.line import place_of, words_of
from batch.checkpoint import CheckpointStore
from batch.errors import BatchError, ExportError, MissingExtraError
from batch.job import BatchJob
from batch.jobfile import ExportOptions
from batch.notify import Notifier, NotifyOptions
from batch.options import options_dict
from batch.running.progress import RunState, Snapshot
from batch.running.run import Run, RunHandle

# What may hold secrets goes to a background run by its environment: everybody may read a command line.
PRIVATE = {"command": "AI_ROUTER_DETACHED_COMMAND", "webhook": "AI_ROUTER_DETACHED_WEBHOOK"}
SIGNAL_SECONDS = 0.1  # until Ctrl-C is answered


@dataclass(slots=True)
class AfterRun:
    """What is to happen with a job's answers, and who hears that it has ended."""

    export: ExportOptions = field(default_factory=ExportOptions)
    wanted: bool = False  # an export at the end was asked for
    format_given: bool = False  # by name, and not by the file's
    notify: NotifyOptions = field(default_factory=NotifyOptions)
    notify_given: dict[str, object] = field(default_factory=dict)  # of it, what stands on the command line
    retry_failed: bool = False
    metrics: str | None = None  # where Prometheus may ask how it goes

    def arguments(self) -> list[str]:
        """The flags that ask for the same again, for the command that resumes."""
        words = ["--retry-failed"] if self.retry_failed else []
        export = options_dict(self.export)
        if not self.format_given:
            export.pop("format", None)
        return words + as_arguments(ExportOptions, export)


def run_job(
    session: Session,
    job: BatchJob,
    plan: jobs.JobPlan,
    after: AfterRun,
    display: Display,
    signals: Signals,
    stream: output.JsonlOutput | None = None,
    *,
    allow_change: bool = False,
    wait: bool = True,
) -> int:
    """Run what is missing of a job to its end, or to where it is stopped; returns the exit code.

    Without `wait` it does not stay for what is with a provider.
    """
    before = (job.tokens_input, job.tokens_output, job.elapsed)
    with _quiet_threads():
        signals.hold()
        try:
            run = jobs.start(
                session.registry,
                job,
                plan,
                retry_failed=after.retry_failed,
                on_results=stream,
                allow_change=allow_change,
                wait=wait,
            )
            signals.guard(run)
            with metrics.serving(after.metrics, run.snapshot):
                follow(run, display, signals)
        finally:
            signals.release()
    if stream is not None and not isinstance(run.error, BrokenPipeError | ExportError):
        stream.catch_up()
    return _end(session, run, after, display, signals, before)


def follow(run: RunHandle, display: Display, signals: Signals) -> None:
    """Show a run until it is over."""
    told = 0
    shown_at = -display.interval
    over = noted = False
    while not over:
        if time.monotonic() - shown_at >= display.interval:
            shown_at = time.monotonic()
            snapshot = run.snapshot()
            noted = noted or _note_engine(snapshot, display)
            display.update(counted(snapshot, run.job))
        over = run.wait(SIGNAL_SECONDS)
        if isinstance(run, Run):
            for line in run.news():
                display.note(line)
        if signals.interrupts > told:
            told = signals.interrupts
            _print_interrupt(run, told, display)
    if not noted:  # it was over before there was time to
        _note_engine(run.snapshot(), display)


def _note_engine(snapshot: Snapshot, display: Display) -> bool:
    """Print the model's line, which says what runs it and by whose kernels, once that is known; whether it is."""
    about = snapshot.engine_about
    if words := words_of(about):
        display.note(" · ".join(part for part in (snapshot.model_id, place_of(about), *words) if part))
    return bool(about)


def _print_interrupt(run: RunHandle, count: int, display: Display) -> None:
    """Say what Ctrl-C has done. The handler cannot: it may come in the middle of a line."""
    flying = run.snapshot().in_flight
    if count > 1:
        display.alert("Stopping now.")
    elif flying:
        display.alert(f"Finishing the {flying} in flight and saving; Ctrl-C again stops now.")
    else:  # a model that is still being loaded would only be loaded to be left
        run.stop("now")


def _end(
    session: Session,
    run: Run,
    after: AfterRun,
    display: Display,
    signals: Signals,
    before: tuple[int, int, float],
) -> int:
    job, snapshot, error = run.job, run.snapshot(), run.error
    assert job.checkpoint_file is not None
    finished = snapshot.state is RunState.FINISHED
    code = _exit_code(run, signals)
    problem = None if error is None else _sentence(error)
    if not finished and run.out_of_budget:
        problem = problem or run.out_of_budget
    if error is not None and session.verbose:
        display.alert("".join(traceback.format_exception(error)).rstrip())
    to_stdout = after.export.path == output.STDOUT
    kind = kind_of(job.kind)
    written = Output(())
    if finished:
        try:
            written = _write(session, job, after, display)
        except BatchError as failure:
            problem = f"{failure}; the answers are safe: {session.command('export', job)}"
            code = exit_code_of(failure) if isinstance(failure, MissingExtraError) else Exit.FAILED
        if not written.whole:
            code = max(code, Exit.SOME_FAILED)
    if not error and (made := kind.written(job)).files:
        written = made
    waiting = snapshot.state is RunState.WAITING
    resume = None if finished or waiting else session.command("resume", job, after.arguments())
    with CheckpointStore(job.checkpoint_file, "snapshot") as store:
        errors = tuple(store.error_counts(5)) if job.failed else ()
        cut = 0 if kind.unit else store.cut()
    display.end(
        Outcome(
            snapshot=counted(snapshot, job),
            exit_code=code,
            tokens_input=job.tokens_input - before[0],
            tokens_output=job.tokens_output - before[1],
            seconds=max(0.0, snapshot.elapsed - before[2]),
            errors=errors,
            cut=cut,
            results=None if finished and to_stdout else session.command("show", job),
            export=session.command("export", job, [] if kind.files else ["--format", "csv"]),
            resume=resume,
            **(ways_on(session, job, after.arguments()) if waiting else {}),
            retry=session.command("resume", job, ["--retry-failed"]) if finished and job.failed else None,
            error=problem,
            output=" and ".join(map(str, written.files)) or None,
            unit=kind.unit or None,
            evaluate=session.command("evaluate", job) if SCORE in kind.actions and job.completed else None,
        )
    )
    for line in written.lines:
        display.note(line)
    about = snapshot.engine_about
    for words in about.get("notes", ())[1:] if "place" in about else ():
        display.note(f"The server: {words}")
    if reused := about.get("answers used again"):
        display.note(f"Answered again without asking: {plural(int(reused), 'equal prompt')} (--reuse off asks each)")
    if finished and after.wanted and to_stdout:
        output.write(job, after.export, session.workspace.outputs)
    if signals.exit_code is None and not waiting and (snapshot.state is not RunState.STOPPED or run.satisfied):
        _notify(job, after.notify, display)
    return code


def _write(session: Session, job: BatchJob, after: AfterRun, display: Display) -> Output:
    """Write what is wanted at the end: the files that jobs of this kind make, else the export that was asked for."""
    kind, outputs = kind_of(job.kind), session.workspace.outputs
    if kind.files:
        if not job.completed:
            return Output((), lacking=f"no {kind.item} was answered")
        written = kind.write(
            job, outputs, lambda done: display.busy(f"Writing… {plural(done, kind.unit or kind.item)}")
        )
        display.busy("")
        return written
    files = []
    if after.export.merge is not None:
        output.merge(job, after.export)
        files.append(Path(after.export.merge))
    if after.wanted and after.export.path != output.STDOUT:
        files.append(Path(output.write(job, after.export, outputs)[0]))
    return Output(tuple(files))


def _exit_code(run: Run, signals: Signals) -> int:
    state = run.snapshot().state
    if state is RunState.FINISHED and run.error is None:
        return Exit.SOME_FAILED if run.job.failed else Exit.DONE
    if signals.exit_code is not None:
        return signals.exit_code
    if state is RunState.WAITING and run.error is None:
        return Exit.WAITING
    if run.out_of_budget and run.error is None:
        return Exit.SOME_FAILED
    if run.satisfied and run.error is None:
        return Exit.SOME_FAILED if run.job.failed else Exit.DONE
    if run.error is not None:
        return exit_code_of(run.error)
    return Exit.SOME_FAILED if state is RunState.FAILED else Exit.INTERRUPTED


def _sentence(error: BaseException) -> str:
    if isinstance(error, BrokenPipeError):
        return "whoever read the output is gone"
    text = " ".join(str(error).split())
    if isinstance(error, BatchError):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text} (-v shows where)"


def _notify(job: BatchJob, options: NotifyOptions, display: Display) -> None:
    notifier = Notifier(options)
    notifier.notify(job)
    for problem in notifier.wait(options.timeout + 1):
        display.note(f"Warning: {problem}")


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """An error that ends the run's thread is told once, by whoever waits for it, and not by the interpreter."""
    before = threading.excepthook
    threading.excepthook = lambda args: None
    try:
        yield
    finally:
        threading.excepthook = before


def detach(
    session: Session,
    job: BatchJob,
    after: AfterRun,
    display: Display,
    changes: Sequence[str] = (),
    *,
    verb: str = "resume",
) -> int:
    """Go on in the background; `changes` are flags that change the job's options. The job's id is data."""
    open_said = {name: value for name, value in after.notify_given.items() if name not in PRIVATE}
    watched = [f"--metrics={after.metrics}"] if after.metrics else []
    arguments = [*after.arguments(), *watched, *as_arguments(NotifyOptions, open_said), *changes]
    private = {PRIVATE[name]: str(value) for name, value in after.notify_given.items() if name in PRIVATE and value}
    pid = detaching.detach(session.workspace, job, arguments, private, verb=verb)
    assert job.checkpoint_file is not None
    log = detaching.log_path(job.checkpoint_file)
    display.note(f"Job {job.job_id} goes on in the background as process {pid}; log: {log}")
    display.note(f"Follow it with: {session.command('watch', job)}")
    display.note(f"Stop it with: {session.command('stop', job)}")
    emit(session.job_name(job.checkpoint_file, job.job_id))
    return Exit.DONE
