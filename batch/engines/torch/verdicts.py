"""What a trial at load found of a model on this machine, remembered, so that the next start need not try again.

A verdict stands in the user's cache folder under a name made of all that it depends on: the weights' files (place,
size, time of change), the libraries, the kernels, the processor, the engine's own sources and the trial itself. What
changes is tried anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

MOST = 200  # verdicts that are kept; the oldest go
LIBRARIES = ("torch", "transformers", "gguf")


def key(files: Iterable[Path], *settings: object) -> str:
    """The name of a verdict on weights in such files, under such settings; "" where a file cannot be seen."""
    try:
        seen = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(files)]
    except OSError:
        return ""
    return hashlib.sha256(repr((seen, _versions(), _sources(), settings)).encode()).hexdigest()[:32] if seen else ""


def find(name: str) -> tuple[str, str] | None:
    """The precision that was settled on, and what was said of it; None where nothing, or nothing sound, is kept."""
    kept = read(name)
    precision, said = kept.get("precision"), kept.get("said")
    return (precision, said) if isinstance(precision, str) and isinstance(said, str) else None


def keep(name: str, precision: str, said: str) -> None:
    """Remember what was settled on; where that cannot be done the next start tries again."""
    write(name, {"precision": precision, "said": said})


def read(name: str) -> dict[str, Any]:
    """What is remembered under a name; nothing where that is no object of JSON."""
    try:
        kept = json.loads((_folder() / f"{name}.json").read_bytes()) if name else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def write(name: str, verdict: Mapping[str, Any]) -> None:
    """Remember an object of JSON under a name, where that can be done."""
    if not name:
        return
    with contextlib.suppress(OSError):
        folder = _folder()
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False, encoding="utf-8") as file:
            json.dump(verdict, file)
        os.replace(file.name, folder / f"{name}.json")
        kept = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[MOST:]:
            path.unlink(missing_ok=True)


def _folder() -> Path:
    import platformdirs

    folder = platformdirs.user_cache_path("ai-router") / "trials"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise PermissionError(f"{folder} is open to others")
    return folder


@cache
def _versions() -> list[str]:
    found = []
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return found


@cache
def _sources() -> list[tuple[str, int, int]]:
    """The files of this engine as they are, size and time of change."""
    here = Path(__file__).parent
    found = [(path, path.stat()) for path in sorted(here.glob("**/*.py"))]
    return [(str(path.relative_to(here)), seen.st_size, seen.st_mtime_ns) for path, seen in found]
