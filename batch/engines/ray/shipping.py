"""A model's folder through the cluster's object store: packed once, unpacked once a node."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from batch.errors import FatalError

PLACES = ("path", "adapter_path")  # of what an engine is told of a model, what lies on a disk


def pack(place: Path) -> tuple[str, bytes]:
    """A folder or file as a name that tells its content, and a tar of it. Raises FatalError."""
    buffer = io.BytesIO()
    try:
        with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
            tar.add(place, arcname=place.name or "model")
    except OSError as error:
        raise FatalError(f"the model {place} cannot be sent along: {error.strerror or error}") from error
    data = buffer.getvalue()
    return f"{hashlib.sha256(data).hexdigest()[:32]}/{place.name or 'model'}", data


def unpack(shipped: tuple[str, bytes], folder: Path | None = None) -> Path:
    """Where the model is on this node; written there if nobody has done so yet."""
    name, data = shipped
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
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                tar.extractall(making, filter="data")
            making.rename(target)
        except OSError as error:
            shutil.rmtree(making, ignore_errors=True)
            if not target.exists():  # else another actor of this node was faster
                raise FatalError(f"the model cannot be unpacked in {base}: {error.strerror or error}") from error
    return target / inner
