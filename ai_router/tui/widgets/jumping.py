"""What a widget says of its places for jump mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from textual.geometry import Offset


@dataclass(frozen=True, slots=True)
class Target:
    """A place, and what going there does."""

    at: Offset
    go: Callable[[], object]


@runtime_checkable
class Jumpable(Protocol):
    """A widget with several places to go to; `at` of its targets are counted from its content's corner."""

    def jump_targets(self) -> Sequence[Target]:
        """Those that are in sight."""
        ...
