"""Who shows a run: one progress line, lines for a log, JSON for a program, or nobody. All of it goes to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TextIO

from ai_router.cli.text import cells, clip, cut_text, inert, is_terminal, narrate, plural, width_of
from ai_router.cli.waiting import SETTLE
from batch.running.progress import RunState, Snapshot, format_duration, progress_line

KINDS = ("auto", "plain", "log", "json", "none")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended; tokens and seconds are those of this run; of a job that is watched, of all its runs."""

    snapshot: Snapshot
    exit_code: int
    tokens_input: int
    tokens_output: int
    seconds: float
    errors: tuple[tuple[str, str, int], ...]  # class, message, count; of the whole job
    results: str | None  # the command that shows the answers
    export: str  # the command that writes them
    resume: str | None  # the command that goes on, where something is left
    collect: str | None = None  # the command that takes what comes from a provider, where all that is left is there
    settle: str | None = None  # the command that says what became of it, where only a person knows
    retry: str | None = None  # the command that tries again what has failed
    error: str | None = None  # what ended the run
    evaluate: str | None = None  # the command that says more about the score
    output: str | None = None  # the files that were written
    cut: int = 0  # answers that end at the limit of tokens; of the whole job
    unit: str | None = None  # what is counted, where it is no prompt; then tokens_input is how many this run did

    @property
    def tokens_per_second(self) -> float:
        """Output tokens over the whole run, loading the model included."""
        return self.tokens_output / self.seconds if self.seconds > 0 else 0.0

    def summary(self) -> str:
        """The figures on one line."""
        s = self.snapshot
        left = s.total - s.processed
        parts = [f"{s.completed:,} done", f"{s.failed:,} failed"]
        if left:
            parts.append(f"{left:,} left")
        if self.unit is not None:
            speed = self.tokens_input / self.seconds if self.seconds > 0 else 0.0
            parts += [format_duration(self.seconds), f"{speed:,.0f} {self.unit}s/s"]
            return f"Job {s.job_id} {s.state}: {' | '.join(parts)}"
        tokens = f"{plural(self.tokens_output, 'token')} out, {self.tokens_input:,} in"
        parts += [tokens, format_duration(self.seconds), f"{self.tokens_per_second:,.1f} tokens/s"]
        if s.cost_text:
            parts.append(s.cost_text)
        if self.cut:
            parts.append(cut_text(self.cut))
        return f"Job {s.job_id} {s.state}: {' | '.join(parts)}"

    def failures(self) -> list[str]:
        """Errors by kind, most first."""
        lines = [f"  {count:,} × {kind}: {' '.join(message.split())[:160]}" for kind, message, count in self.errors]
        return ["Errors:", *lines] if lines else []


