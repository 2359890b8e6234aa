"""Keeping order among jobs: marks, names and tags, the trash and the way back from it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

from ai_router.comparing.linked import is_linked_at
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.jobs.actions import JobActions
from ai_router.tui.jobs.labels import LabelDialog
from ai_router.tui.jobs.view import JobLine
from ai_router.tui.widgets.table import VirtualTable
from ai_router.tui.widgets.text import plural
from batch.checkpoint.about import About, write_about
from batch.checkpoint.trash import KEPT_DAYS, take_back, throw_away
from batch.errors import CheckpointError


class KeepingJobs(JobActions[None]):
    """A list of jobs of which several may be marked."""

    def __init__(self) -> None:
        super().__init__()
        self.marked: set[Path] = set()
        self._thrown: list[list[Path]] = []  # where the files are now, the last ones last

    @abstractmethod
    def line_at_hand(self) -> JobLine | None:
        """The job under the cursor."""

    @abstractmethod
    def all_lines(self) -> tuple[JobLine, ...]:
        """All jobs, shown or not."""

    def chosen_lines(self) -> list[JobLine]:
        """The marked jobs; without any, the one under the cursor."""
        marked = [line for line in self.all_lines() if line.info.file in self.marked]
        line = self.line_at_hand()
        return marked or ([line] if line is not None else [])

    def action_mark(self) -> None:
        """Mark the job under the cursor, or take its mark away; the cursor goes on."""
        if line := self.line_at_hand():
            self.marked ^= {line.info.file}
            table = self.query_one(VirtualTable)
            table.refresh_rows()
            table.action_cursor_down()

    def action_compare(self) -> None:
        """This job beside those that it was made with; marked jobs beside each other."""
        lines = self.chosen_lines()
        if not lines:
            return
        if len(lines) == 1 and not is_linked_at(lines[0].info.file):
            self.notify("This job was not compared; mark two to four jobs over the same prompts with space", timeout=4)
            return
        self.services.go("compared", *(line.info.file for line in lines))

    # -- names and tags -------------------------------------------------------------------------------------------

    def action_label(self) -> None:
        """Name, tags and note of one job; of several, the tags and the note that all of them get."""
        lines = self.chosen_lines()
        if not lines:
            return
        single = len(lines) == 1

        def answered(about: About | None) -> None:
            if about is not None:
                changes = [(line.info.file, about if single else _joined(line.info.about, about)) for line in lines]

                def write() -> None:
                    for path, said in changes:
                        write_about(path, said)

                self._change(write)

        title = f"Job {lines[0].info.job_id}" if single else plural(len(lines), "job")
        self.app.push_screen(LabelDialog(title, lines[0].info.about if single else None), answered)

    def _change(self, work: Callable[[], object], said: Callable[[], str] = lambda: "") -> None:
        def done(_: object) -> None:
            if text := said():
                self.notify(text, markup=False)
            self.marked.clear()
            self.services.jobs_changed.publish(None)

        self.in_thread(work, done, group="keep")

    # -- the trash ------------------------------------------------------------------------------------------------

    def action_delete(self) -> None:
        """Into the trash, after asking."""
        lines = self.chosen_lines()
        if not lines:
            return
        if running := [line for line in lines if line.running]:
            self.services.show_error(f"Job {running[0].info.job_id} is running; stop it first")
            return
        paths = [line.info.file for line in lines]
        first = lines[0]
        text = (
            f"Job {first.info.job_id} · {first.source} · {first.info.model_id}\n"
            f"{plural(first.completed, 'answer')} of {plural(first.info.total, 'prompt')}."
            if len(lines) == 1
            else f"{plural(len(lines), 'job')} with {plural(sum(line.completed for line in lines), 'answer')}."
        )
        text += f"\n\nThey go to the trash, for {KEPT_DAYS} days. U takes them back."

        def answered(choice: str | None) -> None:
            if choice == "delete":
                self._change(
                    lambda: self._throw(paths), lambda: f"{plural(len(paths), 'job')} in the trash; U takes back"
                )

        buttons = [("keep", "Keep", "primary"), ("delete", "Delete", "error")]
        title = "Delete this job?" if len(lines) == 1 else "Delete these jobs?"
        self.app.push_screen(ConfirmDialog(title, text, buttons), answered)

    def _throw(self, paths: list[Path]) -> None:
        moved: list[Path] = []
        self._thrown.append(moved)
        for path in paths:
            moved.append(throw_away(path))

    def action_undo(self) -> None:
        """Take back what was thrown away last."""
        if not self._thrown:
            self.notify("Nothing was thrown away here; ai-router restore lists the trash", timeout=3)
            return
        paths = self._thrown.pop()
        back: list[str] = []

        def work() -> None:
            for path in paths:
                try:
                    back.append(take_back(path).stem.removeprefix("batch_"))
                except CheckpointError as error:
                    self.app.call_later(self.services.show_error, error)

        self._change(work, lambda: f"Back: {', '.join(back)}" if back else "")


def _joined(before: About, given: About) -> About:
    """What a job among several is said to be: its own name, all tags, the note where one was given."""
    return About(before.name, tuple(sorted({*before.tags, *given.tags})), given.note or before.note)
