"""What lies on this machine: each finder looks in one kind of place and yields what it finds, never raising.

A finder is one file and one line here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from ai_router.models.discovery import folders, huggingface, llamacpp, lmstudio, ollama
from ai_router.models.discovery.describe import describe, describe_folder
from ai_router.models.discovery.same import Seen
from ai_router.models.spec import ModelSpec
from ai_router.settings import Workspace

Finder = Callable[[Workspace], Iterable[ModelSpec]]
FINDERS: tuple[tuple[str, Finder], ...] = (
    ("the models folder", folders.find),
    ("the Hugging Face cache", huggingface.find),
    ("Ollama's models", ollama.find),
    ("LM Studio's models", lmstudio.find),
    ("llama.cpp's cache", llamacpp.find),
)
SECONDS = 5.0  # that one place may take; a folder on a sleeping disk must not hold up the others

__all__ = ["FINDERS", "describe", "describe_folder", "found"]


def found(workspace: Workspace, skipped: list[str], known: Iterable[ModelSpec] = ()) -> Iterator[tuple[ModelSpec, str]]:
    """All that the finders find; of what one cannot read, a sentence goes to `skipped` and the others go on.

    The finders look at the same time, each for `SECONDS` at most. Beside each stands the id under which its weights
    were found before, or are `known`; "" where they are new.
    """
    looks = [_Look(where, find, workspace) for where, find in FINDERS]
    seen = Seen(known)
    for look in looks:
        yield from ((spec, seen.same_as(spec)) for spec in look.result(skipped))


class _Look:
    """A finder in a thread of its own, which is left behind where it takes too long."""

    def __init__(self, where: str, find: Finder, workspace: Workspace) -> None:
        self._where, self._find, self._workspace = where, find, workspace
        self._found: list[ModelSpec] = []
        self._problem = ""
        self._until = time.monotonic() + SECONDS
        self._thread = threading.Thread(target=self._run, name=f"finding {where}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for spec in self._find(self._workspace):
                self._found.append(spec)
        except Exception as error:  # a finder at fault must not take the other models with it
            problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._problem = f"{self._where} cannot be read: {problem}"

    def result(self, skipped: list[str]) -> list[ModelSpec]:
        """What it has found by now, or at the end of its time."""
        self._thread.join(max(0.0, self._until - time.monotonic()))
        if self._thread.is_alive():
            skipped.append(f"{self._where} took longer than {SECONDS:g} s to look at; what was not seen is left out")
        elif self._problem:
            skipped.append(self._problem)
        return list(self._found)
