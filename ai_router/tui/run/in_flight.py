"""What a run is doing and has just done: items in flight with their text growing, the last results, errors by kind."""

from __future__ import annotations

import time
from collections.abc import Sequence

from textual.content import Content

from ai_router.tui.widgets.panel import SPINNER, Panel, columns, right, seconds, tail
from ai_router.tui.widgets.text import one_line, pad, plural
from batch.job import BatchResult
from batch.running.progress import InFlight, RunState, Snapshot

AGE_WIDTH = 7
TOKENS_WIDTH = 6
LEAST_TEXTS = 20  # cells for a prompt and an answer side by side


class InFlightPanel(Panel):
    """The oldest items in flight: number, age, prompt, and the end of the answer so far."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__(id=id)
        self.snapshot: Snapshot | None = None
        self.status = ""

    def show(self, snapshot: Snapshot, status: str = "") -> None:
        """Draw another moment; `status` is what the engine says of itself."""
        self.snapshot, self.status = snapshot, status
        shown = min(len(snapshot.items), self.size.height)
        more = f" · the oldest {shown} of {snapshot.in_flight:,}" if 0 < shown < snapshot.in_flight else ""
        self.set_title(f"In flight{more}")
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Content]:
        """A line an item; without any, why there is none."""
        snapshot = self.snapshot
        if snapshot is None:
            return ()
        if not snapshot.items:
            return [Content.styled(pad(self._why_none(snapshot), width), "$text-muted")]
        number_width = len(f"{snapshot.total:,}")
        room = width - number_width - AGE_WIDTH - 6
        if room < LEAST_TEXTS:  # the answer alone, beside its number
            answer = max(0, width - number_width - 2)
            return [self._narrow_line(item, number_width, answer) for item in snapshot.items[:height]]
        prompt_width, answer_width = columns(room, (2, 3), (8, 12))
        return [self._line(item, number_width, prompt_width, answer_width) for item in snapshot.items[:height]]

    @staticmethod
    def _narrow_line(item: InFlight, number_width: int, width: int) -> Content:
        number = f"{item.id + 1:,}" if isinstance(item.id, int) else str(item.id)
        answer = (tail(item.partial, width), "") if item.partial else (pad("…", width), "$text-muted")
        return Content.assemble((right(number, number_width), "bold"), "  ", answer)

    def _line(self, item: InFlight, number_width: int, prompt_width: int, answer_width: int) -> Content:
        again = f"try {item.attempt}  " if item.attempt > 1 else ""
        number = item.id + 1 if isinstance(item.id, int) else item.id
        rest = max(0, answer_width - len(again))
        waiting = self.status if self.status not in ("", "ready") else "…"
        answer = (tail(item.partial, rest), "") if item.partial else (pad(waiting, rest), "$text-muted")
        return Content.assemble(
            (right(f"{number:,}" if isinstance(number, int) else str(number), number_width), "bold"),
            (right(seconds(item.seconds), AGE_WIDTH + 1), "$text-muted"),
            "  ",
            (pad(one_line(item.text, prompt_width), prompt_width), "$text-muted"),
            "  ",
            (again, "$text-warning"),
            answer,
        )

    def _why_none(self, snapshot: Snapshot) -> str:
        spinner = SPINNER[int(time.monotonic() * 8) % len(SPINNER)]
        if snapshot.state is RunState.PAUSED:
            return "‖ paused; p goes on"
        if snapshot.state is RunState.DRAINING:
            return f"{spinner} saving…"
        if snapshot.retrying:
            return f"{spinner} {plural(snapshot.retrying, 'prompt waits', 'prompts wait')} for another try"
        if self.status not in ("", "ready", "stopped"):
            return f"{spinner} {self.status}"
        return f"{spinner} {'starting…' if snapshot.state is RunState.STARTING else 'waiting for the next prompt'}"


class RecentPanel(Panel):
    """The last results, newest first: sign, number, prompt, beginning of the answer or the error, tokens, seconds."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__(id=id)
        self.snapshot: Snapshot | None = None
        self.results: Sequence[BatchResult] = ()

    def show(self, snapshot: Snapshot, results: Sequence[BatchResult] = ()) -> None:
        """Draw another moment; `results` stands in for those of a snapshot that has none."""
        self.snapshot = snapshot
        self.results = snapshot.recent or results
        self._say_how_many()
        self.redraw()

    def on_resize(self) -> None:
        """Other panels come and go: as many stand here as there is room for now."""
        super().on_resize()
        self._say_how_many()

    def _say_how_many(self) -> None:
        if (snapshot := self.snapshot) is None:
            return
        shown = min(len(self.results), max(1, self.size.height))
        whole = f"{snapshot.processed:,}"
        last = f"all {whole}" if shown in (0, snapshot.processed) else f"last {shown} of {whole}"
        self.set_title(f"Results · {last} · {snapshot.failed:,} failed" if snapshot.processed else "Results")

    def lines(self, width: int, height: int) -> Sequence[Content]:
        """A line a result; without any, what will stand here."""
        snapshot = self.snapshot
        if snapshot is None:
            return ()
        if not self.results:
            text = "Nothing yet: answers come here as they are saved." if not snapshot.state.over else "No results."
            return [Content.styled(pad(text, width), "$text-muted")]
        number_width = len(f"{snapshot.total:,}")
        room = width - number_width - TOKENS_WIDTH - AGE_WIDTH - 10
        if room < LEAST_TEXTS:
            answer = max(0, width - number_width - 4)
            return [_narrow_result(result, number_width, answer) for result in self.results[:height]]
        prompt_width, answer_width = columns(room, (2, 3), (8, 12))
        return [_result_line(result, number_width, prompt_width, answer_width) for result in self.results[:height]]


