"""One run of a job, from its lock to its last commit: feeds an engine what is missing and keeps the answers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

from batch.checkpoint import CheckpointStore, JobLock, ResultWriter
from batch.checkpoint.written import ResultRow
from batch.engines.base import Engine, closing_answers, lanes_of, says
from batch.errors import BatchError, CheckpointError, EngineError, FatalError, Interrupted
from batch.items import Answer, Request
from batch.job import BatchJob, BatchResult, JobStatus, now_iso
from batch.options import RunOptions
from batch.running.answering import Answering
from batch.running.budget import Budget
from batch.running.desk import StoreDesk
from batch.running.ending import TRIED, Listeners, ending_of
from batch.running.feed import PENDING, WITH_PROVIDER, Feed
from batch.running.handle import RunHandle, RunObserver, StopMode
from batch.running.live import Control, keep_house
from batch.running.policy import ErrorStrategy, RateLimit, RetryPolicy
from batch.running.progress import ActiveClock, Meter, RunState
from batch.running.steering import Steering
from batch.slo import job_levels

log = logging.getLogger(__name__)

MAX_BACKLOG = 20_000  # answers waiting for the disk before no more items are given out
GULP = 256  # answers after which it is looked at, and the event loop gets a turn
DISK_SECONDS = 0.02  # until more answers are taken then

__all__ = ["Run", "RunHandle", "StopMode"]


class Run(Steering):
    """Answers every item of a job that has no result yet; with `retry_failed` also the failed ones.

    `engine` is an engine, or a function that makes one, which is called only where an item is left to answer.
    `execute` runs in the calling thread, `start` in one of its own. `on_progress(job, processed)` is called once a
    committed result, `on_results` once a committed group, both in the running thread; `observer` is told of all of it.
    With `close_engine` the engine is closed at the end. Without `wait_for_providers` the run ends once all that is left
    is with a provider, and so does one that is stopped then: it is WAITING, which is no failure, and a later run takes
    the answers. With `first` no more items than that are given out, with `at_random` any of them. `retry` may be set
    before the start.
    """

    def __init__(
        self,
        job: BatchJob,
        engine: Engine[Request, Answer] | Callable[[], Engine[Request, Answer]],
        options: RunOptions | None = None,
        *,
        retry_failed: bool = False,
        on_progress: Callable[[BatchJob, int], None] | None = None,
        on_results: Callable[[Sequence[BatchResult]], None] | None = None,
        observer: RunObserver | None = None,
        checkpoint_on_error: bool = True,
        close_engine: bool = True,
        wait_for_providers: bool = True,
        first: int | None = None,
        at_random: bool = False,
    ) -> None:
        if job.checkpoint_file is None:
            raise CheckpointError(f"Job {job.job_id} has no checkpoint; create it with BatchProcessor.create_job")
        self.job = job
        self.options = options or RunOptions()
        self.retry_failed = retry_failed
        self.engine = None
        self.error = None
        self._given_engine = engine
        self._close_engine = close_engine
        limit = RateLimit(self.options.requests_per_minute, self.options.tokens_per_minute)
        clock = ActiveClock()
        self._budget = Budget(self.options.budget)
        feed = Feed(
            limit,
            self.options.workers,
            self._disk_is_behind,
            self._begun,
            self._awaits,
            self._budget,
            lambda: self._halt("drain"),
            first,
            self._tried,
            at_random,
        )
        super().__init__(feed, clock, Meter(clock))
        self._desk: StoreDesk | None = None
        self._waits = wait_for_providers
        self._first = first
        self._elapsed_before = job.elapsed
        self._listeners = Listeners(observer, on_results, on_progress)
        self._answering = Answering(
            job,
            self._feed,
            self._meter,
            self._listeners,
            RetryPolicy(self.options.retries),
            ErrorStrategy.parse(self.options.on_error),
            urgent_errors=checkpoint_on_error,
            budget=self._budget,
            halt=self._halt,
        )
        self._thread: threading.Thread | None = None

    @property
    def out_of_budget(self) -> str:
        """Why nothing more may be spent, as a sentence; "" where there is no budget, or there is some left."""
        return self._budget.over

    @property
    def retry(self) -> RetryPolicy:
        """How transient failures are tried again."""
        return self._answering.retry

    @retry.setter
    def retry(self, policy: RetryPolicy) -> None:
        self._answering.retry = policy

    def start(self) -> Run:
        """Run in a thread of its own; raises at once when the job cannot be locked or read."""
        self._open()
        self._thread = threading.Thread(target=self._thread_main, name=f"run-{self.job.job_id}", daemon=True)
        self._thread.start()
        return self

    def execute(self) -> None:
        """Run in this thread until the end. Ctrl-C saves, leaves the job resumable and goes on up."""
        self._open()
        self._run_loop()
        if isinstance(self.error, Interrupted):
            raise KeyboardInterrupt

    # -- the running thread -------------------------------------------------------------------------------------

    def _open(self) -> None:
        path = self.job.checkpoint_file
        assert path is not None
        lock = JobLock(path)
        lock.acquire()
        with ExitStack() as held:
            held.callback(lock.release)
            # First of all, so that a command sent from the moment on when the job counts as running is heard.
            self._control = held.enter_context(closing(Control(path)))
            self._store = held.enter_context(CheckpointStore(path))
            self._refresh_job()
            self._listeners.opened(self)
            self._held = held.pop_all()

    def _refresh_job(self) -> None:
        """Take the counts from the store: they are the truth, whoever else wrote meanwhile."""
        stored, job = self._store.job(recount=True), self.job
        job.total_prompts, job.completed, job.failed = stored.total_prompts, stored.completed, stored.failed
        job.tokens_input, job.tokens_output = stored.tokens_input, stored.tokens_output
        job.cost, job.cost_unknown, job.with_provider = stored.cost, stored.cost_unknown, stored.with_provider
        job.elapsed = self._elapsed_before = stored.elapsed
        job.started_at = stored.started_at or now_iso()
        places = self._store.done_map(job.total_prompts, retry_failed=self.retry_failed)
        self._feed.open(self._store, places)
        self._answering.open(set(self._store.ids("failed")) if self.retry_failed else set())
        if PENDING in places or WITH_PROVIDER in places:
            self.engine = _engine(self._given_engine)
            self._budget.open(job.cost, getattr(self.engine, "most_cost", None))
            if lanes_of(self.engine) is not None:  # which have their own
                self._feed.lift_limits()
                self.retry = RetryPolicy(0)
            elif says(self.engine, "takes_all"):  # whose requests go together, thousands at a time
                self._feed.lift_limits()
        job.status, job.reason, job.completed_at = JobStatus.RUNNING, None, None

    def _thread_main(self) -> None:
        try:
            self._run_loop()
        except (Exception, KeyboardInterrupt):  # kept in `error` and in the job's reason
            log.debug("run of job %s", self.job.job_id, exc_info=True)

    def _run_loop(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_fast_loop() if says(self.engine, "many_sockets") else None) as runner:
                runner.run(self._main())
        except (Exception, KeyboardInterrupt) as error:
            self.error = self.error or error
            if not isinstance(error, BatchError):
                raise
        finally:
            if not self._state.over:  # it could not even begin
                self._state, self.job.reason = RunState.FAILED, str(self.error)
            self._held.close()
            self._over.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            writer = self._writer = ResultWriter(self.job, self._from_writer, self._writer_failed, self._elapsed)
        except CheckpointError:
            await self._release_engine()
            raise
        assert self.job.checkpoint_file is not None
        self._answering.begin(writer)
        self._desk = StoreDesk(
            self._store,
            writer,
            self._feed,
            self._answering,
            waits=self._waits,
            stopping=lambda: self._stop is not None,
            begun=self._begun,
        )
        if not self._feed.paused:
            self._load_clock.start()
        self._task = asyncio.create_task(self._consume())
        keeper = asyncio.create_task(keep_house(self.job.checkpoint_file, self._control, self))
        if self._stop == "now":  # asked for before there was a loop
            self._task.cancel()
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:  # Ctrl-C in this thread
            self.error = self.error or Interrupted("interrupted")
            self._task.cancel()
            await asyncio.wait([self._task])
            raise
        finally:
            keeper.cancel()
            await self._desk.drain()
            self._take_error()
            self._clock.stop()
            self._load_clock.stop()
            await asyncio.to_thread(writer.drain)
            self._finish()
            failed = self._listeners.ended(self)
            self.error = self.error or failed
            await asyncio.to_thread(writer.close)
            if writer.failed is not None:
                self._state, self.job.reason = RunState.FAILED, str(writer.failed)
            if self.options.slo:  # all durations are looked at
                self._levels = job_levels(self.options.slo, self._store.performance(), self._elapsed())
            await self._release_engine()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _release_engine(self) -> None:
        engine = self.engine or self._given_engine  # one that was given whole is closed though nothing was asked of it
        if self._close_engine and isinstance(engine, Engine):
            await engine.close()

    def _take_error(self) -> None:
        assert self._task is not None
        abandoned, self._feed.in_hand = self._feed.in_hand, 0
        self._feed.given.clear()  # in nobody's hands any more
        if self._task.cancelled():
            return
        error = self._task.exception()
        if error is None and abandoned and not self._stop and not (self._holds_back and self._feed.with_provider):
            error = FatalError(f"the engine ended without answering {abandoned} items")
        if error is not None:
            self.error = self.error or error

    def _finish(self) -> None:
        """Set the job's last state of this run; the writer saves it."""
        job, failures = self.job, self._answering.failures
        unfinished = job.processed < job.total_prompts or self._answering.uncommitted_old > 0
        # What a provider has no room for yet is handed over by a later run.
        later = self._holds_back
        away = self._feed.with_provider if unfinished and (not self._feed.left or later) else 0
        if unfinished and self.error is None and not self._stop and not away:
            self.error = FatalError(f"the engine ended with {job.total_prompts - job.processed} items unanswered")
        plural = "s" * (failures != 1)
        ending = ending_of(
            finished=not unfinished,
            waiting=f"{away:,} item{'s' * (away != 1)} with a provider" * (away > 0),
            error=self.error,
            too_many_failures=f"stopped after {failures} failure{plural} ({self.options.on_error})"
            * self._answering.enough_failures,
            asked=self._budget.over or self._stop_reason or "stopped",
        )
        ending.keep(job)
        job.with_provider = self._feed.with_provider
        self._state = ending.state

    @property
    def _holds_back(self) -> bool:
        """Whether the engine has ended with items that it is to hand over later."""
        return says(self.engine, "holds_back")

    async def _consume(self) -> None:
        if self.engine is None:
            return
        assert self._desk is not None
        async with closing_answers(self.engine.answer(self._feed.items(), self._desk)) as answers:
            count = 0
            async for response in answers:
                self._answering.answered(response)
                count += 1
                if count % GULP == 0:  # answers may come as a file of very many, faster than they can be kept
                    await asyncio.sleep(DISK_SECONDS if self._disk_is_behind() else 0)

    def _disk_is_behind(self) -> bool:
        return self._writer.backlog >= MAX_BACKLOG

    def _awaits(self) -> bool:
        return self._desk is not None and self._desk.awaits

    def _begun(self) -> None:
        if self._state is RunState.RUNNING:
            return
        self._state = RunState.RUNNING
        self._load_clock.stop()
        if not self._feed.paused:
            self._clock.start()
        self._meter.eta.start(self._clock.now())

    def _tried(self) -> None:
        """As many were given out as were to be tried."""
        self._stop_reason = self._stop_reason or f"{TRIED}{self._first:,}"
        self._halt("drain")

    # -- commits, called by the writer's thread -------------------------------------------------------------------

    def _from_writer(self, rows: Sequence[ResultRow]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._answering.committed, rows, self.job.processed)

    def _writer_failed(self, error: CheckpointError) -> None:
        assert self._loop is not None
        self.error = self.error or error
        self._loop.call_soon_threadsafe(self._halt, "now")


def _engine(given: Engine[Request, Answer] | Callable[[], Engine[Request, Answer]]) -> Engine[Request, Answer]:
    """The engine that was given, or that the function makes."""
    made = given if hasattr(given, "answer") else given()
    if not isinstance(made, Engine):
        lacking = [
            name for name in ("name", "status", "about", "answer", "partial_texts", "close") if not hasattr(made, name)
        ]
        raise EngineError(f"{type(made).__name__} is no engine: it has no {', '.join(lacking)}")
    return made


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop, which spends less on each socket, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
