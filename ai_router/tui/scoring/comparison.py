"""Two runs over the same questions: how their scores differ, what got fixed, what broke."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content

from ai_router.tui.actions import bind
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.results.pages import Rows
from ai_router.tui.scoring.comparison_data import BOTH_RIGHT, BOTH_WRONG, BROKEN, FIXED, Both, Compared, Comparing
from ai_router.tui.scoring.data import SHOWN, JobPairs, PairSource, Stopped, cut_pair, open_source
from ai_router.tui.scoring.dialogs import ChooseRunDialog, EvaluationOptionsDialog, about_text
from ai_router.tui.scoring.export import ReportDialog
from ai_router.tui.scoring.score_rows import DIFFERENCE_COLUMNS, difference_lines
from ai_router.tui.scoring.scored_rows import ROOMY, ScoredRowsScreen, number_cells
from ai_router.tui.scoring.spans import RowText, labelled, legend, same, too_long
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.tabs import Tab
from ai_router.tui.widgets.text import count, one_line

if TYPE_CHECKING:
    from batch.evaluation.options import EvaluationOptions

TABS = (
    Tab("all", "1", "≡", "all"),
    Tab("fixed", "2", "✓", "fixed", style="success"),
    Tab("broken", "3", "✗", "broken", style="error"),
    Tab("both wrong", "4", "○", "both wrong", "wrong", "muted"),
    Tab("both right", "5", "●", "both right", "right", "muted"),
    Tab("changed", "6", "≠", "changed", style="warning"),
)
OUTCOMES = {"fixed": FIXED, "broken": BROKEN, "both wrong": BOTH_WRONG, "both right": BOTH_RIGHT}
OF_OUTCOME = {number: next(tab for tab in TABS if tab.name == name) for name, number in OUTCOMES.items()}


class ComparisonScreen(ScoredRowsScreen):
    """Scores both runs, then shows them side by side. A job that runs counts with what it has at this moment."""

    BINDINGS: ClassVar[list[BindingType]] = bind(*(f"comparison.{key}" for key in range(1, 7)))

    def __init__(
        self, path: Path, other: Path, options: EvaluationOptions, crumbs: tuple[str, ...] = ("Jobs and results",)
    ) -> None:
        super().__init__()
        self.path, self.other, self.options = path, other, options
        self._above = crumbs
        self.crumbs = (*crumbs, "Compare")
        self.sources: tuple[PairSource, PairSource] | None = None
        self.compared: Compared | None = None
        self._comparing: Comparing | None = None
        self._lines: list[Row] = []

    def compose_scores(self) -> ComposeResult:
        """The table of differences."""
        table = VirtualTable(
            DIFFERENCE_COLUMNS, lambda start, stop: self._lines[start:stop], id="scores", classes="panel"
        )
        table.border_title = "Now and before"
        yield table

    def on_mount(self) -> None:
        """Open both in a thread, then score them."""
        self._open()

    def on_unmount(self) -> None:
        """Nobody waits for this any more."""
        if self._comparing is not None:
            self._comparing.stop()

    # -- comparing ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        paths = self.path, self.other
        self.in_thread(
            lambda: tuple(map(open_source, paths)),
            self._sources_open,
            busy="opening",
            group="open",
            failed=self._failed,
            keys_wait=True,
        )

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Stopped):
            return
        self.table.empty = "These runs cannot be compared."
        self.table.refresh()
        self.services.show_error(error)

    def _sources_open(self, sources: tuple[PairSource, PairSource]) -> None:
        if 0 < sources[0].at < sources[1].at:  # from whichever of them one came: now is the later run
            sources = sources[::-1]
            self.path, self.other = self.other, self.path
        self.sources = sources
        now, before = sources
        if now.name == before.name:  # base/results.jsonl and tuned/results.jsonl
            for source in sources:
                source.name = f"{source.path.absolute().parent.name}/{source.name}"
        self.crumbs = (*self._above, "Compare", f"{now.name} with {before.name}")
        self.query_one("#scores").border_title = Content(f"Now {_who(now)} · before {_who(before)}")
        self._compare()

    def _compare(self) -> None:
        assert self.sources is not None
        if self._comparing is not None:
            self._comparing.stop()
        comparing = self._comparing = Comparing(*self.sources, self.options)
        self.compared = None
        self.forget_text()
        self.end_search()

        def progress() -> None:
            self.app.call_later(self._progress, comparing)

        self.in_thread(lambda: comparing.run(progress), self._done, busy="scoring", group="score", failed=self._failed)

    def _progress(self, comparing: Comparing) -> None:
        if comparing is self._comparing and self.alive and self.working("score"):
            self._busy["score"] = comparing.text
            self._show_busy()

    def _done(self, compared: Compared) -> None:
        self.compared = compared
        comparison = compared.comparison
        self._lines = [line.cells for line in difference_lines(comparison)]
        scores = self.query_one("#scores", VirtualTable)
        scores.empty = "\n".join(comparison.notes)
        scores.set_count(len(self._lines))
        left_out = comparison.only_ours + comparison.only_theirs + comparison.differing
        parts = [f"n={count(comparison.paired)}"]
        parts += [f"{count(left_out)} not in both (i)"] if left_out else []
        scores.border_subtitle = Content(" · ".join(parts))
        self.open_pages()
        self.table.columns = self.columns(self.size.width)
        self.show_tabs()
        self.show_rows(keep=False)
        self.refresh_bindings()

    # -- rows -----------------------------------------------------------------------------------------------------

    def tabs(self) -> Sequence[Tab]:
        """What became of questions."""
        return TABS

    def tab_count(self, name: str) -> int:
        """How many questions."""
        if self.compared is None:
            return 0
        if name == "changed":
            return self.compared.changed.count(1)
        return len(self.compared) if name == "all" else self.compared.count(OUTCOMES[name])

    def select(self, name: str) -> Sequence[int]:
        """The questions."""
        if self.compared is None:
            return range(0)
        return self.compared.select(OUTCOMES.get(name), changed=name == "changed")

    def id_at(self, row: int) -> int:
        """Rows are read by their own numbers."""
        return row

    def opened(self) -> AbstractContextManager[Rows[Both]]:
        """Of both runs."""
        assert self.compared is not None
        return self.compared.opened()

    @contextmanager
    def opened_short(self) -> Iterator[Rows[Both]]:
        """Only what a line shows."""
        with self.opened() as read:
            yield lambda ids: [
                replace(both, pair=cut_pair(both.pair), before=both.before[:SHOWN]) for both in read(ids)
            ]

    def columns(self, width: int) -> list[Column]:
        """Number, outcome, texts."""
        total = len(self.compared) if self.compared else 0
        return [
            Column("#", number_cells(max(total, 999)), right=True),
            Column("Outcome", 12 if width >= ROOMY else 8),
            Column("Input", flex=1, from_width=100),
            Column("Expected", flex=1, from_width=56),
            Column("Before", flex=1),
            Column("Now", flex=1),
        ]

    def _number(self, row: int) -> int:
        assert self.compared is not None
        return self.compared.ours.number(row, self.compared.places[row])

    def cells(self, row: int, data: Both) -> Row:
        """A line of the table."""
        assert self.compared is not None
        tab = OF_OUTCOME[self.compared.outcomes[row]]
        word = tab.word if self.size.width >= ROOMY else tab.short or tab.word
        now = data.pair.predicted if self.compared.changed[row] else (data.pair.predicted, "muted")
        return (
            count(self._number(row)),
            (f"{tab.sign} {word}", tab.style),
            data.pair.input,
            data.pair.expected,
            data.before,
            now,
        )

    def row_text(self, row: int, data: Both, width: int) -> RowText:
        """Both predictions beside what was expected."""
        from batch.evaluation.diff import diff
        from batch.evaluation.measure import VERDICTS

        assert self.compared is not None
        pair, tab = data.pair, OF_OUTCOME[self.compared.outcomes[row]]
        now, before = (VERDICTS[v[row]] for v in (self.compared.verdicts, self.compared.verdicts_before))
        number = f"# {count(self._number(row))}"
        note = too_long(pair.input, pair.expected, pair.predicted, data.before)
        texts = [("input", pair.input), ("expected", pair.expected), ("before", data.before), ("now", pair.predicted)]
        if note:
            spans = [(name, same(text)) for name, text in texts]
        else:
            shown = diff(pair.input, pair.expected, pair.predicted)
            correction = self.compared.report.task == "correction"
            spans = [
                ("input", shown.input if correction else same(pair.input)),
                ("expected", shown.expected if correction else same(pair.expected)),
                ("before", diff(pair.input, pair.expected, data.before).predicted),
                ("now", shown.predicted),
            ]
        record = {
            "example_id": pair.example_id,
            **dict(texts),
            "outcome": tab.name,
            "verdict": now,
            "before_verdict": before,
        }
        kind = one_line(pair.error_type or "", 40)
        return RowText(
            title=" · ".join(filter(None, [number, f"{tab.sign} {tab.word}", f"{before} → {now}", kind])),
            blocks=labelled(spans, width, marks=self.with_marks),
            copied=pair.predicted,
            json=json.dumps(record, ensure_ascii=False),
            subtitle=note or legend(marks=self.with_marks),
            number=number,
        )

    def texts(self, data: Both) -> Iterable[str]:
        """All a row says."""
        return (data.pair.input, data.pair.expected, data.before, data.pair.predicted)

    def empty_text(self) -> str:
        """Why there are no rows."""
        if self.compared is None:
            return "Scoring both runs…"
        if not len(self.compared):
            return "The runs have no question in common."
        return {
            "fixed": "Nothing got fixed.",
            "broken": "Nothing broke.",
            "both wrong": "No question is wrong in both.",
            "both right": "No question is right in both.",
            "changed": "Every prediction is the same as before.",
        }.get(self.tab, "There are none.")

    # -- elsewhere ------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what there is something for."""
        return self.compared is not None if action in ("export", "about") else True

    def action_compare(self) -> None:
        """With another run than this one."""

        def answered(path: Path | None) -> None:
            if path is not None:
                self.other = path
                self._open()

        self.app.push_screen(ChooseRunDialog(self.sources[0] if self.sources else None), answered)

    def action_options(self) -> None:
        """Ask how to score, and compare again."""

        def answered(options: EvaluationOptions | None) -> None:
            if options is not None and options != self.options and self.sources is not None:
                self.options = options
                self._compare()

        self.app.push_screen(EvaluationOptionsDialog(self.options), answered)

    def action_about(self) -> None:
        """What was compared, and how it was measured."""
        from batch.evaluation.forms import words

        if self.compared is not None:
            comparison = self.compared.comparison
            text = "\n".join([words.paired(comparison), *comparison.notes, "", about_text(self.compared.report)])
            self.app.push_screen(ConfirmDialog("How it was measured", text, [("close", "Close", "primary")]))

    def action_export(self) -> None:
        """Write the report of both."""
        if self.compared is not None:
            kept = [self.path, self.other]
            self.app.push_screen(ReportDialog(self.compared.report, self.compared.comparison, self.path.stem, kept))


def _who(source: PairSource) -> str:
    """A run in a few words."""
    return one_line(f"{source.job_id} ({source.about})" if isinstance(source, JobPairs) else source.name, 40)
