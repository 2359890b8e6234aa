"""Stands in for what records CUDA graphs: keeps what it was given, and does it again when replayed."""

from __future__ import annotations

from collections.abc import Callable


class Recording:
    """What a CUDA graph is to its user: does again what was recorded, over the same addresses."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        self.function()


class Recorder:
    """Stands in for `CudaRecorder`: keeps what it was given, and refuses at the recording it is told to."""

    def __init__(self, refuses: int | None = None) -> None:
        self.warmed = 0
        self.recordings: list[Recording] = []
        self._refuses = refuses

    def warm_up(self, function: Callable[[], None]) -> None:
        self.warmed += 1
        function()

    def record(self, function: Callable[[], None]) -> Recording:
        if len(self.recordings) == self._refuses:
            raise RuntimeError("operation not permitted when stream is capturing\nand what more there is to say")
        self.recordings.append(Recording(function))
        return self.recordings[-1]


class Recorders(list[Recorder]):
    """Makes them, and keeps them."""

    def __init__(self, refuses: int | None = None) -> None:
        super().__init__()
        self._refuses = refuses

    def __call__(self) -> Recorder:
        self.append(Recorder(self._refuses))
        return self[-1]

    @property
    def replays(self) -> int:
        return sum(recording.replays for recorder in self for recording in recorder.recordings)