class Display:
    """Shows nothing but what must be said: errors, and how to go on. The base of all others."""

    interval = 0.25  # seconds between updates

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr

    def note(self, text: str) -> None:
        """Something worth knowing."""

    def alert(self, text: str) -> None:
        """Something that must be known."""
        narrate(text, self.stream)

    def busy(self, text: str) -> None:
        """Something is under way that has no progress of its own."""

    def update(self, snapshot: Snapshot) -> None:
        """How it is going; called every `interval`."""

    def end(self, outcome: Outcome) -> None:
        """It is over."""
        if outcome.error:
            self.alert(f"Error: {outcome.error}")
        if outcome.resume:
            self.alert(f"Resume with: {outcome.resume}")
        if outcome.settle:
            self.alert(f"{SETTLE}: {outcome.settle}")
        if outcome.collect:
            self.alert(f"Collect the answers with: {outcome.collect}")

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing more is shown."""


class WarningDisplay(Display):
    """Warnings and errors, and how to go on."""

    def note(self, text: str) -> None:
        if text.startswith("Warning: "):
            self.alert(text)


class _TextDisplay(Display):
    """What the displays for people have in common: how the end is told."""

    def note(self, text: str) -> None:
        self.alert(text)

    def end(self, outcome: Outcome) -> None:
        self.note(outcome.summary())
        if outcome.snapshot.score:
            self.note(f"Score: {outcome.snapshot.score.text}")
        if outcome.snapshot.reason and outcome.snapshot.state is RunState.STOPPED and not outcome.exit_code:
            self.note(f"Stopped: {outcome.snapshot.reason}")
        if levels := outcome.snapshot.service_levels:
            self.note(f"Service levels: {'; '.join(map(str, levels))}")
        for line in outcome.failures():
            self.note(line)
        if outcome.output:
            self.note(f"Wrote {outcome.output}")
        elif outcome.results and outcome.snapshot.processed:
            self.note(f"Results: {outcome.results}")
            self.note(f"Export:  {outcome.export}")
        if outcome.evaluate:
            self.note(f"What is wrong, and how: {outcome.evaluate}")
        if outcome.retry:
            self.note(f"Try the failed ones again with: {outcome.retry}")
        super().end(outcome)


class PlainDisplay(_TextDisplay):
    """One progress line: drawn over and over on a terminal, else a line now and then."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self.redraws = is_terminal(self.stream)
        self.interval = 0.2 if self.redraws else 0.5
        self._drawn = ""  # what stands on the terminal's last line
        self._cluster = ""  # what was last said of it
        self._pace = _Pace(clock)

    def alert(self, text: str) -> None:
        line = self._drawn
        self._draw("")
        super().alert(text)
        self._draw(line)

    def busy(self, text: str) -> None:
        self._draw(text)

    def update(self, snapshot: Snapshot) -> None:
        line = _bar(snapshot)
        if snapshot.cost_text:
            line += f" | {snapshot.cost_text}"
        status = snapshot.engine_status
        runs = snapshot.state is RunState.RUNNING
        if runs and "cluster" in snapshot.engine_about and status not in (self._cluster, "ready"):
            self._cluster = status
            self.alert(f"Cluster: {status}")
        if self.redraws:
            if snapshot.state is RunState.STARTING and snapshot.engine_status not in ("", "ready"):
                line = f"{snapshot.model_id}: {snapshot.engine_status}"
            elif snapshot.state is RunState.PAUSED:
                line += " | paused"
            self._draw(line)
        elif self._pace.due(snapshot):
            super().alert(line)

    def end(self, outcome: Outcome) -> None:
        line = _bar(outcome.snapshot)
        if self.redraws:
            self._draw(line)
            self._drawn = ""
            self._write("\n")
        elif self._pace.changed(outcome.snapshot):
            super().alert(line)
        super().end(outcome)

    def _draw(self, line: str) -> None:
        if not self.redraws or line == self._drawn:
            return
        line = clip(inert(line), width_of(self.stream) - 1)  # a line that wraps could not be drawn over
        self._write("\r" + line + " " * max(0, cells(self._drawn) - cells(line)) + ("" if line else "\r"))
        self._drawn = line

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError, AttributeError):
            self.stream.write(text)
            self.stream.flush()


class LogDisplay(_TextDisplay):
    """Lines with a time, for a log file."""

    interval = 0.5

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._pace = _Pace(clock)
        self._status = ""

    def alert(self, text: str) -> None:
        stamp = datetime.now().isoformat(timespec="seconds")
        for line in text.splitlines():
            super().alert(f"{stamp} {line}")

    def update(self, snapshot: Snapshot) -> None:
        if snapshot.engine_status != self._status:
            self._status = snapshot.engine_status
            if self._status not in ("", "stopped"):
                self.alert(f"engine: {self._status}")
        if self._pace.due(snapshot):
            self.alert(
                f"{snapshot.state} {snapshot.processed}/{snapshot.total} {snapshot.fraction * 100:.1f}%"
                f" done {snapshot.completed} failed {snapshot.failed} in flight {snapshot.in_flight}"
                f" tokens/s {snapshot.tokens_per_second:.1f} eta {format_duration(snapshot.eta)}"
                + (f" {snapshot.cost_text}" if snapshot.cost_text else "")
                + (f" {snapshot.score.text}" if snapshot.score else "")
            )


class JsonDisplay(Display):
    """One JSON object a line: notes, progress, and the end."""

    interval = 0.5

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._last: dict[str, Any] = {}

    def note(self, text: str) -> None:
        self._send("note", {"text": text})

    def alert(self, text: str) -> None:
        self.note(text)

    def update(self, snapshot: Snapshot) -> None:
        facts = _facts(snapshot)
        if facts != self._last:
            self._last = facts
            self._send("progress", facts)

    def end(self, outcome: Outcome) -> None:
        errors = [{"class": kind, "message": message, "count": count} for kind, message, count in outcome.errors]
        self._send(
            "end",
            {
                **_facts(outcome.snapshot),
                "exit_code": int(outcome.exit_code),
                "run_tokens_input": outcome.tokens_input,
                "run_tokens_output": outcome.tokens_output,
                "run_seconds": round(outcome.seconds, 3),
                "tokens_per_second": round(outcome.tokens_per_second, 2),
                "cut": outcome.cut,
                "errors": errors,
                "reason": outcome.snapshot.reason,
                "error": outcome.error,
                "output": outcome.output,
                "resume": outcome.resume,
                "collect": outcome.collect,
                "settle": outcome.settle,
                "retry": outcome.retry,
            },
        )

    def _send(self, event: str, facts: dict[str, Any]) -> None:
        with suppress(OSError, ValueError, AttributeError):
            self.stream.write(json.dumps({"event": event, **facts}) + "\n")
            self.stream.flush()


