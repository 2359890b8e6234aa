"""Models in the workspace's models folder: folders with a config.json, GGUF files."""

from __future__ import annotations

from collections.abc import Iterable

from ai_router.models.discovery.describe import describe
from ai_router.models.spec import ModelSpec
from ai_router.settings import Workspace


def find(workspace: Workspace) -> Iterable[ModelSpec]:
    """Each of them."""
    for config in sorted(workspace.models_dir.glob("*/config.json")):
        yield describe(config.parent, source="found")
