"""Models that LM Studio has downloaded: `models/<publisher>/<model>/`, GGUF files or a folder for MLX. Read only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ai_router.models.discovery.describe import describe
from ai_router.models.discovery.folders import gguf_models
from ai_router.models.spec import ModelSpec
from ai_router.settings import Workspace
from batch.engines.local.folder import NOT_CAUSAL


def folders() -> list[Path]:
    """Where LM Studio keeps models, of now and before."""
    try:
        home = Path.home()
    except RuntimeError:  # nobody's home
        return []
    return [home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"]


def find(workspace: Workspace) -> Iterable[ModelSpec]:
    """Each GGUF file and each folder with a config."""
    for root in folders():
        yield from gguf_models(root, ("*/*/*.gguf",), source="LM Studio", prefix="lmstudio/")
        for config in sorted(root.glob("*/*/config.json")):
            name = config.parent.name
            spec = describe(config.parent, id=f"lmstudio/{name}", name=name, source="LM Studio")
            if not spec.why.startswith(NOT_CAUSAL):
                yield spec