def _sign(result: BatchResult) -> tuple[str, str]:
    return ("✓ ", "$text-success") if result.success else ("✗ ", "$text-error")


def _said(result: BatchResult) -> str:
    """The answer, or the error."""
    if result.success:
        return result.response_text
    return f"{result.error_class or 'failed'}: {result.error_message or ''}"


def _narrow_result(result: BatchResult, number_width: int, width: int) -> Content:
    return Content.assemble(
        _sign(result),
        (right(f"{result.prompt_index + 1:,}", number_width), "bold"),
        "  ",
        (pad(one_line(_said(result), width), width), "" if result.success else "$text-error"),
    )


def _result_line(result: BatchResult, number_width: int, prompt_width: int, answer_width: int) -> Content:
    good = result.success
    text = _said(result)
    return Content.assemble(
        _sign(result),
        (right(f"{result.prompt_index + 1:,}", number_width), "bold"),
        "  ",
        (pad(one_line(result.prompt, prompt_width), prompt_width), "$text-muted"),
        "  ",
        (pad(one_line(text, answer_width), answer_width), "" if good else "$text-error"),
        (right(f"{result.tokens_output:,}" if good else "—", TOKENS_WIDTH + 2), "$text-muted"),
        (right(seconds(result.duration), AGE_WIDTH + 2), "$text-muted"),
    )


class ErrorsPanel(Panel):
    """Failures by kind with their counts; folds away while there are none."""

    MOST = 5

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__(id=id)
        self.errors: Sequence[tuple[str, int]] = ()
        self.set_title("Errors by kind")

    def show(self, errors: Sequence[tuple[str, int]]) -> None:
        """Draw these counts, most first."""
        self.errors = errors
        rows = min(len(errors), self.MOST if self.screen.has_class("-tall") else 1)
        if errors:
            more = f" · {rows} of {len(errors)} kinds" if rows < len(errors) else ""
            self.set_title(f"Errors by kind{more}", "f reads them")
            self.styles.height = rows + 2
        self.set_class(bool(errors), "-any")
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Content]:
        """A line a kind: count, class, message."""
        number_width = max((len(f"{count:,}") for _, count in self.errors), default=1)
        lines = []
        for kind, count in self.errors[:height]:
            error_class, _, message = kind.partition(": ")
            room = max(0, width - number_width - 17)
            lines.append(
                Content.assemble(
                    ("✗ ", "$text-error"),
                    (right(f"{count:,}", number_width), "bold"),
                    f"  {error_class:<11}",
                    (f"  {one_line(message, room)}", "$text-muted"),
                )
            )
        return lines
