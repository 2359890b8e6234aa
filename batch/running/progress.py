"""How a run is going: an immutable snapshot, and an ETA that does not lie."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from batch.alike import Alike
from batch.checkpoint.written import ResultRow, fields_of
from batch.engines.lane import LaneSnapshot
from batch.items import ItemId
from batch.job import BatchJob, BatchResult
from batch.prices import dollars
from batch.slo import ServiceLevel

BAR_WIDTH = 30
RECENT = 50  # results that are kept to be shown

_success, _duration = map(fields_of, ("success", "duration"))
_tokens_input, _tokens_output = map(fields_of, ("tokens_input", "tokens_output"))


class RunState(StrEnum):
    """What a run is doing."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"  # nothing new is given out, what is in flight is finished
    STOPPED = "stopped"  # ended before the last item; resumable
    FINISHED = "finished"  # every item has a result
    FAILED = "failed"  # ended by the error strategy or a fatal error; resumable
    WAITING = "waiting"  # ended, and every item without a result is with a provider; no failure

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self in (RunState.STOPPED, RunState.FINISHED, RunState.FAILED, RunState.WAITING)


@dataclass(frozen=True, slots=True)
class InFlight:
    """An item being answered: its text, the answer so far, seconds since it was given out."""

    id: ItemId
    text: str
    partial: str
    seconds: float
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Score:
    """How well answers match those that are known: a share of `n` and its 95 % interval, all 0 to 1."""

    name: str
    value: float
    low: float
    high: float
    n: int

    @property
    def text(self) -> str:
        """`exact match 87.3 % (81.2–91.9, n=120)`."""
        if not self.n:
            return f"{self.name} — (n=0)"
        value, low, high = (f"{part * 100:.1f}" for part in (self.value, self.low, self.high))
        return f"{self.name} {value} % ({low}–{high}, n={self.n:,})"

    @classmethod
    def of(cls, data: object) -> Score | None:
        """The score of a JSON object, None where it holds none."""
        try:
            return cls(**data) if isinstance(data, dict) else None
        except TypeError:
            return None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment. Times are seconds; `completed` and `failed` count what is committed."""

    job_id: str
    model_id: str
    state: RunState
    total: int
    completed: int
    failed: int
    in_flight: int = 0
    retrying: int = 0  # waiting for another try
    tokens_input: int = 0
    tokens_output: int = 0
    tokens_per_second: float = 0.0  # output tokens, lately
    items_per_second: float = 0.0
    latency_p50: float | None = None
    latency_p95: float | None = None
    elapsed: float = 0.0  # over all resumes, from the moment when the engine took its first item
    loading: float = 0.0  # before that moment, in this run: a local engine loads its model then
    eta: float | None = None
    concurrency: int = 0  # the limit, and without one what is in flight
    limit: int | None = None  # most in flight, where somebody set it; None: as many as the engine has room for
    saved_ago: float | None = None  # since the last commit
    rates: tuple[float, ...] = ()  # tokens/s (items/s where there are no tokens), one a second, oldest first
    errors: tuple[tuple[str, int], ...] = ()  # failure messages of this run by count, most first
    items: tuple[InFlight, ...] = ()  # the oldest in flight
    recent: tuple[BatchResult, ...] = ()  # the last committed, newest first
    engine_status: str = ""
    engine_about: Mapping[str, Any] = field(default_factory=dict)  # device, precision, …; JSON
    reason: str | None = None  # why it stopped
    service_levels: tuple[ServiceLevel, ...] = ()  # over the last answers while it runs, over the whole job afterwards
    pid: int | None = None  # the process that runs it
    score: Score | None = None  # of a job whose answers are known
    cost: int = 0  # billionths of a dollar, of what is known of it; over all resumes
    cost_unknown: int = 0  # answers whose cost is not known
    with_provider: int = 0  # items that were handed over, and whose answers come when they come
    duplicates: int = 0  # second answers to an item, which count for nothing
    strangers: int = 0  # answers to items that nobody was asked for, likewise
    lanes: tuple[LaneSnapshot, ...] = ()  # of a job that spans models

    @property
    def processed(self) -> int:
        """Items with a result, good or bad."""
        return self.completed + self.failed

    @property
    def cost_projected(self) -> int | None:
        """What all of it will have cost if the rest costs as what is done; None where that is not known."""
        if not self.processed or self.cost_unknown:
            return None
        return round(self.cost * self.total / self.processed)

    @property
    def cost_text(self) -> str:
        """`$0.42 of about $1.20`, `$0.42`, `cost unknown`; nothing where all is free."""
        if self.cost_unknown and self.cost:
            return f"{dollars(self.cost)} and {self.cost_unknown:,} of unknown cost"
        if self.cost_unknown and "place" in self.engine_about:  # a server's, and not of a time before costs were kept
            return "cost unknown"
        if not self.cost:
            return ""
        projected = self.cost_projected
        if self.state.over or projected is None or self.processed >= self.total:
            return dollars(self.cost)
        return f"{dollars(self.cost)} of about {dollars(projected)}"

    @property
    def fraction(self) -> float:
        """Processed share, 0–1."""
        return self.processed / self.total if self.total else 0.0


def format_duration(seconds: float | None) -> str:
    """`—`, `2m 15s`, from an hour on `3h 05m`, from a day on `2d 04h`."""
    if seconds is None or not math.isfinite(seconds):
        return "—"
    whole = max(0, round(seconds))
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def progress_line(processed: int, total: int, eta: float | None) -> str:
    """The plain progress line, ASCII up to the ETA: `Progress: [====----] 66.7% (4/6) | ETA: 2m 15s`."""
    filled = BAR_WIDTH * processed // total if total else BAR_WIDTH
    bar = "=" * filled + "-" * (BAR_WIDTH - filled)
    percent = processed / total * 100 if total else 100.0
    if processed < total:
        percent = min(percent, 99.9)  # 9,999 of 10,000 is not yet all
    return f"Progress: [{bar}] {percent:.1f}% ({processed}/{total}) | ETA: {format_duration(eta)}"


def percentile(ordered: list[float], fraction: float) -> float:
    """The nearest-rank percentile of an ascending, non-empty list."""
    return ordered[min(len(ordered) - 1, max(0, math.ceil(fraction * len(ordered)) - 1))]


class ActiveClock:
    """Seconds during which a run was running; stands still on pause."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._sum = 0.0

    def start(self) -> None:
        """Run on (no effect when running)."""
        if self._since is None:
            self._since = self._clock()

    def stop(self) -> None:
        """Stand still (no effect when standing)."""
        if self._since is not None:
            self._sum += max(0.0, self._clock() - self._since)
            self._since = None

    def now(self) -> float:
        """Active seconds so far."""
        since = self._since
        return self._sum + (max(0.0, self._clock() - since) if since is not None else 0.0)


