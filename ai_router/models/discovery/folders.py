"""Models in the workspace's models folder: folders with a config.json, GGUF files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ai_router.models.discovery.describe import describe
from ai_router.models.spec import ModelSpec
from ai_router.settings import Workspace
from batch.engines.gguf.header import part_number
from batch.engines.places import form_of

_SPLIT_TAIL = re.compile(r"-\d{5}-of-\d{5}$")


def find(workspace: Workspace) -> Iterable[ModelSpec]:
    """Each of them."""
    for config in sorted(workspace.models_dir.glob("*/config.json")):
        yield describe(config.parent, source="found")
    yield from gguf_models(workspace.models_dir, ("*.gguf", "*/*.gguf"))


def gguf_models(root: Path, patterns: Iterable[str], *, source: str = "found", prefix: str = "") -> Iterable[ModelSpec]:
    """The GGUF models below a folder: of split ones the first part, and no projectors or adapters."""
    for pattern in patterns:
        for file in sorted(root.glob(pattern)):
            if part_number(file) != 1 or form_of(file) != "gguf":
                continue
            name = _SPLIT_TAIL.sub("", file.stem)
            spec = describe(file, id=f"{prefix}{name}", name=name, source=source)
            if "LoRA adapter" not in spec.why:
                yield spec
