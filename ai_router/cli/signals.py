"""Ctrl-C, SIGTERM and a lost terminal: save first, then go."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from ai_router.cli.errors import Exit, Terminated
from batch.running.run import RunHandle

# Windows has no SIGHUP; its Ctrl-Break asks a program to end.
_ENDING = {
    number: code
    for name, code in (("SIGTERM", Exit.TERMINATED), ("SIGHUP", Exit.HANGUP), ("SIGBREAK", Exit.TERMINATED))
    if (number := getattr(signal, name, None)) is not None
}


class Signals:
    """What the signals do to the run that is guarded; where none is, they end the command.

    Ctrl-C once drains, twice stops now, three times ends the process at once, which costs the items in flight only.
    SIGTERM and SIGHUP stop now. Handlers only steer, which is safe at any moment; whoever waits for the run tells of
    it. What was ignored when the process began (nohup) stays ignored.
    """

    def __init__(self) -> None:
        self.interrupts = 0
        self.ended_by: int | None = None  # the exit code of the signal that ended the run
        self._handle: RunHandle | None = None
        self._held = False
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may have handlers
        for number in (signal.SIGINT, *_ENDING):
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._received)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def hold(self) -> None:
        """Keep what comes until `guard` says which run it is for: one that is being started must not be left behind."""
        self._held = True

    def guard(self, handle: RunHandle) -> None:
        """From now on signals go to this run."""
        self._handle = handle
        if self.exit_code is not None:
            handle.stop("drain" if self.ended_by is None and self.interrupts == 1 else "now")

    def release(self) -> None:
        """From now on signals end the command."""
        self._handle, self._held = None, False

    @property
    def exit_code(self) -> int | None:
        """The exit code that the signals so far ask for."""
        if self.ended_by is not None:
            return self.ended_by
        return Exit.INTERRUPTED if self.interrupts else None

    def _received(self, number: int, frame: FrameType | None) -> None:
        handle = self._handle
        if handle is None and not self._held:
            raise Terminated(_ENDING[number]) if number in _ENDING else KeyboardInterrupt
        if number in _ENDING:
            self.ended_by = _ENDING[number]
        else:
            self.interrupts += 1
            if self.interrupts > 2:
                os._exit(Exit.INTERRUPTED)
        if handle is not None:
            handle.stop("drain" if self.ended_by is None and self.interrupts == 1 else "now")
