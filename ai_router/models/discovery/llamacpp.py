"""GGUF files that llama.cpp's programs have downloaded into their cache. Read only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from ai_router.models.discovery.folders import gguf_models
from ai_router.models.spec import ModelSpec
from ai_router.settings import Workspace


def cache_folder() -> Path | None:
    """$LLAMA_CACHE, else the system's place for caches."""
    if named := os.environ.get("LLAMA_CACHE"):
        return Path(named)
    try:
        home = Path.home()
    except RuntimeError:  # nobody's home
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "llama.cpp"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "llama.cpp"


def find(workspace: Workspace) -> Iterable[ModelSpec]:
    """Each of them."""
    root = cache_folder()
    return () if root is None else gguf_models(root, ("*.gguf",), source="llama.cpp", prefix="llama.cpp/")
