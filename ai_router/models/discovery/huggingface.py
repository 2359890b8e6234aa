"""Causal language models in the Hugging Face cache."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ai_router.models.discovery.describe import describe
from ai_router.models.discovery.folders import gguf_models
from ai_router.models.spec import ModelSpec
from ai_router.settings import Workspace
from batch.engines.local.folder import NOT_CAUSAL


def cache_folder() -> Path:
    """$HF_HUB_CACHE, else `hub` in $HF_HOME, else in ~/.cache/huggingface."""
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    try:
        return Path(os.environ.get("HF_HUB_CACHE", Path(home, "hub"))).expanduser()
    except RuntimeError:  # ~nobody
        return Path(home, "hub")


def snapshot_of(repo: str) -> Path:
    """Where `ORG/MODEL` lies in the cache, its main branch if there are several; else a path that is not there."""
    folder = cache_folder() / ("models--" + repo.replace("/", "--"))
    try:
        main = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        main = ""
    if main and "/" not in main and (place := folder / "snapshots" / main).is_dir():
        return place
    return next(iter(sorted(folder.glob("snapshots/*"))), folder / "snapshots" / "main")


def find(workspace: Workspace) -> Iterable[ModelSpec]:
    """Each snapshot, by its name on the hub; other models than causal language models are left out."""
    for config in sorted(cache_folder().glob("models--*/snapshots/*/config.json")):
        name = config.parents[2].name.removeprefix("models--").replace("--", "/")
        spec = describe(config.parent, id=name, name=name.split("/")[-1], source="found")
        if not spec.why.startswith(NOT_CAUSAL):
            yield spec
    for folder in sorted(cache_folder().glob("models--*/snapshots/*")):
        name = folder.parents[1].name.removeprefix("models--").replace("--", "/")
        yield from gguf_models(folder, ("*.gguf", "*/*.gguf"), prefix=f"{name}/")
