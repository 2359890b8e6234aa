"""What a start does before torch is there: it looks for what earlier ones kept, and reads that while torch is imported.

Importing torch takes longer than all else of a usual start. Its library loads in a thread (`importing.ahead`), the kept
tokenizer is made in another and kept weights are read in a third; none of them needs torch's Python.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.engines.gguf.header import GgufHeader
from batch.engines.local.folder import stay_offline
from batch.engines.torch import building, gguf_file, importing, shelf, verdicts
from batch.engines.torch.asked import GENERATION
from batch.engines.torch.lean import kept
from batch.errors import FatalError, MissingExtraError

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
OTHERS = ("*.json", "*.jinja", "*/*.jinja", "*.model", "*.txt", "*.tiktoken")  # what else a model may be made of
TRIED = ("auto", "bf16", "int8", "int4")  # precisions of which a trial says something
NARROWED = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")  # by which a user has less of the processor used


@dataclass(frozen=True, slots=True)
class Start:
    """A model's files, and what is remembered of them on this machine."""

    header: GgufHeader | None
    own: list[Path]  # all files that its numbers and words are made of
    verdict: str  # the name under which what a trial said of its precision is remembered; "" where nothing is
    settled: tuple[str, str] | None  # that: a precision, and what it costs
    entry: shelf.Entry | None  # weights that were packed in that precision
    words: Callable[[], Any]  # the tokenizer that was kept, or None; waits for it

    def name(self, *settings: object) -> str:
        """The name under which something else of the same model is remembered: weights, a runner."""
        return named(self.files, *settings)

    @property
    def files(self) -> list[Path]:
        """Its own, and the kernels that compute with them."""
        library = building.found().path
        return [*self.own, *([library] if library else [])]


def begin(place: Path, asked: str, adapter: Path | None, *, lean: bool) -> Start:
    """Find what there is of a model in a folder or a GGUF file; raises FatalError where that is no such file.

    What was kept is only asked for where `lean`, and where no adapter is merged into it.
    """
    importing.ahead()
    header = gguf_file.open_header(place) if place.is_file() else None
    own = _files(place, header, adapter)
    lean = lean and adapter is None
    words = _beside(lambda: kept.find(named(own, "tokenizer"))) if lean else lambda: None
    start = Start(header, own, "", None, None, words)
    if asked not in TRIED or adapter is not None:
        return start
    verdict = start.name(asked)
    settled = verdicts.find(verdict)
    entry = shelf.find(start.name("weights", settled[0])) if lean and settled and settled[1] else None
    return Start(header, own, verdict, settled, entry, words)


def named(files: list[Path], *settings: object) -> str:
    """The name of what is remembered of such files on this machine; "" where one cannot be seen."""
    return verdicts.key(files, building.processor(), [os.environ.get(name) for name in NARROWED], *settings)


def kept_words(place: Path) -> Any:
    """The tokenizer that an earlier start of a folder or a GGUF file kept, or None; imports no torch."""
    header = gguf_file.open_header(place) if place.is_file() else None
    return kept.find(named(_files(place, header, None), "tokenizer"))


def torch() -> Any:
    """torch; the imports that may fail are all tried here."""
    with _told():
        return importing.torch()


def small_libraries() -> None:
    """What a start needs beside torch, loaded first: a library that is loaded while torch's is has to wait for it."""
    stay_offline()
    with _told():
        import jinja2  # noqa: F401 - chat templates; transformers names it only when one is used
        import tokenizers  # noqa: F401


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What cannot be imported, in words."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError("local", "The torch engine") from error
    except OSError as error:  # a library of the system that torch was built for
        raise FatalError(f"torch cannot be imported: {error}") from error


def _beside(find: Callable[[], Any]) -> Callable[[], Any]:
    """What waits for something that is looked for in a thread."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(find()), name="words", daemon=True)
    thread.start()

    def wait() -> Any:
        thread.join()
        return found[0] if found else None

    return wait


def _files(place: Path, header: GgufHeader | None, adapter: Path | None) -> list[Path]:
    """All files that a model's numbers and words are made of."""
    folders = [folder for folder in (place if header is None else None, adapter) if folder is not None]
    beside = [place.parent / GENERATION] if header is not None and (place.parent / GENERATION).is_file() else []
    own = [path for folder in folders for pattern in (*WEIGHTS, *OTHERS) for path in folder.glob(pattern)]
    return [*own, *beside, *(header.files if header is not None else ())]
