"""Models that Ollama has pulled, run without Ollama: a manifest names the blob that is the GGUF file. Read only.

`manifests/<registry>/<namespace>/<model>/<tag>` is JSON whose layers have a media type and a digest `sha256:<hex>`; the
blob is `blobs/sha256-<hex>`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ai_router.models.discovery.describe import describe
from ai_router.models.own import of_ollama
from ai_router.models.spec import ModelSpec
from ai_router.settings import Workspace
from batch.engines.places import open_file

MODEL = "application/vnd.ollama.image.model"
ADAPTER = "application/vnd.ollama.image.adapter"
PARAMS = "application/vnd.ollama.image.params"
SYSTEM = "application/vnd.ollama.image.system"
SERVICE = Path("/usr/share/ollama/.ollama/models")  # where Ollama runs as a service of Linux
_DIGEST = re.compile(r"^sha256[:-][0-9a-f]{64}$")
_LONGEST_MANIFEST = 2**20
_MOST = 1000


def folders() -> list[Path]:
    """Where Ollama keeps models: $OLLAMA_MODELS, else the user's folder and the service's."""
    if named := os.environ.get("OLLAMA_MODELS"):
        return [Path(named)]
    try:
        return [Path.home() / ".ollama" / "models", SERVICE]
    except RuntimeError:  # nobody's home
        return [SERVICE]


def find(workspace: Workspace) -> Iterable[ModelSpec]:
    """Each tag of each model; one whose blob is gone is not ready and says so."""
    for root in folders():
        yield from _in(root)


def _in(root: Path) -> Iterator[ModelSpec]:
    for count, manifest in enumerate(sorted((root / "manifests").glob("*/*/*/*"))):
        if count >= _MOST:
            return
        *_, namespace, model, tag = manifest.parts
        name = f"{model}:{tag}" if namespace == "library" else f"{namespace}/{model}:{tag}"
        spec_id = f"ollama/{name}"
        try:
            blobs = _layers(root, manifest)
            blob, sampling = blobs[MODEL], _said(blobs)
        except (OSError, ValueError) as error:
            said = f"Ollama's manifest {manifest} cannot be read: {error}"
            yield ModelSpec(spec_id, name, "gguf", manifest, "Ollama", ready=False, why=said)
            continue
        if not blob.is_file():
            said = f"its weights are gone ({blob}): ollama pull {name} fetches them again"
            yield ModelSpec(spec_id, name, "gguf", blob, "Ollama", ready=False, why=said)
            continue
        spec = describe(blob, id=spec_id, name=name, source="Ollama", sampling=sampling)
        if ADAPTER in blobs and spec.ready:
            spec = replace(spec, ready=False, why="it has an adapter over its weights: ask Ollama's server for it")
        yield spec


def _said(blobs: dict[str, Path]) -> dict[str, Any]:
    """The parameters and the system prompt that the model has in Ollama."""
    params: Any = {}
    system = ""
    try:
        if PARAMS in blobs:
            params = json.loads(_text(blobs[PARAMS]))
        if SYSTEM in blobs:
            system = _text(blobs[SYSTEM])
    except (OSError, ValueError, RecursionError):  # it answers without them
        pass
    return of_ollama(params if isinstance(params, dict) else {}, system)


def _text(file: Path) -> str:
    if file.stat().st_size > _LONGEST_MANIFEST:
        raise ValueError("it is too long")
    with open_file(file) as stream:
        return stream.read().decode("utf-8")


def _layers(root: Path, manifest: Path) -> dict[str, Path]:
    """The blobs by their media types; raises ValueError where there are no weights."""
    if manifest.stat().st_size > _LONGEST_MANIFEST:
        raise ValueError("it is too long")
    with open_file(manifest) as file:
        said: Any = json.loads(file.read())
    blobs: dict[str, Path] = {}
    layers = said.get("layers") if isinstance(said, dict) else None
    for layer in layers if isinstance(layers, list) else []:
        kind, digest = (layer.get("mediaType"), layer.get("digest")) if isinstance(layer, dict) else (None, None)
        if isinstance(kind, str) and isinstance(digest, str) and _DIGEST.match(digest):
            blobs.setdefault(kind, root / "blobs" / digest.replace(":", "-"))
    if MODEL not in blobs:
        raise ValueError("it names no weights")
    return blobs
