"""Jobs over the same prompts side by side: figures of each, how often two say the same, the rows that differ."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from ai_router.comparing.answers import Compared, Row, compared, rows_of
from ai_router.comparing.forms import PAIRS, TOTALS, pair_cells, totals_cells
from ai_router.tui.actions import bind
from ai_router.tui.base import BaseScreen
from ai_router.tui.compare.judging import JudgingScreen
from ai_router.tui.compare.panes import AnswerPanes
from ai_router.tui.results.data import read_job
from ai_router.tui.widgets.columns import Column
from ai_router.tui.widgets.table import Row as Cells
from ai_router.tui.widgets.table import VirtualTable
from ai_router.tui.widgets.text import count, harmless, one_line, pad, plural
from ai_router.tui.widgets.text_view import TextView
from ai_router.tui.widgets.wrapping import Block

if TYPE_CHECKING:
    from ai_router.settings import Workspace
    from batch.job import BatchJob

KEPT = 1_000  # rows that differ, to look at
REFRESH_SECONDS = 2.0
REST = 4  # times what reading took, until it is read again
MOST_PROMPT = 2_000  # characters of a prompt over its answers


@dataclass(slots=True)
class _Read:
    jobs: list[BatchJob]
    counts: list[tuple[int, ...]]  # of each job, when its answers were read
    made: Compared
    seconds: float  # that it took
    at: float


class ComparedScreen(BaseScreen[None]):
    """Of one job, those that it was made with. Read anew when one of them has other results, whoever runs it."""

    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bind("compare.open", "compare.export", "app.back", "app.up")

    def __init__(self, *paths: Path) -> None:
        super().__init__()
        self.crumbs = ("Compare", "Jobs")
        self.paths = paths
        self._read: _Read | None = None

    def compose_body(self) -> ComposeResult:
        """Figures above, rows below."""
        with VerticalScroll(id="compared-figures", classes="panel", can_focus=False) as box:
            box.border_title = "Models"
            yield Static(id="compared-totals")
        table = VirtualTable([], self._rows, empty="Comparing…", id="compared-rows", classes="panel")
        table.border_title = "Prompts with answers that differ"
        yield table

    def on_mount(self) -> None:
        """Begin to read."""
        self.query_one(VirtualTable).focus()
        self._again()
        self.set_interval(REFRESH_SECONDS, self._tick)

    def _tick(self) -> None:
        read = self._read
        if read is None or not self.is_current or self.working("read"):
            return
        # A comparison of many rows, which takes its time, does not take all of it while a job runs.
        if time.monotonic() - read.at >= read.seconds * REST:
            self._again()

    def _again(self) -> None:
        workspace, before, paths = self.services.workspace, self._read, self.paths
        self.in_thread(
            lambda: _look(workspace, paths, before),
            self._take,
            busy="" if before else "comparing",
            failed=self._failed,
            keys_wait=before is None,
        )

    def _failed(self, error: Exception) -> None:
        if self._read is not None:  # the figures of before stay, and it is tried again
            reason = str(error).replace(f"{self.services.workspace.checkpoints}{os.sep}", "")
            self.context_text = f"not read anew: {one_line(reason, 60)}"
            return
        self.query_one(VirtualTable).empty = harmless(str(error))
        self.query_one(VirtualTable).set_count(0)

    def _take(self, read: _Read) -> None:
        before, self._read = self._read, read
        self.context_text = one_line(str(read.jobs[0].config.get("source", "")), 50)
        if read is before:
            return
        made = read.made
        width = max(20, self.query_one("#compared-figures").size.width - 4)
        self.query_one("#compared-totals", Static).update(_figures(made, width))
        table = self.query_one(VirtualTable)
        table.columns = [
            Column("#", 7, right=True),
            Column("Prompt", flex=2),
            *(Column(one_line(total.model, 30), flex=2, from_width=44) for total in made.totals),
        ]
        table.empty = f"The same answers to {plural(made.items, 'prompt')}." if made.items else "No answers yet."
        if before is not None and (cursor := table.cursor) < len(before.made.rows):  # it stays on its prompt
            place = bisect_left(made.rows, before.made.rows[cursor].number, key=attrgetter("number"))
            table.set_reactive(VirtualTable.cursor, min(place, max(0, len(made.rows) - 1)))
        table.set_count(len(made.rows))
        shown = f"the first {count(KEPT)} of " if made.differing > len(made.rows) else ""
        table.border_subtitle = Content(f"{shown}{count(made.differing)} of {plural(made.items, 'prompt')}")
        self.refresh_bindings()

    def _rows(self, start: int, stop: int) -> list[Cells]:
        rows = self._read.made.rows if self._read else []
        return [_cells(row) for row in rows[start:stop]]

    # -- what is done with it -------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what is there is opened or written."""
        if action == "open":
            return self._read is not None and bool(self._read.made.rows)
        return action != "export" or self._read is not None

    @on(VirtualTable.Selected)
    def action_open(self) -> None:
        """The answers to the prompt under the cursor."""
        if self._read is not None and self._read.made.rows:
            cursor = self.query_one(VirtualTable).cursor
            self.app.push_screen(ComparedRowScreen(self._read.made.rows, cursor))

    def action_export(self) -> None:
        """Write the comparison as JSON and as Markdown."""
        read, folder = self._read, self.services.workspace.outputs
        if read is None:
            return

        def write() -> list[Path]:
            from ai_router.comparing.files import write_comparison

            models, ids = [job.model_id for job in read.jobs], [job.job_id for job in read.jobs]
            title = str(read.jobs[0].config.get("source", ""))
            return write_comparison(folder, rows_of(read.jobs), models, ids, title=title, keep=KEPT)

        def written(files: list[Path]) -> None:
            self.notify(f"Wrote {files[0]} and {files[1].name}", markup=False)

        self.in_thread(write, written, busy="writing", group="export")


