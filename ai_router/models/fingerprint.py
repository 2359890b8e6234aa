"""Whether the weights at a place are still those that a job began with.

A fingerprint has, of every file that decides what a model answers, its name, size, time of change and a hash: of small
files of all of it, of weights of their header and of samples spread over them. Where only times differ, the samples
decide; they cost a few megabytes of reading a file, whatever its size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ai_router.models.spec import ModelSpec

_WEIGHTS = (".safetensors", ".gguf", ".bin", ".npz")
_SMALL = (".json", ".jinja", ".model", ".txt")
_WHOLE = 32 * 2**20  # files up to this size are hashed whole
_HEADER = 4 * 2**20  # of larger ones, this much from the start
_SAMPLE, _SAMPLES = 2**16, 64
_MOST_FILES = 2000
_SHOWN = 3


def fingerprint(spec: ModelSpec) -> dict[str, Any]:
    """The fingerprint of a model, as JSON; of a server's model, its address and engine. Never raises."""
    if spec.is_remote:
        return {"place": str(spec.place)}
    made: dict[str, Any] = {"place": str(spec.path), "files": dict(_files(spec.path))}
    if spec.adapter is not None:
        made["adapter"] = dict(_files(spec.adapter))
    return made


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two fingerprints, as the end of a sentence ("" where nothing that counts does)."""
    if before.get("place") != now.get("place") and "files" not in before and "files" not in now:
        return f"it was at {before.get('place')} and is at {now.get('place')} now"
    for key, called in (("files", ""), ("adapter", "of the adapter, ")):
        if problem := _difference(_as_files(before.get(key)), _as_files(now.get(key))):
            return called + problem
    return ""


def _as_files(value: Any) -> dict[str, list[Any]]:
    if not isinstance(value, Mapping):
        return {}
    return {str(name): list(facts) for name, facts in value.items() if isinstance(facts, list) and len(facts) == 3}


def _difference(before: Mapping[str, list[Any]], now: Mapping[str, list[Any]]) -> str:
    def named(names: list[str]) -> str:
        return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")

    gone = [name for name in before if name not in now]
    come = [name for name in now if name not in before]
    both = [name for name in before if name in now]
    # Times alone say nothing: a copy or a checkout has new ones.
    other = [name for name in both if (before[name][0], before[name][2]) != (now[name][0], now[name][2])]
    parts = (("changed: ", other), ("gone: ", gone), ("new: ", come))
    return "; ".join(f"{what}{named(names)}" for what, names in parts if names)


def _files(place: Path) -> Iterator[tuple[str, list[Any]]]:
    """Name, and [size, time in ns, hash], of each file that counts."""
    try:
        files = [place] if place.is_file() else sorted(place.iterdir())[:_MOST_FILES]
    except OSError:
        return
    for file in files:
        # The file itself counts whatever it is called: Ollama's have no suffix.
        if file != place and (file.suffix not in (*_WEIGHTS, *_SMALL) or file.name.startswith(".")):
            continue
        try:
            if file.is_file():
                facts = file.stat()
                yield file.name, [facts.st_size, facts.st_mtime_ns, _hash(file, facts.st_size)]
        except OSError:
            yield file.name, [-1, 0, ""]


def _hash(file: Path, size: int) -> str:
    sha = hashlib.sha256()
    with file.open("rb") as stream:
        if size <= _WHOLE:
            sha.update(stream.read())
            return sha.hexdigest()[:32]
        sha.update(stream.read(_HEADER))
        for n in range(_SAMPLES):
            stream.seek(_HEADER + (size - _HEADER - _SAMPLE) * n // (_SAMPLES - 1))
            sha.update(stream.read(_SAMPLE))
    return sha.hexdigest()[:32]
