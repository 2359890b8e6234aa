"""Taking rows out of a list of results: marks, and copies of a row, of the marked ones, or of all that are shown."""

from __future__ import annotations

import csv
import io
import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content

from ai_router.tui.clipboard import copy_from
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.jobs.again import ask_which
from ai_router.tui.picking import PickDialog
from ai_router.tui.results.data import COLUMNS, TITLES, read_result
from ai_router.tui.results.finding import FindingResults
from ai_router.tui.results.reading import answer_or_error, result_json
from ai_router.tui.widgets.text import plural
from batch.prices import dollars
from batch.thinking import thinking_apart

if TYPE_CHECKING:
    from batch.job import BatchResult

MOST_COPIED = 100_000  # rows: a clipboard is no export
HEADS = ("prompt_index", "prompt", "response_text", "success", "error_message", "model", "tokens_output", "duration")


def _cells(result: BatchResult) -> list[str]:
    record = json.loads(result_json(result))
    return ["" if record.get(head) is None else str(record[head]) for head in HEADS]


def as_text(results: Sequence[BatchResult]) -> str:
    """The answers (of a failed item, the error), an empty line between two."""
    return "\n\n".join(answer_or_error(result) for result in results)


def as_csv(results: Sequence[BatchResult]) -> str:
    """A table with a line of titles; what a spreadsheet would calculate begins with an apostrophe."""
    from batch.export.formats import guarded

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADS)
    writer.writerows([guarded(cell) for cell in _cells(result)] for result in results)
    return out.getvalue()


def as_markdown(results: Sequence[BatchResult]) -> str:
    """A table of GitHub's part; what was thought before an answer is folded there."""

    def cell(text: str) -> str:
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("\r\n", "\n").replace("\n", "<br>")

    def answer(result: BatchResult) -> str:
        if not result.success:
            return cell(f"✗ {result.error_message}")
        thought, text = thinking_apart(result.response_text, result.extra)
        folded = f"<details><summary>thinking</summary>{cell(thought)}</details>" if thought else ""
        return folded + cell(text)

    heads = ("#", "prompt", "answer", "model")
    rows = [(str(r.prompt_index + 1), cell(r.prompt), answer(r), cell(r.model or "")) for r in results]
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def as_json(results: Sequence[BatchResult]) -> str:
    """One object a line."""
    return "".join(f"{result_json(result)}\n" for result in results)


FORMATS: dict[str, tuple[str, Callable[[Sequence[BatchResult]], str]]] = {
    "text": ("Text", as_text),
    "csv": ("CSV", as_csv),
    "markdown": ("Markdown", as_markdown),
    "json": ("JSON lines", as_json),
}


CELLS: dict[str, Callable[[BatchResult], str]] = {
    "Answer": lambda result: thinking_apart(result.response_text, result.extra)[1],
    "Thinking": lambda result: thinking_apart(result.response_text, result.extra)[0],
    "Error": lambda result: result.error_message or "",
    "Prompt": lambda result: result.prompt,
    "Model": lambda result: result.model or "",
    "Tokens": lambda result: str(result.tokens_output),
    "Tries": lambda result: str(result.attempts),
    "Cost": lambda result: dollars(result.cost) if result.cost else "",
    "Time": lambda result: f"{result.duration:g}",
    "#": lambda result: str(result.prompt_index + 1),
}


def read_results(path: Path, ids: Sequence[int]) -> list[BatchResult]:
    """Items, whole, in the order of their ids given."""
    from batch.checkpoint import CheckpointStore

    found: list[BatchResult] = []
    with CheckpointStore(path) as store:
        for start in range(0, len(ids), 512):
            page = list(ids[start : start + 512])
            by_id = {result.prompt_index: result for result in store.results(ids=page)}
            found += [by_id[item] for item in page]
    return found


