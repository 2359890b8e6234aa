"""Causal language models in the Hugging Face cache."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from ai_router.models.discovery.describe import describe
from ai_router.models.discovery.folders import gguf_models
from ai_router.models.spec import ModelSpec
from ai_router.settings import Workspace
from batch.engines.local.folder import NOT_CAUSAL

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


def cache_folder() -> Path:
    """$HF_HUB_CACHE, else `hub` in $HF_HOME, else in ~/.cache/huggingface."""
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    try:
        return Path(os.environ.get("HF_HUB_CACHE", Path(home, "hub"))).expanduser()
    except RuntimeError:  # ~nobody
        return Path(home, "hub")


def is_hub_id(name: str) -> bool:
    """Whether a text has the form of a model's name on the hub, `ORG/MODEL`."""
    return _HUB_ID.fullmatch(name) is not None


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
    """Each repository's causal language model, by its name on the hub, and each of its GGUF files.

    Of several snapshots the main branch's has it, and others what that has not.
    """
    folders = sorted(cache_folder().glob("models--*/snapshots/*"))
    folders.sort(key=lambda folder: folder != snapshot_of(name_on_hub(folder)))
    folders.sort(key=name_on_hub)
    found = {}
    for folder in folders:
        name = name_on_hub(folder)
        if (folder / "config.json").is_file() and name not in found:
            found[name] = describe(folder, id=name, name=name.split("/")[-1], source="found")
        for spec in gguf_models(folder, ("*.gguf", "*/*.gguf"), prefix=f"{name}/"):
            found.setdefault(spec.id, spec)
    return (spec for spec in found.values() if not spec.why.startswith(NOT_CAUSAL))


def name_on_hub(snapshot: Path) -> str:
    """`ORG/MODEL` of a snapshot in the cache (models--ORG--MODEL/snapshots/REVISION); "" of any other folder."""
    folder = snapshot.parent.parent
    cached = snapshot.parent.name == "snapshots" and folder.name.startswith("models--")
    return folder.name.removeprefix("models--").replace("--", "/", 1) if cached else ""
