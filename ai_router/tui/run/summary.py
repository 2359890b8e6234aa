"""How a job ended, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.content import Content

from ai_router.kinds.base import PROMPTS, JobKind
from ai_router.models import ModelSpec
from ai_router.models.line import place_of, words_of
from ai_router.tui.jobs.view import home
from ai_router.tui.widgets.hanging import hanging
from ai_router.tui.widgets.panel import STATE_SIGNS, Panel, fit, rate, seconds
from ai_router.tui.widgets.text import ELLIPSIS, lines_of, one_line, plural
from batch.checkpoint import CheckpointStore
from batch.job import BatchResult
from batch.running.ending import TRIED
from batch.running.progress import RunState, Snapshot, format_duration

LABEL = 11  # cells
SHOWN_RESULTS = 100
MOST_TRIED = 2_000


@dataclass(frozen=True, slots=True)
class JobDetails:
    """What an ended job's checkpoint says beyond its counts. Durations are seconds."""

    errors: tuple[tuple[str, int], ...]
    recent: tuple[BatchResult, ...]  # the last in input order, last first
    answers: int
    attempts: int
    mean: float
    p50: float
    p95: float
    longest: float
    output: str = ""  # the file with the rows of a dataset job
    cut: int = 0  # answers that end at the limit of tokens
    whole: str = ""  # what all of the job will come to, where some of it was tried


def load_details(path: Path) -> JobDetails:
    """Read them; takes a second a million results."""
    with CheckpointStore(path, "snapshot") as store:
        job = store.job()
        total = job.total_prompts
        performance = store.performance()
        page = store.results(start=max(0, total - SHOWN_RESULTS), limit=SHOWN_RESULTS)
        recent = [result for result in page if result.attempts]
        if not recent and total > SHOWN_RESULTS:
            recent = [result for result in store.results(limit=SHOWN_RESULTS) if result.attempts]
        errors = tuple((f"{name}: {message}", count) for name, message, count in store.error_counts())
        whole = None
        if (job.reason or "").startswith(TRIED) and 0 < job.processed <= MOST_TRIED:
            from ai_router.estimate import after

            tried = [*store.results(part="done", limit=MOST_TRIED), *store.results(part="failed", limit=MOST_TRIED)]
            whole = after(tried, total, job.elapsed)
    return JobDetails(
        errors=errors,
        recent=tuple(reversed(recent)),
        answers=performance["answers"],
        attempts=performance["attempts"],
        cut=performance["cut"],
        mean=performance["mean_seconds"],
        p50=performance["p50_seconds"],
        p95=performance["p95_seconds"],
        longest=performance["longest_seconds"],
        output=str(job.config.get("details", {}).get("output_file") or ""),
        whole="" if whole is None else whole.cost_first,
    )


