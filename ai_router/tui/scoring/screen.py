"""How good the answers of a run are: its scores, and every row with what is wrong about it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content

from ai_router.tui.actions import bind
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.results.pages import Rows
from ai_router.tui.scoring.data import JobPairs, PairSource, Scored, Scorer, Stopped, cut_pair, open_source
from ai_router.tui.scoring.dialogs import ChooseRunDialog, EvaluationOptionsDialog, about_text
from ai_router.tui.scoring.export import ReportDialog
from ai_router.tui.scoring.score_rows import NEVER, Line, bar_cells, breakdown_lines, score_columns, score_lines
from ai_router.tui.scoring.scored_rows import ROOMY, ScoredRowsScreen, number_cells
from ai_router.tui.scoring.spans import RowText
from ai_router.tui.scoring.verdict_rows import (
    ALL,
    ONLY_OF_CORRECTIONS,
    VERDICT_TABS,
    pair_text,
    verdict_number,
    verdict_tab,
)
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.tabs import Tab
from ai_router.tui.widgets.text import count, one_line, plural

if TYPE_CHECKING:
    from ai_router.tui.results.data import Counts
    from batch.evaluation.options import EvaluationOptions
    from batch.evaluation.pairs import Pair
    from batch.evaluation.report import Report

LIVE_SECONDS = 1.0
REST = 5  # times as long as the last scoring took, between two of a job that runs
LEAST_REST = 2.0  # seconds


class EvaluationScreen(ScoredRowsScreen):
    """Opens at once; rows come as they are scored. Of a job that runs it goes on scoring what is new."""

    BINDINGS: ClassVar[list[BindingType]] = bind(*(f"evaluation.{key}" for key in range(1, 9)))

    def __init__(self, path: Path, crumbs: tuple[str, ...] = ("Jobs and results",)) -> None:
        super().__init__()
        from batch.evaluation.options import EvaluationOptions

        self.path = path
        self.options: EvaluationOptions = EvaluationOptions()
        self._above = crumbs
        self.crumbs = (*crumbs, path.stem.removeprefix("batch_"), "Score")
        self.source: PairSource | None = None
        self.error_type: str | None = None  # only rows of this one
        self._scorer: Scorer | None = None
        self._lines: dict[str, list[Line]] = {"scores": [], "breakdown": []}
        self._job_runs = False
        self._looked = 0.0
        self._rows = Scored()  # what is shown: the scorer may have begun anew meanwhile

    def compose_scores(self) -> ComposeResult:
        """Scores, and beside them where it is wrong."""
        for name, title in (("scores", "Scores"), ("breakdown", "Share of right rows")):
            table = VirtualTable([], partial(self._score_rows, name), empty="Scoring…", id=name, classes="panel")
            table.border_title = Content(title)
            yield table

    def on_mount(self) -> None:
        """Open it in a thread, then score it."""
        self._open()

    def on_unmount(self) -> None:
        """Nobody waits for scores any more."""
        if self._scorer is not None:
            self._scorer.stop()

    # -- scoring --------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        path = self.path

        def failed(error: Exception) -> None:
            self.table.empty = "This cannot be scored."
            self.table.refresh()
            self.services.show_error(error, retry=self._open)

        self.in_thread(
            lambda: open_source(path), self._opened, busy="opening", group="open", failed=failed, keys_wait=True
        )

    def _opened(self, source: PairSource) -> None:
        self.source = source
        self.crumbs = (*self._above, source.name, "Score")
        self.table.columns = self.columns(self.size.width)
        self._score()
        self.set_interval(LIVE_SECONDS, self._look_again)

    def _score(self) -> None:
        """Score all of it with the options there are."""
        assert self.source is not None
        if self._scorer is not None:
            self._scorer.stop()
        self._scorer = Scorer(self.source, self.options)
        self.open_pages()
        self._run(self._scorer)

    def _run(self, scorer: Scorer) -> None:
        def went_wrong(error: Exception) -> None:
            self._busy.pop("score", None)
            self._show_busy()
            if not isinstance(error, Stopped):
                self.table.empty = "This cannot be scored."
                self.table.refresh()
                self.services.show_error(error)

        work = partial(scorer.run, lambda: self.app.call_later(self._progress, scorer))
        self.in_thread(work, self._scored, busy="scoring", group="score", failed=went_wrong)

    def _progress(self, scorer: Scorer) -> None:
        if scorer is self._scorer and self.alive and self.working("score"):
            self._busy["score"] = scorer.text
            self._show_busy()
            if self.on_top and not scorer.seconds:  # the first time; later what is shown stays until there is more
                self._show(scorer)

    def _scored(self, scorer: Scorer) -> None:
        self._looked = time.monotonic()
        if self.on_top:
            self._show(scorer)
        if self.source is not None and self.source.live:
            self._ask_how_far()

    def on_screen_resume(self) -> None:
        """While another screen was shown, its rows stayed as they were."""
        if self._scorer is not None and not self.working("score"):
            self._show(self._scorer)

    def _look_again(self) -> None:
        scorer = self._scorer
        if not self.on_top or scorer is None or self.working("score") or self.working("live"):
            return
        if time.monotonic() - self._looked >= max(LEAST_REST, REST * scorer.seconds):
            self._looked = time.monotonic()
            self._ask_how_far()

    def _ask_how_far(self) -> None:
        source = self.source
        if isinstance(source, JobPairs):
            self.in_thread(source.counts, self._how_far, group="live")

    def _how_far(self, counts: Counts) -> None:
        self._job_runs = counts.running
        self._show_context()
        scorer = self._scorer
        if scorer is None or self.working("score"):
            return
        rows, failed = scorer.rows, verdict_number("failed")
        if (counts.completed + counts.failed, counts.failed) != (len(rows), rows.count(failed)):
            self._run(scorer)

    # -- what is shown --------------------------------------------------------------------------------------------

    @property
    def report(self) -> Report | None:
        """The scores, as far as they are known."""
        return self._scorer.report if self._scorer else None

    def _show(self, scorer: Scorer) -> None:
        fresh, self._rows = self._rows is not scorer.rows, scorer.rows
        if fresh and self._pages is not None:
            self._pages.forget()
            self.forget_text()
            self.restart_search()
        self.table.columns = self.columns(self.size.width)
        self.show_tabs()
        self.show_rows(keep=True)
        if scorer.report is not None:
            self._show_scores(scorer.report)
        self._show_context()
        self.refresh_bindings()

    def _show_scores(self, report: Report) -> None:
        width = self.size.width
        beside = width >= 110 and bool(report.types or len(report.lengths) > 1 or report.errors)
        cells = (width // 2 if beside else width) - 5
        # Beside each other, the scores have their one n in the border.
        bars = {"scores": bar_cells(cells, numbers=not beside), "breakdown": bar_cells(cells)}
        scores = list(score_lines(report, bars["scores"]))
        breakdown = list(breakdown_lines(report, bars["breakdown" if beside else "scores"]))
        self._lines = {"scores": scores if beside else [*scores, *breakdown], "breakdown": breakdown if beside else []}
        for name, lines in self._lines.items():
            table = self.query_one(f"#{name}", VirtualTable)
            table.columns = score_columns(bars[name], numbers=name != "scores" or not beside)
            table.set_count(len(lines))
        self.query_one("#breakdown").set_class(bool(self._lines["breakdown"]), "-any")
        notes = len(report.notes) + bool(report.skipped)
        parts = [f"n={report.scored:,}", report.tokeniser]
        if report.normalisation:
            parts.append("+".join(report.normalisation))
        parts += [f"{plural(notes, 'note')}: i"] if notes else []
        self.query_one("#scores").border_subtitle = Content(" · ".join(parts))
        self.query_one("#breakdown").border_subtitle = "enter shows a type" if report.types else ""

    def _score_rows(self, name: str, start: int, stop: int) -> list[Row]:
        return [line.cells for line in self._lines[name][start:stop]]

    def _show_context(self) -> None:
        about = self.source.about if isinstance(self.source, JobPairs) else ""
        self.context_text = f"▶ running · {about}" if self._job_runs else about

    def _resized(self) -> None:
        super()._resized()
        if self.alive and self.report is not None:
            self._show_scores(self.report)

    # -- rows -----------------------------------------------------------------------------------------------------

    def tabs(self) -> Sequence[Tab]:
        """All, and the verdicts there can be."""
        report = self.report
        answers = report is not None and report.task != "correction"
        names = [tab for tab in VERDICT_TABS if not (answers and tab.name in ONLY_OF_CORRECTIONS)]
        return [ALL, *(tab for tab in names if tab.name != "unscorable" or self.tab_count(tab.name))]

    def tab_count(self, name: str) -> int:
        """Of the rows that are scored by now."""
        return self._rows.count(verdict_number(name))

    def select(self, name: str) -> Sequence[int]:
        """Of one verdict, and of one error type where one was chosen."""
        return self._rows.select(verdict_number(name), self.error_type)

    def id_at(self, row: int) -> int:
        """The place of the pair."""
        return self._rows.places[row]

    def opened(self) -> AbstractContextManager[Rows[Pair]]:
        """From the job or the file."""
        assert self.source is not None
        return self.source.opened()

    @contextmanager
    def opened_short(self) -> Iterator[Rows[Pair]]:
        """Only what a line shows."""
        with self.opened() as read:
            yield lambda ids: [cut_pair(pair) for pair in read(ids)]

    def columns(self, width: int) -> list[Column]:
        """Number, verdict, texts; the type where there is room and one."""
        total = self.source.total if isinstance(self.source, JobPairs) else len(self._rows)
        return [
            Column("#", number_cells(max(total, 999)), right=True),
            Column("Verdict", 17 if width >= ROOMY else 8),
            Column("Type", 18, from_width=ROOMY if self._rows.type_names else NEVER),
            Column("Input", flex=1, from_width=56),
            Column("Expected", flex=1),
            Column("Predicted", flex=1),
        ]

    def cells(self, row: int, data: Pair) -> Row:
        """A line of the table."""
        assert self.source is not None
        tab = self._tab_of(row)
        word = tab.word if self.size.width >= ROOMY else tab.short or tab.word
        number = self.source.number(row, self.id_at(row))
        said = (data.error, "error") if data.error is not None else data.predicted
        return (
            count(number),
            (f"{tab.sign} {word}", tab.style),
            (data.error_type or "", "muted"),
            data.input,
            data.expected,
            said,
        )

    def _tab_of(self, row: int) -> Tab:
        return verdict_tab(self._rows.verdicts[row])

    def row_text(self, row: int, data: Pair, width: int) -> RowText:
        """Input, expected and predicted text below each other, or the error."""
        assert self.source is not None
        number = f"# {count(self.source.number(row, self.id_at(row)))}"
        correction = self.report is None or self.report.task == "correction"
        return pair_text(data, number, self._tab_of(row), width, correction=correction, marks=self.with_marks)

    def texts(self, data: Pair) -> Iterable[str]:
        """All a row says."""
        return (data.input, data.expected, data.predicted, data.error or "")

    def empty_text(self) -> str:
        """Why there are no rows."""
        if self._scorer is None or self.working("score"):
            return "Scoring…"
        if self.tab != "all" or self.error_type:
            return "There are none."
        return "There are no results yet." if isinstance(self.source, JobPairs) else "This file holds no results."

    def rows_title(self) -> str:
        """Verdict and error type."""
        return super().rows_title() + (f" · {one_line(self.error_type, 40)}" if self.error_type else "")

    @on(VirtualTable.Selected, "#scores")
    @on(VirtualTable.Selected, "#breakdown")
    def _type_chosen(self, event: VirtualTable.Selected) -> None:
        line = self._lines[event.table.id or ""][event.index]
        if line.error_type is not None:
            self.error_type = None if line.error_type == self.error_type else line.error_type
            self.show_rows(keep=False)
            self.table.focus()

    def action_back(self) -> None:
        """Out of an error type first."""
        if self.error_type is not None and self._search is None:
            self.error_type = None
            self.show_rows(keep=False)
        else:
            super().action_back()

    # -- elsewhere ------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what there is something for."""
        return self.report is not None if action in ("export", "about", "compare") else True

    def action_options(self) -> None:
        """Ask how to score, and score again."""

        def answered(options: EvaluationOptions | None) -> None:
            if options is not None and options != self.options and self.source is not None:
                self.options = options
                self._score()

        self.app.push_screen(EvaluationOptionsDialog(self.options), answered)

    def action_about(self) -> None:
        """How it was measured."""
        if self.report is not None:
            self.app.push_screen(
                ConfirmDialog("How it was measured", about_text(self.report), [("close", "Close", "primary")])
            )

    def action_export(self) -> None:
        """Write the report."""
        if self.report is not None:
            self.app.push_screen(ReportDialog(self.report, None, self.path.stem, [self.path]))

    def action_compare(self) -> None:
        """Ask with which run, and set it beside this one."""
        from ai_router.tui.scoring.comparison import ComparisonScreen

        def answered(path: Path | None) -> None:
            if path is not None:
                self.app.push_screen(ComparisonScreen(self.path, path, self.options, self._above))

        self.app.push_screen(ChooseRunDialog(self.source), answered)
