"""A model's folder on a node: through the cluster's object store, unpacked once a node, or from the hub's cache."""

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
# Of a repository of the hub: no code, no weights in other forms, of which there may be several times as many bytes.
FROM_HUB = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


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