class EtaEstimator:
    """Remaining seconds from the completions of this run alone.

    The window holds the last minute and at least the last 50 items, whichever is more, on the active clock: what was
    done before a resume and the time of a pause never count. Completions that come in chunks are measured from chunk
    to chunk, so the estimate falls steadily between two of them; once a chunk is overdue the silence counts as well.
    """

    WINDOW_SECONDS = 60.0
    WINDOW_ITEMS = 50

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()  # (active seconds, items completed in this run)
        self._groups = 0

    def start(self, now: float) -> None:
        """The moment the first item was given out."""
        if not self._points:
            self._points.append((now, 0))

    def record(self, now: float, count: int) -> None:
        """`count` more items were completed."""
        self.start(now)
        last_time, last_count = self._points[-1]
        if now - last_time < 0.1 and len(self._points) > 2:
            self._points[-1] = (last_time, last_count + count)
        else:
            self._points.append((now, last_count + count))
            self._groups += 1
        while (
            len(self._points) > 3
            and now - self._points[1][0] >= self.WINDOW_SECONDS
            and self._points[-1][1] - self._points[1][1] >= self.WINDOW_ITEMS
        ):
            self._points.popleft()

    def rate(self, now: float) -> float:
        """Items a second over the window, 0 until known."""
        if self._groups < 2:
            return 0.0
        first_time, first_count = self._points[0]
        span = now - first_time
        return (self._points[-1][1] - first_count) / span if span > 0 else 0.0

    def eta(self, now: float, remaining: int) -> float | None:
        """Seconds left, or None until two groups of completions have been seen."""
        if remaining <= 0:
            return 0.0
        if self._groups < 2:
            return None
        (first_time, first_count), (last_time, last_count) = self._points[0], self._points[-1]
        span, count = last_time - first_time, last_count - first_count
        if span <= 0 or count <= 0:
            return None
        silence = max(0.0, now - last_time)
        expected = remaining * span / count - silence
        mean_gap = span / max(1, len(self._points) - 1)
        if silence > 2 * mean_gap:
            expected = max(expected, remaining * (span + silence) / count)
        return max(0.0, expected)