class SummaryPanel(Panel):
    """State and reason, answers, tokens, time and rate of an ended job, and the keys that go on from here."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__(id=id)
        self.snapshot: Snapshot | None = None
        self.details: JobDetails | None = None
        self.unit, self.item = "", "answer"
        self.set_title("Summary")

    def show(self, snapshot: Snapshot, details: JobDetails | None, kind: JobKind = PROMPTS) -> None:
        """Draw the end, counted as the kind does."""
        self.snapshot, self.details, self.unit = snapshot, details, kind.unit
        self.item = kind.item if kind.unit else "answer"
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Content]:
        """As many as fit, what matters most first; what to do next is always there."""
        snapshot = self.snapshot
        if snapshot is None or not snapshot.state.over:
            return ()
        sign, style = STATE_SIGNS[snapshot.state]
        head = Content.assemble((f"{sign} ", style), (one_line(self._headline(snapshot), width - 2), "bold"))
        figures = [_row(f"{self.unit}s" if self.unit else "answers", self._answers(snapshot))]
        if alarms := snapshot.engine_about.get("alarms"):  # what a server did that nobody asked for
            figures.append(_row("alarms", ", ".join(f"{kind} ({times:,})" for kind, times in alarms.items())))
        if snapshot.score is not None:
            figures.append(_row("score", snapshot.score.text))
        if self.details is not None and self.details.output:
            figures.append(_row("rows", home(Path(self.details.output))))
        if not self.unit:
            figures.append(_row("tokens", self._tokens(snapshot)))
        if self.details is not None and self.details.cut:
            figures.append(_row("cut", f"{plural(self.details.cut, 'answer')} at the token limit"))
        if snapshot.cost_text:
            figures.append(_row("cost", snapshot.cost_text))
        figures.append(_row("time", self._time(snapshot)))
        if self.details is not None and self.details.whole:
            figures.insert(0, _row("all of it", self.details.whole))
        if self.details is not None and self.details.answers:
            d = self.details
            each = f"mean {seconds(d.mean)} · p95 {seconds(d.p95)} · longest {seconds(d.longest)}"
            figures.append(_row(f"{'an' if self.item[0] in 'aeiou' else 'a'} {self.item}", each))
        following = self._next(snapshot, width)
        room = max(0, height - 1 - 1)
        figures = _wrapped(figures, width, room)
        gap = [Content("")] if room > len(figures) else []
        lines = [head, *(figures[:room]), *gap, following]
        return [line.truncate(width, ellipsis=True) for line in lines]

    def _headline(self, snapshot: Snapshot) -> str:
        unit = self.unit or "prompt"
        if snapshot.state is RunState.FINISHED:
            if snapshot.failed:
                return f"finished; {plural(snapshot.failed, unit)} of {snapshot.total:,} failed"
            return f"finished: {plural(snapshot.completed, self.unit or 'answer')}"
        missing = snapshot.total - snapshot.processed
        reason = snapshot.reason or snapshot.state.value
        return f"{reason}; {plural(missing, unit)} left, nothing is lost"

    @staticmethod
    def _answers(snapshot: Snapshot) -> str:
        return f"{snapshot.completed:,} done · {snapshot.failed:,} failed · {snapshot.total:,} in all"

    @staticmethod
    def _tokens(snapshot: Snapshot) -> str:
        return f"{snapshot.tokens_input:,} in · {snapshot.tokens_output:,} out"

    def _time(self, snapshot: Snapshot) -> str:
        text = format_duration(snapshot.elapsed)
        if snapshot.elapsed > 0 and snapshot.processed:
            text += f" · {rate(snapshot.processed / snapshot.elapsed)} {self.unit or 'item'}s/s"
            if snapshot.tokens_output:
                text += f" · {rate(snapshot.tokens_output / snapshot.elapsed)} tok/s on average"
        if snapshot.loading >= 1:
            text += f" · {format_duration(snapshot.loading)} to load before"
        return text

    @staticmethod
    def _next(snapshot: Snapshot, width: int) -> Content:
        keys: list[tuple[str, str]] = []
        if snapshot.state is not RunState.FINISHED:
            tried = (snapshot.reason or "").startswith(TRIED)
            keys.append(("p", "answer the rest" if tried else "resume"))
        keys.append(("enter", "read the results"))
        if snapshot.failed:
            keys += [("f", "see failures"), ("t", "retry them")]
        keys.append(("e", "export"))
        return fit(
            [Content.assemble((key, "bold $accent"), (f" {label}", "$text-muted")) for key, label in keys], width
        )


def _wrapped(rows: Sequence[Content], width: int, room: int) -> list[Content]:
    """Rows as lines, those that are too long on as many as there is room for beside the other rows, or at least two."""
    lines: list[Content] = []
    spare = room - len(rows)
    for row in rows:
        hung = _hung(row, width)
        most = 1 + max(1, spare)
        if len(hung) > most:
            end = hung[most - 1] + f" {ELLIPSIS}"
            hung[most - 1 :] = [end if end.cell_length <= width else hung[most - 1]]
        spare -= len(hung) - 1
        lines += hung
    return lines


def _hung(row: Content, width: int) -> list[Content]:
    """A row's lines: figures between dots are kept whole, a sentence is wrapped."""
    parts = row.plain[LABEL:].split(" · ")
    if row.cell_length <= width or len(parts) == 1:
        return hanging(row, LABEL, width).split("\n")
    first, *more = lines_of(parts, max(1, width - LABEL))
    return [row[:LABEL] + first, *(Content(line).pad_left(LABEL) for line in more)]


def _row(label: str, text: str) -> Content:
    return Content.assemble((f"{label:<{LABEL}}", "$text-muted"), text)


def model_line(model_id: str, spec: ModelSpec | None, about: Mapping[str, Any]) -> str:
    """`demo · torch · cpu fp32 · 4.7 M` and what the engine has to say of it, of which only what is known."""
    parts = [spec.name if spec else model_id, spec.engine if spec else "", place_of(about)]
    if spec is not None and spec.parameters:
        parts.append(spec.parameters_text)
    parts += words_of(about)
    return " · ".join(part for part in parts if part)
