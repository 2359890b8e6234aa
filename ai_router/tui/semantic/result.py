"""What a model's semantic IDs amount to: counts, codebook use, and the IDs themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.content import Content

from ai_router.tui.actions import bind
from ai_router.tui.dialogs import PromptDialog
from ai_router.tui.jobs.actions import JobActions
from ai_router.tui.jobs.view import home
from ai_router.tui.widgets.panel import Panel
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.text import count, fitting, one_line, plural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from batch.semantic_ids.report import CodesReport

LIVE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is read of a job: the codes themselves, four bytes a level, and what they amount to."""

    report: CodesReport
    codes: NDArray[np.int32]
    numbers: NDArray[np.int32]  # by the GNPR rule, −1 for SIDs that one item has
    files: tuple[Path, ...]
    running: bool
    processed: int
    job_id: str
    model: str
    source: str


def read_outcome(path: Path, outputs: Path) -> Outcome:
    """Read it; for a thread."""
    from ai_router.kinds import semantic_ids
    from batch.checkpoint import CheckpointStore, lock_owner
    from batch.semantic_ids.blocks import stored_codes
    from batch.semantic_ids.collisions import suffixes
    from batch.semantic_ids.report import report_of

    with CheckpointStore(path) as store:
        job = store.job()
    task = semantic_ids.task_of(job)
    stored = stored_codes(path, task)
    return Outcome(
        report=report_of(task.config.run_name, stored),
        codes=stored.codes,
        numbers=suffixes(stored.codes, stored.codewords),
        files=semantic_ids.output_paths(job, outputs),
        running=lock_owner(path) is not None,
        processed=job.processed,
        job_id=job.job_id,
        model=task.config.run_name,
        source=task.config.dataset_name,
    )