class Meter:
    """Rates, latencies and errors of one run; fed by the run's thread, read from any."""

    HISTORY_SECONDS = 60

    def __init__(self, clock: ActiveClock) -> None:
        self.clock = clock
        self.eta = EtaEstimator()
        self.tokens_input = 0
        self.tokens_output = 0
        self.recent: deque[BatchResult] = deque(maxlen=RECENT)
        self.errors = Alike()
        self._durations: deque[float] = deque(maxlen=1000)
        self._history: deque[tuple[int, int, int]] = deque(maxlen=self.HISTORY_SECONDS)  # second, items, tokens

    def record(self, rows: Sequence[ResultRow], shown: Sequence[ResultRow] | None = None) -> None:
        """A committed group, and those of it that are to be shown, with their prompts; None: the last of the group."""
        now, count = self.clock.now(), len(rows)
        tokens = sum(map(_tokens_output, rows))
        self.tokens_input += sum(map(_tokens_input, rows))
        self.tokens_output += tokens
        self._durations.extend(map(_duration, rows))
        if not all(map(_success, rows)):
            for row in rows:
                if not row.success:
                    self.errors.add(error_label(row.result()))
        self.recent.extendleft(row.result() for row in (rows[-RECENT:] if shown is None else shown))
        self.eta.record(now, count)
        second = int(now)
        if self._history and self._history[-1][0] == second:
            _, items, old = self._history.pop()
            self._history.append((second, items + count, old + tokens))
        else:
            self._history.append((second, count, tokens))

    def tokens_per_second(self) -> float:
        """Output tokens a second over the last ten active seconds."""
        now = self.clock.now()
        recent = [h for h in list(self._history) if h[0] > now - 10]
        return sum(h[2] for h in recent) / max(1.0, min(10.0, now)) if recent else 0.0

    def rates(self) -> tuple[float, ...]:
        """One figure a second, oldest first; the running second is left out, as it is not whole."""
        history = {h[0]: h for h in list(self._history)}
        column = 2 if self.tokens_output else 1
        end = int(self.clock.now())
        start = max(min(history, default=end), end - self.HISTORY_SECONDS)
        return tuple(float(history[s][column]) if s in history else 0.0 for s in range(start, end))

    def performance(self, job: BatchJob) -> dict[str, Any]:
        """A job's counts with the durations of its last answers, by the names that the store gives those of all."""
        percentiles = {f"p{share}_seconds": self.latency_at(share / 100) for share in (50, 95, 99)}
        known = percentiles["p50_seconds"] is not None
        return {"answers": job.completed if known else 0, "tokens_output": job.tokens_output, **percentiles}

    def latency_at(self, fraction: float) -> float | None:
        """That percentile of the last 1,000 durations, seconds."""
        ordered = sorted(self._durations.copy())
        return percentile(ordered, fraction) if ordered else None

    def latency(self) -> tuple[float | None, float | None]:
        """p50 and p95 of the last 1,000 durations, seconds."""
        ordered = sorted(self._durations.copy())
        return (percentile(ordered, 0.5), percentile(ordered, 0.95)) if ordered else (None, None)


def error_label(result: BatchResult) -> str:
    """What failures are counted by: the class and the first line of the message, shortened."""
    message = (result.error_message or "failed").splitlines()[0] if result.error_message else "failed"
    return f"{result.error_class or 'permanent'}: {message[:80]}"


def job_snapshot(
    job: BatchJob, state: RunState, reason: str | None = None, service_levels: tuple[ServiceLevel, ...] = ()
) -> Snapshot:
    """A job that is not running, as a snapshot."""
    return Snapshot(
        job_id=job.job_id,
        model_id=job.model_id,
        state=state,
        total=job.total_prompts,
        with_provider=job.with_provider,
        completed=job.completed,
        failed=job.failed,
        tokens_input=job.tokens_input,
        tokens_output=job.tokens_output,
        cost=job.cost,
        cost_unknown=job.cost_unknown,
        elapsed=job.elapsed,
        reason=reason or job.reason,
        score=Score.of(job.config.get("details", {}).get("score")),
        service_levels=service_levels,
    )