def _look(workspace: Workspace, paths: Sequence[Path], before: _Read | None) -> _Read:
    """What there is to say of some jobs; what was said before where none of them has other results by now."""
    from ai_router import jobs
    from ai_router.comparing.linked import linked_with

    start = time.monotonic()
    if before is None:
        found = [jobs.open_job(workspace, str(path)) for path in paths]
        if len(found) == 1:
            found = linked_with(workspace, found[0])
    else:
        found = [read_job(job.checkpoint_file) for job in before.jobs if job.checkpoint_file is not None]
    counts: list[tuple[int, ...]] = [(job.completed, job.failed, job.tokens_output, job.cost) for job in found]
    if before is not None and counts == before.counts:
        return before
    made = compared(rows_of(found), [job.model_id for job in found], [job.job_id for job in found], keep=KEPT)
    now = time.monotonic()
    return _Read(found, counts, made, now - start, now)


class ComparedRowScreen(JudgingScreen):
    """One of the rows; the next and the one before by a key."""

    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bind(
        *("compare.next", "compare.previous", "app.back"),
        *("compare.1", "compare.2", "compare.3", "compare.4", "compare.all", "compare.none"),
    )

    def __init__(self, rows: Sequence[Row], at: int) -> None:
        super().__init__()
        self.crumbs = ("Compare", "Jobs", "Prompt")
        self._rows, self._at = rows, at

    def compose_body(self) -> ComposeResult:
        """Prompt above, answers below."""
        prompt = TextView(id="compared-prompt", classes="panel")
        prompt.border_title = "Prompt"
        yield prompt
        yield AnswerPanes(id="compare-panes")
        yield Static(id="compare-status")

    def on_mount(self) -> None:
        """Show the row."""
        models = [answer.model if answer is not None else "—" for answer in self._rows[self._at].answers]
        self.query_one(AnswerPanes).set_models(models)
        self.query_one(AnswerPanes).pane(0).focus()
        self._show()

    @property
    def row(self) -> Row:
        """The one that is shown."""
        return self._rows[self._at]

    def _show(self) -> None:
        row = self.row
        blocks = [Block(row.prompt[:MOST_PROMPT])]
        if row.expected is not None:
            blocks += [Block("expected", "title"), Block(row.expected[:MOST_PROMPT], "answer")]
        self.query_one("#compared-prompt", TextView).show(*blocks)
        self.query_one(AnswerPanes).show(row, home=True)
        self.context_text = f"prompt {row.number:,} · {self._at + 1:,} of {len(self._rows):,}"
        self.ask_for_best(row)
        self.refresh_bindings()

    def action_step(self, by: str) -> None:
        """So many rows on; stays within them."""
        self._at = min(max(self._at + int(by), 0), len(self._rows) - 1)
        self._show()


def _cells(row: Row) -> Cells:
    answers: list[tuple[str, str]] = []
    for answer in row.answers:
        if answer is None:
            answers.append(("—", "muted"))
        else:
            mark = {True: "✓ ", False: "✗ ", None: ""}[answer.right]
            answers.append((mark + one_line(answer.text or answer.error or "", 200), "error" if answer.error else ""))
    return (count(row.number), one_line(row.prompt, 200), *answers)


def _figures(made: Compared, width: int) -> Content:
    """Both tables; what has no room is left out from the right, a line a model where even that is too narrow."""
    totals = [totals_cells(total) for total in made.totals]
    lines = _aligned(TOTALS, totals, width)
    lines += [Content(""), *_aligned(PAIRS, [pair_cells(pair) for pair in made.pairings], width)]
    return Content("\n").join(lines)


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[Content]:
    shown = [heads, *([one_line(cell, 40) for cell in row] for row in rows)]
    widths = [max(cell_len(row[at]) for row in shown) for at in range(len(heads))]
    widths[0] = min(widths[0], max(8, width // 2))
    fits = len(heads)
    while fits > 2 and sum(widths[:fits]) + 2 * (fits - 1) > width:
        fits -= 1
    return [
        Content.styled(
            "  ".join(pad(one_line(row[at], widths[at]), widths[at], right=at > 0) for at in range(fits)),
            "$text-muted" if place == 0 else "",
        )
        for place, row in enumerate(shown)
    ]
