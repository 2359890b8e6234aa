"""The first items of a job, beside it: what was asked, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Static

from ai_router.tui.base import BaseScreen
from ai_router.tui.widgets.text import one_line

if TYPE_CHECKING:
    from ai_router.tui.jobs.view import JobLine
    from ai_router.tui.results.data import RowData

FIRST = 12  # items
SHOWN = 200  # characters of a text


class JobAnswers(Static):
    """Two lines an item; read in a thread when the cursor comes to a job, or when that has gone on."""

    DEFAULT_CSS = """
    JobAnswers { height: auto; margin-top: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__("", id=id, markup=False)
        self._shown: tuple[Path, int, int] | None = None

    def show(self, line: JobLine | None) -> None:
        """The items of this job."""
        now = None if line is None else (line.info.file, min(line.completed, FIRST), line.failed)
        if now == self._shown:
            return
        other = self._shown is None or now is None or now[0] != self._shown[0]
        self._shown = now
        if other:
            self.update("")
        if line is None or not isinstance(self.screen, BaseScreen):
            return
        path, count = line.info.file, min(FIRST, line.info.total)
        self.screen.in_thread(
            lambda: first_rows(path, count), lambda rows: self.update(lines(rows)), group="answers",
            failed=lambda _: None,  # said by whoever opens the job
        )  # fmt: skip


def first_rows(path: Path, count: int) -> list[RowData]:
    """The first items of a job that holds prompts; of another kind, none."""
    from ai_router.kinds import kind_at
    from ai_router.tui.results.data import job_rows

    if path.suffix == ".json" or kind_at(path).own_engine:
        return []
    with job_rows(path) as read:
        return list(read(range(count)))


def lines(rows: list[RowData]) -> Content:
    """A prompt, and below it its answer, or what went wrong."""
    parts: list[Content] = [Content.styled("First items", "bold")] if rows else []
    for row in rows:
        parts.append(Content(one_line(row.prompt, SHOWN)))
        said, style = one_line(row.answer, SHOWN), "$text-muted" if row.success else "$text-error"
        parts.append(Content.styled("  ◌ no answer yet", "$text-muted") if not row.attempts else Content.styled(
            f"  {said}", style))  # fmt: skip
    return Content("\n").join(parts)
