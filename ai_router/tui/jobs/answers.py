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
    from batch.job import BatchResult

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
            lambda: first_results(path, count), lambda found: self.update(lines(found)), group="answers",
            failed=lambda _: None,  # said by whoever opens the job
        )  # fmt: skip


def first_results(path: Path, count: int) -> list[BatchResult]:
    """The first items of a job that holds prompts, their texts cut; of another kind, none."""
    from ai_router.kinds import kind_at
    from batch.checkpoint import CheckpointStore

    if path.suffix == ".json" or kind_at(path).own_engine:
        return []
    with CheckpointStore(path) as store:
        found = store.results(ids=list(range(count)), preview=SHOWN)
        return sorted(found, key=lambda result: result.prompt_index)


def lines(results: list[BatchResult]) -> Content:
    """A prompt, and below it its answer, or what went wrong."""
    parts: list[Content] = [Content.styled("First items", "bold")] if results else []
    for result in results:
        parts.append(Content(one_line(result.prompt, SHOWN)))
        said, style = (
            ("◌ no answer yet", "$text-muted")
            if not result.attempts
            else (
                (result.response_text, "$text-muted")
                if result.success
                else (result.error_message or "failed", "$text-error")
            )
        )
        parts.append(Content.styled(f"  {one_line(said, SHOWN)}", style))
    return Content("\n").join(parts)
