"""What of a job is with a provider: its batches with their age, counts and end, and what can be done meanwhile."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from textual.content import Content

from ai_router import batches, jobs
from ai_router.batches import Standing
from ai_router.tui.base import BaseScreen
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.widgets.panel import Panel, fit, right
from ai_router.tui.widgets.text import one_line, pad, plural
from batch.running.progress import RunState, Snapshot

AWAY = ("collect", "look", "end_batches")  # actions
READ_SECONDS = 2.0  # between two looks at what the disk says, while the job runs
KEYS = (("c", "collect what is there"), ("l", "ask how they stand"), ("k", "end them"), ("p", "wait for all"))


class AwayPanel(Panel):
    """A line a batch: its name, requests, state, counts where its provider has them, age, and until when."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__(id=id)
        self.standings: Sequence[Standing] = ()
        self.count, self.over = 0, True
        self.set_title("With a provider")

    def show(self, standings: Sequence[Standing], count: int, *, over: bool) -> None:
        """Draw these; `count` prompts are away, and the job's run is `over` or not."""
        self.standings, self.count, self.over = standings, count, over
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Content]:
        """What is away, the batches, and what can be done."""
        made = [self._head(width)]
        room = max(0, height - 2)
        shown = self.standings if len(self.standings) <= room else self.standings[: max(0, room - 1)]
        names = max((len(s.name) for s in shown), default=0)
        figures = max((len(f"{s.count:,}") for s in shown), default=0)
        made += [self._batch(standing, min(names, 24), figures, width) for standing in shown]
        if (more := len(self.standings) - len(shown)) and room:
            made.append(Content.styled(f"and {plural(more, 'batch', 'batches')} more", "$text-muted"))
        return [line.truncate(width, ellipsis=True) for line in [*made, self._next(width)]]

    def _head(self, width: int) -> Content:
        whose = ", ".join(dict.fromkeys(s.provider for s in self.standings if s.provider)) or "a provider"
        text = f"{plural(self.count, 'prompt')} with {whose}"
        rest = "the machine may be switched off meanwhile" if self.over else "looked at from time to time"
        return fit([Content.styled(one_line(text, width), "bold"), Content.styled(rest, "$text-muted")], width, " · ")

    @staticmethod
    def _batch(standing: Standing, names: int, figures: int, width: int) -> Content:
        sign, style = ("?", "$text-warning") if standing.unclear else ("◷", "$text-accent")
        if standing.over:
            sign, style = "✓", "$text-success"
        pieces = [
            Content.assemble(
                (f"{sign} ", style),
                pad(one_line(standing.name, names), names),
                f"  {right(f'{standing.count:,}', figures)}",
            ),
            Content(f"age {standing.age}"),
            Content(one_line(standing.unclear or standing.word, 60)),
        ]
        if standing.counts:
            pieces.append(Content(standing.counts))
        if standing.until:
            pieces.append(Content.styled(f"expires in {standing.until}", "$text-muted"))
        return fit(pieces, width)

    def _next(self, width: int) -> Content:
        keys = KEYS if self.over else KEYS[1:2]
        if any(s.unclear for s in self.standings):
            return Content.styled(one_line("to be settled with: ai-router reconcile", width), "$text-warning")
        return fit([Content.assemble((k, "bold $accent"), (f" {label}", "$text-muted")) for k, label in keys], width)


class AwayActions(BaseScreen[None]):
    """A screen of a job of which something may be with a provider."""

    path: Path
    snapshot: Snapshot | None
    busy: str
    standings: tuple[Standing, ...] = ()
    _read_for: object = None
    _read_at = 0.0

    @abstractmethod
    def tick(self, *, at_once: bool = False) -> None:
        """Bring the screen to this moment."""

    @property
    def is_away(self) -> bool:
        """Whether all that is left is with a provider, or all that is going on."""
        snapshot = self.snapshot
        if snapshot is None or not snapshot.with_provider:
            return False
        return snapshot.state is RunState.WAITING or (not snapshot.state.over and not snapshot.in_flight)

    def show_away(self) -> None:
        """Bring the panel to this moment; what the disk says is read in a thread."""
        away, snapshot = self.is_away, self.snapshot
        if away != self.has_class("-away"):
            self.set_class(away, "-away")
            self.refresh_bindings()
        if not away or snapshot is None:
            return
        self.query_one(AwayPanel).show(self.standings, snapshot.with_provider, over=snapshot.state.over)
        wanted = (snapshot.state, snapshot.processed, snapshot.with_provider)
        late = not snapshot.state.over and time.monotonic() - self._read_at > READ_SECONDS
        if wanted == self._read_for and not late:
            return
        self._read_for, self._read_at = wanted, time.monotonic()
        self.in_thread(self._read, self._take_standings, group="away")

    def _read(self) -> tuple[Standing, ...]:
        job = jobs.open_job(self.services.workspace, str(self.path))
        return tuple(map(batches.standing_of, batches.open_of(job)))

    def _take_standings(self, standings: tuple[Standing, ...]) -> None:
        self.standings = standings
        self.show_away()

    def _away_work(self, busy: str, work: partial[tuple[Standing, ...]]) -> None:
        """Something slow with the batches, whose standings it brings."""

        def done(standings: tuple[Standing, ...]) -> None:
            self._rest()
            self._take_standings(standings)

        def failed(error: Exception) -> None:
            self._rest()
            self.services.show_error(error)

        self.busy = busy
        self.refresh_bindings()
        self.in_thread(work, done, failed=failed, group="asked")

    def _rest(self) -> None:
        self.busy = ""
        self.tick(at_once=True)  # the job was held meanwhile, as if it ran
        self.refresh_bindings()

    def action_look(self) -> None:
        """Ask the provider how its batches stand."""
        self._away_work("asking the provider…", partial(self._asked, cancel=False))

    def action_end_batches(self) -> None:
        """Ask whether to end them, then ask the provider for it."""
        text = "What is answered by then is paid for and can be collected; the rest goes again on resume."
        buttons = (("keep", "keep them", "primary"), ("end", "end them", "error"))
        self.app.push_screen(ConfirmDialog("End the batches?", text, buttons), self._end)

    def _end(self, choice: str | None) -> None:
        if choice == "end":
            self._away_work("asking the provider to end them…", partial(self._asked, cancel=True))

    def _asked(self, *, cancel: bool) -> tuple[Standing, ...]:
        job = jobs.open_job(self.services.workspace, str(self.path))
        with batches.pages(self.services.registry, job) as opened:
            if cancel:
                batches.cancel(job, opened, self._told)
            return tuple(batches.look(submission, opened) for submission in batches.open_of(job))

    def _told(self, text: str) -> None:
        self.services.call_later(lambda: self.notify(one_line(text, 200), markup=False))
