"""A model's folder on a node: through the cluster's object store, unpacked once a node, or from the hub's cache."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, cast

from batch.errors import FatalError

PLACES = ("path", "adapter_path")  # of what an engine is told of a model, what lies on a disk
PIECE, BLOCK = 2**26, 2**20  # bytes of a piece in the object store, and of a write to it
# Of a repository of the hub: no code, no weights in other forms, of which there may be several times as many bytes.
FROM_HUB = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


Shipped = tuple[str, Sequence[Any]]  # a name that tells the content, and the pieces of a tar, by reference


class _Pieces:
    """A file that keeps what is written to it in pieces, of which one is in memory."""

    def __init__(self, put: Callable[[bytes], Any]) -> None:
        self.kept: list[Any] = []
        self.hash = hashlib.sha256()
        self._put, self._piece = put, bytearray()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self._piece += data
        if len(self._piece) >= PIECE:
            self.end()
        return len(data)

    def end(self) -> None:
        self.kept.append(self._put(bytes(self._piece)))
        self._piece.clear()


class _Joined:
    """Pieces as one file, each asked for when the one before it is read."""

    def __init__(self, pieces: Sequence[Any], get: Callable[[Any], bytes]) -> None:
        self._left, self._get = list(reversed(pieces)), get
        self._piece = io.BytesIO()

    def read(self, size: int) -> bytes:
        while not (data := self._piece.read(size)) and self._left:
            self._piece = io.BytesIO(self._get(self._left.pop()))
        return data


def pack(place: Path, put: Callable[[bytes], Any]) -> Shipped:
    """A folder or file as a tar whose pieces `put` has taken. Raises FatalError, and whatever `put` does."""
    pieces = _Pieces(put)
    try:
        with tarfile.open(fileobj=cast(IO[bytes], pieces), mode="w|", dereference=True, bufsize=BLOCK) as tar:
            tar.add(place, arcname=place.name or "model")
    except OSError as error:
        raise FatalError(f"the model {place} cannot be sent along: {error.strerror or error}") from error
    pieces.end()
    return f"{pieces.hash.hexdigest()[:32]}/{place.name or 'model'}", pieces.kept


def size_of(place: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(path.stat().st_size for path in (place, *place.rglob("*")) if path.is_file())


def unpack(shipped: Shipped, get: Callable[[Any], bytes], folder: Path | None = None) -> Path:
    """Where the model is on this node; written there if nobody has done so yet, from the pieces that `get` gives."""
    name, pieces = shipped
    owner = os.getuid() if hasattr(os, "getuid") else 0
    base = folder or Path(tempfile.gettempdir()) / f"ai-router-models-{owner}"
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and base.stat().st_uid != owner:
        raise FatalError(f"{base} belongs to another user; remove it")
    key, _, inner = name.partition("/")
    target = base / key
    if not target.exists():
        making = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=base))
        try:
            with tarfile.open(fileobj=cast(IO[bytes], _Joined(pieces, get)), mode="r|", bufsize=BLOCK) as tar:
                tar.extractall(making, filter="data")
            making.rename(target)
        except OSError as error:
            shutil.rmtree(making, ignore_errors=True)
            if not target.exists():  # else another actor of this node was faster
                raise FatalError(f"the model cannot be unpacked in {base}: {error.strerror or error}") from error
    return target / inner


def from_hub(repo: str) -> Path:
    """Where a model of the hub lies on this node, `ORG/MODEL`: in its cache, fetched if it is not there yet.

    Raises FatalError with what can be done. HF_HUB_CACHE, HF_ENDPOINT and HF_TOKEN are the node's own.
    """
    offline = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "0"  # the engines set it, which are never to fetch anything; read on import
    try:
        import huggingface_hub as hub

        endpoint, cache = os.environ.get("HF_ENDPOINT"), os.environ.get("HF_HUB_CACHE")
        return Path(hub.snapshot_download(repo, allow_patterns=list(FROM_HUB), endpoint=endpoint, cache_dir=cache))
    except ImportError:
        raise FatalError(f'{repo} is on the hub: pip install "ai-router[hub]" on every node') from None
    except Exception as error:  # the library raises whatever its parts do
        hint = "put it on a path that every node has, or send it along with --ship-model"
        text = " ".join(str(error).split())[:300]
        raise FatalError(f"{repo} cannot be fetched from the hub ({type(error).__name__}: {text}); {hint}") from error
    finally:
        if offline is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = offline
