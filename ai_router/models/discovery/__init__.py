"""What lies on this machine: each finder looks in one kind of place and yields what it finds, never raising.

A finder is one file and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ai_router.models.discovery import folders, huggingface
from ai_router.models.discovery.describe import describe, describe_folder
from ai_router.models.spec import ModelSpec
from ai_router.settings import Workspace

Finder = Callable[[Workspace], Iterable[ModelSpec]]
FINDERS: tuple[tuple[str, Finder], ...] = (
    ("the models folder", folders.find),
    ("the Hugging Face cache", huggingface.find),
)

__all__ = ["FINDERS", "describe", "describe_folder", "found"]


def found(workspace: Workspace, skipped: list[str]) -> Iterator[ModelSpec]:
    """All that the finders find; of what one cannot read, a sentence goes to `skipped` and the others go on."""
    for where, find in FINDERS:
        try:
            yield from find(workspace)
        except Exception as error:  # a finder at fault must not take the other models with it
            skipped.append(f"{where} cannot be read: {type(error).__name__}: {' '.join(str(error).split())}")
