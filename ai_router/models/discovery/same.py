"""Whether weights were found before, at another place: the same file, or a copy of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ai_router.models.spec import ModelSpec

_ENDS = 2**18  # bytes of a file's beginning and end that tell it from another of the same size


class Seen:
    """The weights that were found so far."""

    def __init__(self, specs: Iterable[ModelSpec] = ()) -> None:
        self._places: set[Path] = set()
        self._sizes: dict[int, list[Path]] = {}
        for spec in specs:
            self.is_new(spec)

    def is_new(self, spec: ModelSpec) -> bool:
        """Whether a model's weights were not seen yet; from now on they were."""
        if spec.is_remote:
            return True
        try:
            place = spec.path.resolve()
        except (OSError, RuntimeError):
            return True
        if place in self._places:
            return False
        self._places.add(place)
        if not place.is_file() or not spec.size_bytes:
            return True
        alike = self._sizes.setdefault(spec.size_bytes, [])
        # Only files of one size are read: of most there is one.
        if alike and any(_ends(other) == _ends(place) for other in alike):
            return False
        alike.append(place)
        return True


def _ends(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            sha = hashlib.sha256(stream.read(_ENDS))
            stream.seek(max(0, file.stat().st_size - _ENDS))
            sha.update(stream.read(_ENDS))
    except OSError:
        return str(file)
    return sha.hexdigest()
