"""One line on every screen: what is running, how far it is, and what waits for its turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content
from textual.geometry import Offset
from textual.reactive import reactive
from textual.widget import Widget

from ai_router.tui.widgets.jumping import Target
from ai_router.tui.widgets.text import cut, one_line

if TYPE_CHECKING:
    from textual import events

    from batch.running.progress import Snapshot

GAP = "   "
BAR = 10  # cells
LONGEST_NAME = 24
SIGNS = {"paused": "‖", "draining": "◌"}  # by the state of the run


@dataclass(frozen=True, slots=True)
class Running:
    """A running job as the strip shows it."""

    path: Path
    name: str
    snapshot: Snapshot


def described(job: Running, *, whole: bool = True) -> Content:
    """`▶ prompts.txt ━━━━━───── 52 % 12.3/s ETA 4m ✗ 3`; without the bar, rate and name where not `whole`."""
    from batch.running.progress import format_duration  # which what runs has imported by now

    snapshot = job.snapshot
    percent = f"{math.floor(snapshot.fraction * 100)} %"
    failed = (f" ✗ {snapshot.failed:,}", "$text-error") if snapshot.failed else ("", "")
    head = (f"{SIGNS.get(snapshot.state, '▶')} ", "$accent")
    if not whole:
        return Content.assemble(head, percent, failed)
    full = math.floor(snapshot.fraction * BAR)
    return Content.assemble(
        head,
        (one_line(job.name, LONGEST_NAME), "bold"),
        " ",
        ("━" * full, "$accent"),
        ("─" * (BAR - full), "$foreground 25%"),
        f" {percent}",
        (f" {snapshot.items_per_second:,.1f}/s" if snapshot.items_per_second else "", "$text-muted"),
        (f" ETA {format_duration(snapshot.eta)}" if snapshot.eta is not None else "", "$text-muted"),
        failed,
    )


def strip_line(jobs: Sequence[Running], waiting: int, width: int, key: str = "^b") -> Content:
    """All running jobs that fit `width` cells whole, then by sign and share, then by their number alone."""
    ending = Content.assemble(
        (f"{GAP}{waiting:,} waiting" if waiting else "", "$text-muted"), (f"{GAP}{key} ", "bold $accent"), "open"
    )
    room = width - ending.cell_length
    for whole in (True, False):
        parts = [described(job, whole=whole) for job in jobs]
        for shown in range(len(parts), 0, -1):
            more = Content(f"{GAP}+{len(parts) - shown}" if shown < len(parts) else "")
            line = Content(GAP).join(parts[:shown]) + more
            if line.cell_length <= room and (shown == len(parts) or not whole or shown * 2 > len(parts)):
                return line + ending
    line = Content(f"▶ {len(jobs)} running")
    return line + ending if line.cell_length <= room else Content(cut(line.plain, width))


class RunsStrip(Widget):
    """Hidden while nothing runs. A click opens a run, as the key does."""

    DEFAULT_CSS = """
    RunsStrip { height: 1; padding: 0 1; background: $panel; text-wrap: nowrap; display: none; }
    """
    ALLOW_SELECT = False

    jobs: reactive[tuple[Running, ...]] = reactive(())
    waiting: reactive[int] = reactive(0)

    def watch_jobs(self, jobs: tuple[Running, ...]) -> None:
        """There is no line for nothing."""
        self.display = bool(jobs)

    def render(self) -> Content:
        """The line."""
        return strip_line(self.jobs, self.waiting, max(0, self.size.width - 2))

    def jump_targets(self) -> list[Target]:
        """Its run."""
        return [Target(Offset(0, 0), lambda: self.app.run_action("app.next_run"))]

    async def on_click(self, event: events.Click) -> None:
        """Open it."""
        await self.app.run_action("app.next_run")