class TakingResults(FindingResults):
    """A list of results of which rows are taken."""

    path: Path

    def __init__(self) -> None:
        super().__init__()
        self.marked: set[int] = set()  # ids

    @abstractmethod
    def _id_at(self, index: int) -> int:
        """The id of a row."""

    def action_mark(self) -> None:
        """Mark the row under the cursor, or take its mark away; the cursor goes on."""
        table = self.table
        if table.count:
            self.marked ^= {self._id_at(table.cursor)}
            table.refresh_rows()
            table.action_cursor_down()
            self.show_title()

    def action_mark_all(self) -> None:
        """Mark all rows that are shown; where they are marked, take all marks away."""
        shown = set(self.shown_ids())
        self.marked = set() if shown <= self.marked else self.marked | shown
        self.table.refresh_rows()
        self.show_title()

    def show_title(self) -> None:
        """Which rows are shown, in what order, and how many are marked."""
        order = self.order
        parts = ["Results", self.part if self.part != "all" else ""]
        if not order.natural:
            title = next(title for title, (_, by) in zip(TITLES, COLUMNS, strict=True) if by == order.by)
            parts.append(f"by {'number' if title == '#' else title.lower()} {'▼' if order.descending else '▲'}")
        if self.marked:
            parts.append(f"{plural(len(self.marked), 'row')} marked")
        self.table.border_title = Content(" · ".join(filter(None, parts)))

    def action_again(self) -> None:
        """A new job of the marked rows, of the rows that are shown, or of a part."""
        counts = {part: self._counts.of(part) for part in ("all", "done", "failed", "pending")}
        shown = list(self.shown_ids()) if self.filter_text and not self.marked else ()
        word = "Marked" if self.marked else "Found"
        ask_which(self, self.path, counts, sorted(self.marked) or shown, word)

    def shown_ids(self) -> Sequence[int]:
        """The ids of all rows, in the order in which they are shown."""
        return range(self._counts.total) if self._ids is None else self._ids

    def action_copy(self) -> None:
        """Copy the whole answer of the row."""
        self._copy(answer_or_error)

    def action_copy_json(self) -> None:
        """Copy the row as JSON."""
        self._copy(result_json)

    def _copy(self, part: Callable[[BatchResult], str]) -> None:
        table = self.table
        if table.count:
            item, path = self._id_at(table.cursor), self.path
            copy_from(self, lambda: part(read_result(path, item)))

    def action_copy_as(self) -> None:
        """Copy the row, the marked rows or all that are shown, in a form that is asked for."""
        table = self.table
        if not table.count:
            return
        shown = self.shown_ids()
        chosen: dict[str, Sequence[int]] = {}
        if self.marked:
            chosen["marked"] = sorted(self.marked)
        chosen["row"] = [self._id_at(table.cursor)]
        if 1 < len(shown) <= MOST_COPIED:
            chosen["all"] = shown
        texts = {"row": "This row", "marked": plural(len(self.marked), "marked row"), "all": f"All {len(shown):,}"}
        if self.filter_text and "all" in chosen:
            texts["all"] = f"All {len(shown):,} found"

        def answered(what: str | None) -> None:
            if what == "cell":
                self._ask_cell(chosen["row"][0])
            elif what is not None:
                self._ask_format(chosen[what])

        buttons = [(what, texts[what], "" if at else "primary") for at, what in enumerate(chosen)]
        buttons.append(("cell", "One cell", ""))
        self.app.push_screen(ConfirmDialog("Copy which rows?", f"Of {self.crumbs[-1]}", buttons), answered)

    def _ask_cell(self, item: int) -> None:
        path = self.path

        def ask(result: BatchResult) -> None:
            cells = {name: text for name, cell in CELLS.items() if (text := cell(result))}

            def answered(chosen: tuple[str, str] | None) -> None:
                if chosen is not None:
                    copy_from(self, lambda: cells[chosen[1]])

            self.app.push_screen(PickDialog("Copy which cell?", f"Of item {item + 1:,}", [*cells.items()]), answered)

        self.in_thread(lambda: read_result(path, item), ask, busy="reading", group="cell", keys_wait=True)

    def _ask_format(self, ids: Sequence[int]) -> None:
        path = self.path

        def answered(name: str | None) -> None:
            if name is not None:
                copy_from(self, lambda: FORMATS[name][1](read_results(path, ids)))

        buttons = [(name, label, "") for name, (label, _) in FORMATS.items()]
        self.app.push_screen(ConfirmDialog("Copy as what?", plural(len(ids), "row"), buttons), answered)