class Both(Display):
    """Two displays: the person's, and one that writes a log file, which is closed with it."""

    def __init__(self, first: Display, log: Display) -> None:
        super().__init__(first.stream)
        self._first, self._log = first, log
        self.interval = first.interval

    def note(self, text: str) -> None:
        self._first.note(text)
        self._log.note(text)

    def alert(self, text: str) -> None:
        self._first.alert(text)
        self._log.alert(text)

    def busy(self, text: str) -> None:
        self._first.busy(text)

    def update(self, snapshot: Snapshot) -> None:
        self._first.update(snapshot)
        self._log.update(snapshot)

    def end(self, outcome: Outcome) -> None:
        self._first.end(outcome)
        self._log.end(outcome)

    def close(self) -> None:
        self._first.close()
        with suppress(OSError):
            self._log.stream.close()


class _Pace:
    """When a line is due where lines stay: the first, after a tenth of the work, and every few seconds."""

    SECONDS = 10.0
    AT_LEAST = 1.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._shown: tuple[Any, ...] | None = None
        self._at = 0.0
        self._fraction = 0.0

    def due(self, snapshot: Snapshot) -> bool:
        now = self._clock()
        if not self.changed(snapshot):
            return False
        first = self._shown is None
        if first and snapshot.state is RunState.STARTING:
            return False
        state_changed = not first and self._shown is not None and self._shown[0] != snapshot.state
        waited = now - self._at
        far = snapshot.fraction - self._fraction >= 0.1 and waited >= self.AT_LEAST
        if not (first or state_changed or far or waited >= self.SECONDS):
            return False
        self._at, self._fraction = now, snapshot.fraction
        self._shown = (snapshot.state, snapshot.processed)
        return True

    def changed(self, snapshot: Snapshot) -> bool:
        """Whether there is anything to show that the last line does not say."""
        if self._shown is None:
            return True
        state, processed = self._shown
        return bool(processed != snapshot.processed or (state != snapshot.state and not snapshot.state.over))


def make_display(kind: str, stream: TextIO | None = None) -> Display:
    """The display of that name; `auto` is the plain one."""
    kinds: dict[str, type[Display]] = {"log": LogDisplay, "json": JsonDisplay, "none": Display}
    return kinds.get(kind, PlainDisplay)(stream)


def _bar(snapshot: Snapshot) -> str:
    """The progress line; where there is a score, it stands in the bar's place, as both do not fit."""
    score = snapshot.score
    if score is None:
        return progress_line(snapshot.processed, snapshot.total, snapshot.eta)
    line = progress_line(snapshot.processed, snapshot.total, snapshot.eta)
    return f"{score.text} | {line.partition('] ')[2]}"


def _facts(snapshot: Snapshot) -> dict[str, Any]:
    eta = snapshot.eta
    return {
        "job_id": snapshot.job_id,
        "model": snapshot.model_id,
        "state": str(snapshot.state),
        "total": snapshot.total,
        "completed": snapshot.completed,
        "failed": snapshot.failed,
        "in_flight": snapshot.in_flight,
        "retrying": snapshot.retrying,
        "tokens_input": snapshot.tokens_input,
        "tokens_output": snapshot.tokens_output,
        "tokens_per_second": round(snapshot.tokens_per_second, 2),
        "cost_nanodollars": snapshot.cost,
        "cost_unknown": snapshot.cost_unknown,
        "cost_projected_nanodollars": snapshot.cost_projected,
        "eta": None if eta is None else round(eta, 1),
        "concurrency": snapshot.concurrency,
        "engine": snapshot.engine_status,
        **({"score": asdict(snapshot.score)} if snapshot.score else {}),
        **({"service_levels": [asdict(s) for s in snapshot.service_levels]} if snapshot.service_levels else {}),
    }
