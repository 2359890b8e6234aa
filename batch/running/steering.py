"""How a run is seen and steered: all that other threads may ask of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

from batch.engines.base import Engine, begun_of, lanes_of
from batch.items import Answer, Request
from batch.job import BatchJob
from batch.options import RunOptions
from batch.running.answering import Answering
from batch.running.ending import Listeners
from batch.running.feed import Feed
from batch.running.handle import StopMode
from batch.running.progress import ActiveClock, InFlight, Meter, RunState, Snapshot
from batch.slo import ServiceLevel, job_levels

SHOWN_IN_FLIGHT = 40


class Steering:
    """The part of a `Run` that pauses, goes on, stops, and says how it is going; from any thread."""

    job: BatchJob
    engine: Engine[Request, Answer] | None  # from the start on, where there is something to answer
    options: RunOptions
    error: BaseException | None  # what ended the run, where something did
    _answering: Answering
    _listeners: Listeners

    def __init__(self, feed: Feed, clock: ActiveClock, meter: Meter) -> None:
        self._feed, self._clock, self._meter = feed, clock, meter
        self._state = RunState.STARTING
        self._stop: StopMode | None = None
        self._stop_reason: str | None = None
        self._elapsed_before = 0.0
        self._load_clock = ActiveClock()  # until the engine takes its first item, from when on the other one runs
        self._levels: tuple[ServiceLevel, ...] = ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = threading.Event()

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
        job, meter, feed, now = self.job, self._meter, self._feed, self._clock.now()
        engine = self.engine
        time_now = time.monotonic()
        state = self._shown_state()
        begun, there = begun_of(engine), feed.given.copy().items()
        given = list(islice((pair for pair in there if begun is None or pair[0] in begun), SHOWN_IN_FLIGHT))
        partial = engine.partial_texts() if given and engine is not None else {}
        lanes = lanes_of(engine) or ()
        in_flight = max(0, feed.in_hand - sum(lane.waiting for lane in lanes))  # the rest waits in them
        p50, p95 = meter.latency()
        saved_at = self._answering.saved_at
        remaining = job.total_prompts - job.processed + len(self._answering.old_failures)
        return Snapshot(
            job_id=job.job_id,
            model_id=job.model_id,
            state=state,
            total=job.total_prompts,
            completed=job.completed,
            failed=job.failed,
            in_flight=in_flight,
            retrying=feed.retrying,
            tokens_input=job.tokens_input,
            tokens_output=job.tokens_output,
            tokens_per_second=0.0 if state.over else meter.tokens_per_second(),
            items_per_second=meter.eta.rate(now),
            latency_p50=p50,
            latency_p95=p95,
            elapsed=self._elapsed(),
            loading=self._load_clock.now(),
            eta=None if state.over and state is not RunState.FINISHED else meter.eta.eta(now, remaining),
            concurrency=self.concurrency or in_flight,
            limit=self.concurrency,
            saved_ago=None if saved_at is None else time_now - saved_at,
            rates=meter.rates(),
            errors=tuple(meter.errors.most_common(10)),
            items=tuple(
                InFlight(i, (g.text or "")[:400], partial.get(i, ""), time_now - g.since, g.attempt) for i, g in given
            ),
            recent=tuple(meter.recent.copy()),
            engine_status="" if engine is None else engine.status,
            engine_about={} if engine is None else dict(engine.about),
            reason=job.reason,
            score=self._listeners.score(),
            service_levels=self._service_levels(),
            cost=job.cost,
            cost_unknown=job.cost_unknown,
            with_provider=feed.with_provider,
            duplicates=feed.duplicates,
            strangers=feed.strangers,
            lanes=lanes,
        )

    def _service_levels(self) -> tuple[ServiceLevel, ...]:
        """Over the last answers while it runs, over all of the job's at the end."""
        if not self.options.slo or self._state.over:
            return self._levels
        return job_levels(self.options.slo, self._meter.performance(self.job), self._elapsed())

    def _shown_state(self) -> RunState:
        if self._state.over:
            return self._state
        if self._stop:
            return RunState.DRAINING
        return RunState.PAUSED if self._feed.paused else self._state

    def _elapsed(self) -> float:
        return self._elapsed_before + self._clock.now()

    # -- in the loop --------------------------------------------------------------------------------------------

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
            self._load_clock.stop()
        elif self._loop is not None:
            (self._clock if self._state is RunState.RUNNING else self._load_clock).start()
        self._feed.wake()

    def _halt(self, mode: StopMode, error: BaseException | None = None) -> None:
        self.error = self.error or error
        if mode == "drain" and self._state is RunState.STARTING:
            mode = "now"  # nothing is in flight, and no engine need load for that
        if self._stop != "now":
            self._stop = mode
        self._feed.stopped = True
        self._feed.wake()
        if mode == "now" and self._task is not None:
            self._task.cancel()
