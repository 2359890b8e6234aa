"""A job while it runs, and how it ended: ours, or one that another process runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import ModalScreen

from ai_router import detaching, jobs
from ai_router.kinds import counted, kind_of
from ai_router.kinds.base import PROMPTS, SCORE, JobKind
from ai_router.models import ModelSpec
from ai_router.tui.actions import bind
from ai_router.tui.jobs.changed import ask_for_change
from ai_router.tui.run.at_once import AtOnce
from ai_router.tui.run.away import AWAY, AwayActions, AwayPanel
from ai_router.tui.run.cluster import ClusterPanel
from ai_router.tui.run.in_flight import ErrorsPanel, InFlightPanel, RecentPanel
from ai_router.tui.run.lanes import LanesPanel
from ai_router.tui.run.leave import StopDialog
from ai_router.tui.run.progress import ProgressPanel
from ai_router.tui.run.sparkline import SpeedPanel
from ai_router.tui.run.summary import JobDetails, SummaryPanel, load_details, model_line
from ai_router.tui.widgets.backdrop import BackContainer
from ai_router.tui.widgets.text import plural
from batch.errors import BatchError
from batch.running.progress import RunState, Snapshot
from batch.running.run import Run, RunHandle

FRAMES_PER_SECOND = 6
FAST = 1000  # items a second of a run in this process from which on frames are rationed
SHARE = 0.01  # of a processor core for the screen, then: what it takes, the run does not have
IDLE_SECONDS = 1.0  # between two looks at a job that nobody runs


class RunScreen(AwayActions):
    """Progress, speed, what is in flight, the last results and errors of one job, pulled from its handle's snapshot."""

    CSS_PATH = "screen.tcss"
    AUTO_FOCUS = ""
    VERTICAL_BREAKPOINTS = [(0, "-tiny"), (20, "-short"), (32, "-tall")]  # noqa: RUF012 - as the base has it
    BINDINGS: ClassVar[list[BindingType]] = bind(
        "run.pause",
        "run.unpause",
        "run.collect",
        "run.resume",
        "run.stop",
        "run.more",
        "run.fewer",
        "run.results",
        "run.score",
        "run.retry",
        "run.export",
        "run.failures",
        "run.background",
        "run.look",
        "run.end_batches",
    )

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = self.watched = path
        self.handle: RunHandle | None = None
        self.snapshot: Snapshot | None = None
        self.details: JobDetails | None = None  # of an ended job, from its checkpoint
        self.busy = ""  # what is being done to the job just now, for the title
        self._at_once = AtOnce(partial(self.notify, timeout=2, markup=False))
        self._pause = 0.0  # seconds until the next frame, at least
        self._spent = time.thread_time()
        self._looked = 0.0
        self._details_for: object = None
        self._kind: JobKind = PROMPTS
        self._unit = ""  # what is counted, where it is no prompt
        self._items: Snapshot | None = None  # the moment shown, counted in items

    def compose_body(self) -> ComposeResult:
        """Top to bottom: progress, speed beside what is in flight, errors, results."""
        yield ProgressPanel(id="progress")
        with BackContainer(id="middle"):
            yield SpeedPanel(id="speed")
            yield InFlightPanel(id="in-flight")
            yield SummaryPanel(id="summary")
            yield AwayPanel(id="away")
        yield ClusterPanel(id="cluster")
        yield LanesPanel(id="lanes")
        yield ErrorsPanel(id="errors")
        yield RecentPanel(id="recent")

    def on_mount(self) -> None:
        """Find the run and begin to look at it."""
        self.set_interval(1 / FRAMES_PER_SECOND, self.tick)
        self.take_handle()

    def take_handle(self) -> None:
        """Hold on to the job's run, wherever it is; says why when the checkpoint cannot be read."""
        try:
            self.handle = self.services.handle_of(self.path)
        except (BatchError, OSError) as error:
            self.handle = None
            self.services.show_error(error, self.take_handle)
            return
        self.details, self._details_for = None, None
        job = self.handle.job
        self._kind = kind = kind_of(job.kind)
        self._unit = kind.unit
        source = Path(str(job.config.get("source", ""))).name
        self.crumbs = (kind.title, source or f"job {job.job_id}")
        self.tick(at_once=True)

    @property
    def owned(self) -> bool:
        """Whether the run lives in this process."""
        return isinstance(self.handle, Run)

    # -- looking --------------------------------------------------------------------------------------------------

    def tick(self, *, at_once: bool = False) -> None:
        """Pull a snapshot and show it; a screen that is not seen does nothing."""
        stack = self.app.screen_stack  # empty while the program ends
        seen = self.is_current or (bool(stack) and isinstance(stack[-1], ModalScreen))
        now = time.monotonic()
        if self.handle is None or not (seen or at_once):
            return
        resting = self.snapshot is not None and self.snapshot.state.over and not self.busy
        if not at_once and now - self._looked < (IDLE_SECONDS if resting else self._pause):
            return
        self._looked = now
        try:
            snapshot = self.handle.snapshot()
        except (BatchError, OSError) as error:
            self.handle = None
            self.services.show_error(error, self.take_handle)
            return
        self._at_once.look(snapshot, now)
        self.show(snapshot)
        # Of this thread alone, so it holds the drawing of the last frame and no other work.
        spent = time.thread_time()
        cost, self._spent = spent - self._spent, spent
        self._pause = min(1.0, cost / SHARE) if self.owned and snapshot.items_per_second > FAST else 0.0

    def show(self, snapshot: Snapshot) -> None:
        """Bring all panels to this moment; figures are in what the job's kind counts, results are items."""
        items = snapshot
        if self.handle is not None:
            snapshot = counted(items, self.handle.job)
        before, self.snapshot, self._items = self.snapshot, snapshot, items
        state = snapshot.state
        status = snapshot.engine_status if len(snapshot.lanes) < 2 else ""
        self.set_class(state.over, "-over")
        self.set_class(snapshot.score is not None, "-scored")
        self._ask_for_details(snapshot)
        details = self.details
        self.query_one(ProgressPanel).show(snapshot, self._status(snapshot))
        ended = details if state.over else None
        self.query_one(SpeedPanel).show(
            snapshot, (ended.p50, ended.p95) if ended and ended.answers else None, self._unit
        )
        self.query_one(InFlightPanel).show(items, status)
        self.query_one(RecentPanel).show(items, details.recent if details else ())
        cluster = self.query_one(ClusterPanel).show(snapshot.engine_about)
        self.set_class(cluster, "-cluster")
        self.set_class(cluster and not state.over, "-cluster-live")
        lanes = self.query_one(LanesPanel).show(snapshot.lanes)
        self.set_class(lanes, "-lanes")
        self.set_class(lanes and not state.over, "-lanes-live")
        # A snapshot counts the errors of its own run; the checkpoint those of all.
        errors = details.errors if details and state.over else snapshot.errors
        self.set_class(bool(errors), "-errors")
        self.query_one(ErrorsPanel).show(errors)
        self.query_one(SummaryPanel).show(snapshot, details, self._kind)
        self.show_away()
        self.context_text = self._model_line(snapshot)
        if before is None or before.state is not state or bool(before.failed) != bool(snapshot.failed):
            self.refresh_bindings()

    def _ask_for_details(self, snapshot: Snapshot) -> None:
        """Read what a snapshot does not hold: of an ended job, and of one that goes on with older results."""
        if snapshot.state.over:
            wanted: object = (snapshot.state, snapshot.processed)
        elif snapshot.processed and not snapshot.recent:
            wanted = "older"
        else:
            return
        if wanted != self._details_for:
            self._details_for = wanted
            self.in_thread(lambda: load_details(self.path), self._take_details, group="details")

    def _take_details(self, details: JobDetails) -> None:
        self.details = details
        if self._items is not None:
            self.show(self._items)

    def _status(self, snapshot: Snapshot) -> str:
        """What stands beside the state: what is being done, the engine's trouble, the other process."""
        if self.busy:
            return self.busy
        if snapshot.state.over:
            return ""
        trouble = snapshot.engine_status if len(snapshot.lanes) < 2 else ""  # lanes have lines of their own
        said = [snapshot.cost_text, "" if trouble in ("ready", "stopped", "starting") else trouble]
        if any(said):
            return " · ".join(filter(None, said))
        return f"in process {snapshot.pid}" if snapshot.pid and not self.owned else ""

    def _model_line(self, snapshot: Snapshot) -> str:
        if len(snapshot.lanes) > 1:  # the job's own model is one of several
            return plural(len(snapshot.lanes), "lane")
        spec: ModelSpec | None = None
        with suppress(BatchError):
            spec = self.services.registry.get(snapshot.model_id)
        return model_line(snapshot.model_id, spec, snapshot.engine_about)

    # -- steering -------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what makes sense in the run's state is offered."""
        snapshot = self.snapshot
        if action in ("pause", "unpause", "resume", "stop", "more", "fewer", "background", "retry", *AWAY) and (
            snapshot is None or self.busy
        ):
            return False
        if snapshot is None:
            return True
        state = snapshot.state
        running = not state.over
        allowed = {
            "pause": state in (RunState.STARTING, RunState.RUNNING),
            "unpause": state is RunState.PAUSED,
            "resume": state in (RunState.STOPPED, RunState.FAILED, RunState.WAITING),
            **dict.fromkeys(AWAY, self.is_away and (action == "look" or not running)),
            "stop": running,
            "more": running and state is not RunState.DRAINING,
            "fewer": running and state is not RunState.DRAINING,
            "background": running and self.owned,
            "retry": state.over and snapshot.failed > 0,
            "failures": snapshot.failed > 0,
            "score": SCORE in self._kind.actions,
        }
        return allowed.get(action, True)

    def _steer(self, act: Callable[[RunHandle], None]) -> None:
        """Do something to the run; a job of another process may have ended meanwhile."""
        if self.handle is None:
            return
        try:
            act(self.handle)
        except (BatchError, OSError) as error:
            self.services.show_error(error)
        self.tick(at_once=True)

    def action_pause(self) -> None:
        """Give out no further prompts."""
        self._steer(lambda handle: handle.pause())

    def action_unpause(self) -> None:
        """Go on after a pause."""
        self._steer(lambda handle: handle.resume())

    def action_stop(self) -> None:
        """Ask how, then stop."""
        assert self.snapshot is not None
        draining = self.snapshot.state is RunState.DRAINING
        flying, away = self.snapshot.in_flight, self.snapshot.with_provider
        self.app.push_screen(StopDialog(flying, draining=draining, unit=self._unit, away=away), self._stop)

    def _stop(self, choice: str | None) -> None:
        if choice == "drain":
            self._steer(lambda handle: handle.stop("drain"))
        elif choice == "now":
            self._steer(lambda handle: handle.stop("now"))

    def action_more(self) -> None:
        """One more at once; in bigger steps where there are many."""
        self._change_concurrency(1)

    def action_fewer(self) -> None:
        """One fewer at once."""
        self._change_concurrency(-1)

    def _change_concurrency(self, sign: int) -> None:
        assert self.snapshot is not None
        wanted = self._at_once.ask(sign, self.snapshot, time.monotonic())
        if wanted is not None:
            self._steer(lambda handle: handle.set_concurrency(wanted))

    def action_resume(self) -> None:
        """Run what is missing, here."""
        self._start_again(retry_failed=False)

    def action_collect(self) -> None:
        """Take the answers that are there, and stay no longer."""
        self._start_again(retry_failed=False, wait=False)

    def action_retry(self) -> None:
        """Run the failed prompts again, and what is missing."""
        self._start_again(retry_failed=True)

    def _start_again(self, *, retry_failed: bool, allow_change: bool = False, wait: bool = True) -> None:
        self.busy = "opening…"
        how = {"retry_failed": retry_failed, "wait": wait}

        def work() -> None:
            job = jobs.open_job(self.services.workspace, str(self.path))
            self.services.start_run(job, jobs.plan_of(job), allow_change=allow_change, **how)

        def failed(error: BaseException) -> None:
            if isinstance(error, jobs.ChangedModelError):
                again = partial(self._start_again, allow_change=True, **how)
                ask_for_change(self.app, error, again)
            else:
                self.services.show_error(error)

        self._do(work, failed)

    def action_background(self) -> None:
        """Stop here, and go on in a process of its own."""
        run = self.handle
        if not isinstance(run, Run):
            return
        concurrency, paused = run.concurrency, False
        if self.snapshot is not None:
            paused = self.snapshot.state is RunState.PAUSED
        self.busy = "moving to the background…"
        self.services.turns.moved(run)

        def work() -> None:
            run.stop("now")
            run.wait()
            self.services.runs.pop(run.job.job_id, None)
            if run.job.processed >= run.job.total_prompts:
                return
            detaching.detach(self.services.workspace, run.job)
            handle = self.services.handle_of(self.path)
            with suppress(BatchError):  # it may be through already
                if concurrency is not None and concurrency != run.options.workers:
                    handle.set_concurrency(concurrency)
                if paused:
                    handle.pause()

        self._do(work)

    def _do(self, work: Callable[[], None], failed: Callable[[BaseException], None] | None = None) -> None:
        """Something slow with the job, in a thread; afterwards the handle is taken anew, however it went."""

        def guarded() -> BaseException | None:
            try:
                work()
            except (BatchError, OSError) as error:
                return error
            return None

        def done(error: BaseException | None) -> None:
            self.busy = ""
            self.take_handle()
            self.refresh_bindings()
            if error is not None:
                (failed or self.services.show_error)(error)

        self.tick(at_once=True)
        self.refresh_bindings()
        self.in_thread(guarded, done, group="job")

    # -- elsewhere ------------------------------------------------------------------------------------------------

    def action_results(self) -> None:
        """All results."""
        self.services.open_results(self.path)

    def action_score(self) -> None:
        """How many answers are right so far."""
        self.services.go("evaluation", self.path)

    def action_failures(self) -> None:
        """The results that failed."""
        self.services.go("failures", self.path)

    def action_export(self) -> None:
        """Ask for a format and a file; a job that makes files of its own writes these."""
        self.services.turns.export(self.path)

    def action_back(self) -> None:
        """Leave; a job of this process goes on while other screens are shown."""
        if self.owned and self.snapshot is not None and not self.snapshot.state.over and not self.busy:
            self.services.notify("It goes on; ^b comes back to it", timeout=3)
        super().action_back()

    @on(events.Click, "RecentPanel")
    def _open_clicked_results(self) -> None:
        self.action_results()

    @on(events.Click, "ErrorsPanel")
    def _open_clicked_failures(self) -> None:
        self.action_failures()
