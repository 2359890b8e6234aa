"""Whether weights were found before, at another place: the same file or folder, or a copy of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ai_router.models.spec import ModelSpec

# What tells a file from another of its size: its ends, and pieces all through it, of which a change to a hundredth of
# the weights (one layer's matrix) is all but sure to hit one.
_ENDS = 2**18  # bytes
_PIECES, _PIECE = 512, 2**12  # how many, and bytes of each
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
# Of a folder, what makes another model of the same weights.
_TEXTS = ("config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja")
_MOST_FILES = 1000


class Seen:
    """The weights that were found so far, each with the id it is listed by.

    Weights that have a system prompt of their own in one place are another model there.
    """

    def __init__(self, specs: Iterable[ModelSpec] = ()) -> None:
        self._places: dict[tuple[Path, str], str] = {}
        self._sizes: dict[tuple[int, str], list[tuple[Path, str]]] = {}
        for spec in specs:
            # What cannot run hides nothing that can, and a base is no less there for an adapter over it.
            if spec.ready and spec.adapter is None:
                self.same_as(spec)

    def same_as(self, spec: ModelSpec) -> str:
        """The id under which a model's weights were seen; "" where they were not, and from now on they were."""
        if spec.is_remote:
            return ""
        try:
            place = spec.path.resolve()
        except (OSError, RuntimeError):
            return ""
        system = str(spec.sampling.get("system") or "")
        if known := self._places.get((place, system)):
            return known
        # Only what is of one size is read: of most there is one.
        alike = self._sizes.setdefault((spec.size_bytes or 0, system), [])
        known = ""
        if spec.size_bytes:
            digest = _digest(place) if alike else ""
            known = next((name for other, name in alike if _digest(other) == digest), "")
            if not known:
                alike.append((place, spec.id))
        self._places[place, system] = known or spec.id
        return known


def _digest(place: Path) -> str:
    """Of what a model is made of; its own path where it cannot be read, which is like nothing else."""
    sha = hashlib.sha256()
    try:
        for file in _files(place):
            with file.open("rb") as stream:
                size = file.stat().st_size
                sha.update(b"%d:" % size + stream.read(_ENDS))
                for at in range(_ENDS, size - _ENDS, max(size // _PIECES, _PIECE)):
                    stream.seek(at)
                    sha.update(stream.read(_PIECE))
                stream.seek(max(_ENDS, size - _ENDS))
                sha.update(stream.read(_ENDS))
    except OSError:
        return str(place)
    return sha.hexdigest()


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    for pattern in _WEIGHTS:
        yield from sorted(place.glob(pattern))[:_MOST_FILES]
    yield from (file for name in _TEXTS if (file := place / name).is_file())
