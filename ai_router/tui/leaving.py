"""Leaving the program: at once where nothing runs, else by asking what is to become of the runs."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING

from ai_router.tui.in_turn import KeysInTurn
from ai_router.tui.passing import PassingMessages

if TYPE_CHECKING:
    from ai_router.settings import Workspace
    from batch.running.run import Run

QUIT_AGAIN_SECONDS = 2.0


class LeavingApp(PassingMessages, KeysInTurn):
    """An app with runs that ends when a person wants it to, and not with the loss of what runs."""

    workspace: Workspace
    _asked_to_quit = 0.0

    @abstractmethod
    def live_runs(self) -> list[Run]:
        """Runs of this process that are not over."""

    @abstractmethod
    def show_error(self, error: BaseException | str) -> None:
        """Say what went wrong."""

    def action_help_quit(self) -> None:
        """Ctrl-C: a hint at first, then quit."""
        now = time.monotonic()
        if now - self._asked_to_quit < QUIT_AGAIN_SECONDS:
            self.run_worker(self.action_quit())
            return
        self._asked_to_quit = now
        self.notify("Press ctrl+c again to quit", timeout=QUIT_AGAIN_SECONDS)

    async def action_quit(self) -> None:
        """Leave; asks what to do with live runs."""
        live = self.live_runs()
        if not live:
            self._end(0)
            return
        from ai_router.tui.run.leave import LeaveDialog

        self.push_screen(LeaveDialog(len(live)), self._leave)

    def _end(self, code: int) -> None:
        self.exit(code, return_code=code)

    def _leave(self, choice: str | None) -> None:
        if choice in (None, "stay"):
            return
        self.notify("Handing over to the background…" if choice == "background" else "Saving…", timeout=30)
        self.run_worker(lambda: self._end_runs(choice or ""), thread=True, group="leave", exclusive=True)

    def _end_runs(self, choice: str) -> None:
        """Stop all live runs and go, in a thread; `background` starts each anew in a process of its own."""
        from ai_router import detaching
        from batch.errors import BatchError

        live = self.live_runs()
        for run in live:
            run.stop("drain" if choice == "drain" else "now")
        for run in live:
            run.wait()
        if choice == "background":
            for run in live:
                try:
                    detaching.detach(self.workspace, run.job)
                except (BatchError, OSError) as error:
                    self.call_later(self.show_error, error)
                    return
        resumable = choice != "background" and any(run.job.processed < run.job.total_prompts for run in live)
        self.call_later(self._end, 130 if resumable else 0)