class FiguresPanel(Panel):
    """The counts, a name and a value a line."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__(id=id)
        self.outcome: Outcome | None = None
        self.writing = False
        self.set_title("Counts")

    def show(self, outcome: Outcome, *, writing: bool) -> None:
        """Draw another outcome; `writing` says that its files are being written."""
        self.outcome, self.writing = outcome, writing
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Content]:
        """The figures, and where the files are."""
        if self.outcome is None:
            return (Content.styled("Reading…", "$text-muted"),)
        figures = self.outcome.report.figures()
        if len(figures) + len(self.outcome.files) > height:
            figures = self.outcome.report.figures(brief=True)
        styles = {"not encoded": "$text-error", "not done": "$text-warning"}
        lines = [
            Content.assemble((f"{name:<15}", "$text-muted"), (value, styles.get(name, ""))) for name, value in figures
        ]
        for file in self.outcome.files:
            there = file.is_file() and not self.writing
            state = "being written" if self.writing else "not written, e writes it"
            text = one_line(home(file) if there else f"{state}: {file.name}")
            lines.append(Content.assemble(("file           ", "$text-muted"), (text, "" if there else "$text-warning")))
        return [line.truncate(width, ellipsis=True) for line in lines]


class UsePanel(Panel):
    """How often each codeword of each level was chosen."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__(id=id)
        self.report: CodesReport | None = None
        self.set_title("Codebook use")

    def show(self, report: CodesReport) -> None:
        """Draw another report."""
        self.report = report
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Content]:
        """A line of figures and a picture a level, as high as there is room for; else a line a level."""
        from batch.semantic_ids.report import level_letter, level_line, use_picture

        if self.report is None:
            return ()
        levels = self.report.collisions.levels
        if height < 2 * len(levels):
            figures = [f"{level.used}/{len(level.counts)} · {level.entropy:.2f} bits" for level in levels]
            room = width - max(map(len, figures), default=0) - 5
            return [
                Content.assemble(
                    (f"{level_letter(number)}  ", "$text-muted"),
                    (use_picture(level.counts, room)[0].ljust(room), "$accent"),
                    (f"  {text}", "$text-muted"),
                )
                for number, (level, text) in enumerate(zip(levels, figures, strict=True))
            ]
        room = max(1, min(4, height // max(1, len(levels)) - 1))
        lines: list[Content] = []
        for number, level in enumerate(levels):
            lines.append(Content.styled(fitting(level_line(number, level).split("  "), width, "  "), "$text-muted"))
            lines += [Content.styled(line, "$accent") for line in use_picture(level.counts, width, room)]
        return lines


class SemanticResultScreen(JobActions[None]):
    """Counts beside codebook use, and a table of Pids and their SIDs; of a running job, what is there so far."""

    CSS_PATH = "result.tcss"
    AUTO_FOCUS = "VirtualTable"
    BINDINGS: ClassVar[list[BindingType]] = bind(
        "semantic.run", "semantic.export", "semantic.collided", "semantic.goto", "semantic.blocks", "semantic.copy"
    )

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.set_reactive(JobActions.crumbs, ("Jobs and results", "Semantic IDs"))
        self.path = path
        self.outcome: Outcome | None = None
        self.collided_only = False
        self._shown: NDArray[np.intp] | None = None  # the rows shown, None for all

    def compose_body(self) -> ComposeResult:
        """Panels above, table below."""
        with Container(id="semantic-top"):
            yield FiguresPanel(id="figures")
            yield UsePanel(id="use")
        table = VirtualTable(
            [
                Column("Pid", 10, right=True),
                Column("SID", flex=2),
                Column("Codes", flex=1, from_width=70),
                Column("Suffix", 8),
            ],
            self._rows,
            empty="Reading…",
            id="sids",
            classes="panel",
        )
        table.border_title = "Items"
        yield table

    def on_mount(self) -> None:
        """Read the job; of a running one again and again."""
        self.read()
        self.set_interval(LIVE_SECONDS, self._again)
        self.services.jobs_changed.subscribe(self, lambda _: self.read())

    def read(self) -> None:
        """Read the codes anew."""
        path, outputs = self.path, self.services.workspace.outputs
        self.in_thread(lambda: read_outcome(path, outputs), self._take, busy="reading codes", failed=self._unreadable,
                       keys_wait=True)  # fmt: skip

    def _again(self) -> None:
        if self.is_current and self.outcome is not None and self.outcome.running and not self.working("read"):
            self.read()

    def _unreadable(self, error: Exception) -> None:
        table = self.query_one(VirtualTable)
        table.empty = f"{error}"
        table.refresh()

    def _take(self, outcome: Outcome) -> None:
        import numpy as np

        first = self.outcome is None
        self.outcome = outcome
        state = "▶ running · " if outcome.running else ""
        self.crumbs = ("Jobs and results", f"{outcome.source} · {outcome.job_id}")
        self.context_text = f"{state}{outcome.model}"
        self._show_figures()
        self.query_one(UsePanel).show(outcome.report)
        table = self.query_one(VirtualTable)
        self._shown = np.flatnonzero(outcome.numbers >= 0) if self.collided_only else None
        total = len(outcome.codes) if self._shown is None else len(self._shown)
        table.empty = "No two items share a SID."
        table.border_title = "Items that share a SID" if self.collided_only else "Items"
        table.border_subtitle = Content(plural(total, "item"))
        table.set_count(total, keep=not first)
        self.refresh_bindings()

    def _show_figures(self) -> None:
        if self.outcome is not None:
            self.query_one(FiguresPanel).show(self.outcome, writing=self.services.turns.is_writing(self.path))

    def _row_at(self, index: int) -> int:
        return index if self._shown is None else int(self._shown[index])

    def _rows(self, start: int, stop: int) -> list[Row]:
        from batch.semantic_ids.collisions import sid_text
        from batch.semantic_ids.report import level_letter

        outcome = self.outcome
        if outcome is None:
            return []
        import numpy as np

        which = np.arange(start, stop) if self._shown is None else self._shown[start:stop]
        codes, numbers = outcome.codes[which], outcome.numbers[which]
        rows: list[Row] = []
        letter = level_letter(codes.shape[1])
        for row, sid, code, number in zip(
            which.tolist(), sid_text(codes), codes.tolist(), numbers.tolist(), strict=True
        ):
            if not sid:
                bad = row in outcome.report.bad
                said = ("✗ its features hold NaN or infinity", "error") if bad else ("◌ not encoded yet", "muted")
                rows.append((count(row + 1), said, "", ""))
                continue
            shared = ("", "") if number < 0 else (f"<{letter}_{number}>", "warning")
            rows.append((count(row + 1), sid, (str(code), "muted"), shared))
        return rows

    # -- what can be done -----------------------------------------------------------------------------------------

    def job_at_hand(self) -> Path | None:
        """This job."""
        return self.path

    def job_is_running(self) -> bool:
        """Whether it runs."""
        return self.outcome is not None and self.outcome.running

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what there is something for."""
        outcome = self.outcome
        if action in ("export", "goto", "copy"):
            return outcome is not None
        if action == "collided":
            return outcome is not None and (self.collided_only or outcome.report.collisions.collided_items > 0)
        if action == "resume":
            return outcome is None or outcome.running or outcome.report.missing > 0
        return True

    def action_export(self) -> None:
        """Write the files, in a process of its own: making vectors takes torch."""
        self.services.turns.write_files(self.path)
        self._show_figures()

    def action_collided(self) -> None:
        """Only items that share their SID, or all."""
        self.collided_only = not self.collided_only
        if self.outcome is not None:
            self._take(self.outcome)
            self.query_one(VirtualTable).move_cursor(0)

    def action_goto(self) -> None:
        """Go to a Pid."""
        if self.outcome is None:
            return
        total = len(self.outcome.codes)

        def answered(text: str | None) -> None:
            if text is None or not text.strip().isdigit():
                return
            row = int(text) - 1
            if self._shown is not None:
                import numpy as np

                row = int(np.searchsorted(self._shown, row))
            self.query_one(VirtualTable).move_cursor(row)

        self.app.push_screen(PromptDialog("Go to an item", f"Its Pid, 1 to {count(total)}:", kind="integer"), answered)

    def action_blocks(self) -> None:
        """The blocks as the checkpoint holds them."""
        from ai_router.tui.results.screen import ResultsScreen

        self.app.push_screen(ResultsScreen(self.path))

    def action_copy(self) -> None:
        """Copy the SID under the cursor."""
        from ai_router.tui.clipboard import copy_from
        from batch.semantic_ids.collisions import sid_text

        table = self.query_one(VirtualTable)
        if self.outcome is None or not table.count:
            return
        row = self._row_at(table.cursor)
        codes = self.outcome.codes[row : row + 1]
        copy_from(self, lambda: sid_text(codes)[0])

    @on(VirtualTable.Selected)
    def _selected(self) -> None:
        self.action_copy()
