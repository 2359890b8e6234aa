"""Feature tables on disk, read block by block: never more of one in memory than asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray


class FeatureTable:
    """A table [rows, width] that stays on disk."""

    rows: int
    width: int

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop`, in the type they are stored in."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.rows


def open_features(path: Path) -> FeatureTable:
    """Open `.npy`, `.pt` or `.safetensors`; SemanticIdError when there is no table of numbers [rows, width] in it."""
    raise NotImplementedError
