"""One run of a job: feeds an engine what is missing, keeps the answers, and is steered while it goes."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, aclosing, closing, nullcontext, suppress
from itertools import islice
from typing import Any

from batch.checkpoint import CheckpointStore, JobLock, ResultWriter
from batch.checkpoint.written import ResultRow, unfit
from batch.engines.base import Engine
from batch.engines.desk import MemoryDesk
from batch.errors import BatchError, CheckpointError, ErrorClass, Failure, FatalError, Interrupted
from batch.items import Answer, BatchResponse, Request
from batch.job import BatchJob, BatchResult, JobStatus, now_iso
from batch.options import RunOptions
from batch.running.ending import Listeners, ending_of
from batch.running.feed import Feed, Given
from batch.running.handle import RunHandle, RunObserver, StopMode
from batch.running.live import Control, keep_house
from batch.running.policy import ErrorStrategy, RateLimit, RetryPolicy
from batch.running.progress import ActiveClock, InFlight, Meter, RunState, Snapshot
from batch.slo import ServiceLevel, job_levels

log = logging.getLogger(__name__)

MAX_BACKLOG = 20_000  # answers waiting for the disk before no more items are given out
SHOWN_IN_FLIGHT = 40


__all__ = ["Run", "RunHandle", "StopMode"]


class Run:
    """Answers every item of a job that has no result yet; with `retry_failed` also the failed ones.

    `engine` is an engine, or a function that makes one, which is called only where an item is left to answer.
    `execute` runs in the calling thread, `start` in one of its own. `on_progress(job, processed)` is called once a
    committed result, `on_results` once a committed group, both in the running thread; `observer` is told of all of it.
    With `close_engine` the engine is closed at the end.
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
    ) -> None:
        if job.checkpoint_file is None:
            raise CheckpointError(f"Job {job.job_id} has no checkpoint; create it with BatchProcessor.create_job")
        self.job = job
        self._given_engine = engine
        self.engine: Engine[Request, Answer] | None = None  # from the start on, where there is something to answer
        self.options = options or RunOptions()
        self.retry_failed = retry_failed
        self.strategy = ErrorStrategy.parse(self.options.on_error)
        self.error: BaseException | None = None  # what ended the run, where something did
        self._listeners = Listeners(observer, on_results, on_progress)
        self._urgent_errors = checkpoint_on_error
        self._close_engine = close_engine
        self._retry = RetryPolicy(self.options.retries)
        self._state = RunState.STARTING
        self._clock = ActiveClock()
        self._elapsed_before = job.elapsed
        self._meter = Meter(self._clock)
        limit = RateLimit(self.options.requests_per_minute, self.options.tokens_per_minute)
        self._feed = Feed(limit, self.options.workers, self._disk_is_behind, self._gave)
        self._old_failures: set[int] = set()  # failures of earlier runs that this run has yet to try again
        self._uncommitted_old = 0  # those of them whose new result is not on the disk yet
        self._failures = 0
        self._stop: StopMode | None = None
        self._stop_reason: str | None = None
        self._saved_at: float | None = None
        self._levels: tuple[ServiceLevel, ...] = ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    # -- steering, from any thread ------------------------------------------------------------------------------

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

    def wait(self, timeout: float | None = None) -> bool:
        """Until the run is over; False on timeout (seconds)."""
        return self._over.wait(timeout)

    def pause(self) -> None:
        """Give out no further items until `resume`."""
        self._call(self._set_paused, True)

    def resume(self) -> None:
        """Go on after a pause."""
        self._call(self._set_paused, False)

    def stop(self, mode: StopMode = "drain", *, reason: str | None = None) -> None:
        """`drain`: finish what is in flight. `now`: abandon it. Either way the job stays resumable.

        A `reason` is kept with the job, and says that the run has done what it was for.
        """
        if reason and not self._stop:
            self._stop_reason = reason
        self._call(self._halt, mode)

    @property
    def satisfied(self) -> bool:
        """Whether the run ended before the last item because it had done what it was for."""
        return self._state is RunState.STOPPED and self._stop_reason is not None

    def news(self) -> list[str]:
        """Lines for a log that nobody has taken yet."""
        return self._listeners.news()

    @property
    def concurrency(self) -> int | None:
        """Most items in flight; None: as many as the engine has room for."""
        return self._feed.concurrency

    def set_concurrency(self, workers: int) -> None:
        """Most items in flight from now on (at least 1)."""
        self._feed.concurrency = max(1, workers)
        self._call(self._feed.wake)

    def snapshot(self) -> Snapshot:
        """How it is going; cheap, from any thread."""
        job, meter, now = self.job, self._meter, self._clock.now()
        time_now = time.monotonic()
        state = self._shown_state()
        given = list(islice(self._feed.given.copy().items(), SHOWN_IN_FLIGHT))
        partial = self.engine.partial_texts() if given and self.engine is not None else {}
        p50, p95 = meter.latency()
        remaining = job.total_prompts - job.processed + len(self._old_failures)
        return Snapshot(
            job_id=job.job_id,
            model_id=job.model_id,
            state=state,
            total=job.total_prompts,
            completed=job.completed,
            failed=job.failed,
            in_flight=len(self._feed.given),
            retrying=self._feed.retrying,
            tokens_input=job.tokens_input,
            tokens_output=job.tokens_output,
            tokens_per_second=0.0 if state.over else meter.tokens_per_second(),
            items_per_second=meter.eta.rate(now),
            latency_p50=p50,
            latency_p95=p95,
            elapsed=self._elapsed(),
            eta=None if state.over and state is not RunState.FINISHED else meter.eta.eta(now, remaining),
            concurrency=self.concurrency or len(self._feed.given),
            saved_ago=None if self._saved_at is None else time_now - self._saved_at,
            rates=meter.rates(),
            errors=tuple(meter.errors.copy().most_common(10)),
            items=tuple(
                InFlight(i, g.request.text[:400], partial.get(i, ""), time_now - g.since, g.attempt) for i, g in given
            ),
            recent=tuple(meter.recent.copy()),
            engine_status=str(getattr(self.engine, "status", "")),
            engine_about=dict(getattr(self.engine, "about", {})),
            reason=job.reason,
            score=self._listeners.score(),
            service_levels=self._service_levels(),
        )

    def _service_levels(self) -> tuple[ServiceLevel, ...]:
        """Over the last answers while it runs, over all of the job's at the end."""
        if not self.options.slo or self._state.over:
            return self._levels
        return job_levels(self.options.slo, self._meter.performance(self.job), self._elapsed())

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
        self._done = self._store.done_map(job.total_prompts, retry_failed=self.retry_failed)
        self._old_failures = set(self._store.ids("failed")) if self.retry_failed else set()
        self._uncommitted_old = len(self._old_failures)
        if 0 in self._done:
            given = self._given_engine
            self.engine = given if isinstance(given, Engine) else given()
        job.status, job.reason, job.completed_at = JobStatus.RUNNING, None, None

    def _thread_main(self) -> None:
        try:
            self._run_loop()
        except (Exception, KeyboardInterrupt):  # kept in `error` and in the job's reason
            log.debug("run of job %s", self.job.job_id, exc_info=True)

    def _run_loop(self) -> None:
        try:
            with asyncio.Runner() as runner:
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
            await self._leave_engine()
            raise
        assert self.job.checkpoint_file is not None
        self._task = asyncio.create_task(self._consume())
        keeper = asyncio.create_task(keep_house(self.job.checkpoint_file, self._control, self))
        if not self._feed.paused:
            self._clock.start()
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
            self._take_error()
            self._clock.stop()
            await asyncio.to_thread(writer.drain)
            self._finish()
            failed = self._listeners.ended(self)
            self.error = self.error or failed
            await asyncio.to_thread(writer.close)
            if writer.failed is not None:
                self._state, self.job.reason = RunState.FAILED, str(writer.failed)
            self._levels = job_levels(self.options.slo, self._store.performance(), self._elapsed())
            await self._leave_engine()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _leave_engine(self) -> None:
        engine = self.engine or self._given_engine  # one that was given whole is closed though nothing was asked of it
        if self._close_engine and isinstance(engine, Engine):
            await engine.close()

    def _take_error(self) -> None:
        assert self._task is not None
        abandoned = len(self._feed.given)
        self._feed.given.clear()  # in nobody's hands any more
        if self._task.cancelled():
            return
        error = self._task.exception()
        if error is None and abandoned and self._stop != "now":
            error = FatalError(f"the engine ended without answering {abandoned} items")
        if error is not None:
            self.error = self.error or error

    def _finish(self) -> None:
        """Set the job's last state of this run; the writer saves it."""
        job = self.job
        unfinished = job.processed < job.total_prompts or self._uncommitted_old > 0
        if unfinished and self.error is None and not self._stop:
            self.error = FatalError(f"the engine ended with {job.total_prompts - job.processed} items unanswered")
        plural = "s" * (self._failures != 1)
        ending = ending_of(
            finished=not unfinished,
            error=self.error,
            too_many_failures=f"stopped after {self._failures} failure{plural} ({self.options.on_error})"
            * self._halted_by_errors(),
            asked=self._stop_reason or "stopped",
        )
        ending.keep(job)
        self._state = ending.state

    def _halted_by_errors(self) -> bool:
        return self.strategy.stops(self._failures)

    async def _consume(self) -> None:
        if self.engine is None:
            return
        items = self._feed.items(self._store, self._done)
        # Any: the protocol says AsyncIterator, and what cannot be closed is let go as it is.
        answers: Any = self.engine.answer(items, MemoryDesk())
        async with aclosing(answers) if hasattr(answers, "aclose") else nullcontext():
            async for response in answers:
                self._answered(response)

    def _disk_is_behind(self) -> bool:
        return self._writer.backlog >= MAX_BACKLOG

    def _gave(self) -> None:
        self._state = RunState.RUNNING
        self._meter.eta.start(self._clock.now())

    def _answered(self, response: BatchResponse[Answer]) -> None:
        if (bad := unfit(response)) is not None:
            response = BatchResponse(response.id, None, error=bad)
        given = self._feed.take_back(response.id, response.tokens_input + response.tokens_output)
        if given is None:
            return  # an id that was never given out, or a second answer: nothing may be counted twice
        error = response.error
        if error is None and (response.data is None or not response.data.text.strip()):
            error = Failure(ErrorClass.PERMANENT, "the answer is empty")
        if error is not None:
            if error.error_class is ErrorClass.FATAL:
                raise FatalError(error.message)
            delay = self._retry.delay(error, given.attempt)
            if delay is not None:
                if not self._stop:  # otherwise the next run tries again
                    self._feed.again(int(response.id), given, delay)
                return
            self._failures += 1
        self._put(response, given, error)
        if error is not None and self._halted_by_errors():
            self._halt("drain")

    def _put(self, response: BatchResponse[Answer], given: Given, error: Failure | None) -> None:
        index = int(response.id)
        old = index in self._old_failures  # failed in an earlier run, and was counted then
        self._old_failures.discard(index)
        row = ResultRow.of(response, given.request.text, error, given.attempt, replaces=old)
        self._writer.put(row, urgent=error is not None and self._urgent_errors)

    # -- commits, called by the writer's thread -------------------------------------------------------------------

    def _from_writer(self, rows: Sequence[ResultRow]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._committed, rows, self.job.processed)

    def _writer_failed(self, error: CheckpointError) -> None:
        assert self._loop is not None
        self.error = self.error or error
        self._loop.call_soon_threadsafe(self._halt, "now")

    def _committed(self, rows: Sequence[ResultRow], processed: int) -> None:
        self._saved_at = time.monotonic()
        self._uncommitted_old -= sum(row.old for row in rows)
        results = [row.result() for row in rows]
        self._meter.record(results, len(results))
        self._feed.wake()
        # A failure that is tried again counts when it has its new result.
        error = self._listeners.committed(self.job, results, processed - self._uncommitted_old)
        if error is not None:
            self.error = self.error or error
            self._halt("now")

    # -- steering, in the loop ----------------------------------------------------------------------------------

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        loop = self._loop
        if loop is None:
            function(*args)
            return
        with suppress(RuntimeError):  # closed: the run is over
            loop.call_soon_threadsafe(function, *args)

    def _set_paused(self, paused: bool) -> None:
        self._feed.paused = paused
        if paused:
            self._clock.stop()
        elif self._loop is not None:
            self._clock.start()
        self._feed.wake()

    def _halt(self, mode: StopMode) -> None:
        if mode == "drain" and self._state is RunState.STARTING:
            mode = "now"  # nothing is in flight, and no engine need load for that
        if self._stop != "now":
            self._stop = mode
        self._feed.stopped = True
        self._feed.wake()
        if mode == "now" and self._task is not None:
            self._task.cancel()

    def _shown_state(self) -> RunState:
        if self._state.over:
            return self._state
        if self._stop:
            return RunState.DRAINING
        return RunState.PAUSED if self._feed.paused else self._state

    def _elapsed(self) -> float:
        return self._elapsed_before + self._clock.now()
