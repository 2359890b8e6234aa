"""Files of prompts that were used lately, and those that lie in the workspace."""

from __future__ import annotations

from pathlib import Path

from ai_router.memory import Memory, MemoryFileError
from ai_router.settings import Workspace
from batch.sources import FILE_ENDINGS

KEY = "files.recent"
KEPT = 20
MOST = 200
PASSED_OVER = frozenset({"checkpoints", "outputs", "models", "node_modules", "__pycache__"})


def note_file(workspace: Workspace, path: Path) -> None:
    """Remember that a file was used just now; where that cannot be kept, it is not."""
    memory = Memory(workspace.checkpoints)
    name = str(path.absolute())
    try:
        memory.keep(KEY, [name, *(other for other in _kept(memory) if other != name)][:KEPT])
    except MemoryFileError:
        return


def known_files(workspace: Workspace) -> list[Path]:
    """Those used lately that are still there, the last one first; then those of the workspace and its folders."""
    found = {Path(name): None for name in _kept(Memory(workspace.checkpoints)) if Path(name).is_file()}
    endings = tuple(FILE_ENDINGS)
    for pattern in ("*", "*/*"):
        for path in sorted(workspace.root.glob(pattern)):
            parts = path.relative_to(workspace.root).parts
            if len(found) >= MOST:
                break
            hidden = any(part.startswith(".") for part in parts) or parts[0] in PASSED_OVER
            if not hidden and path.name.endswith(endings) and path.is_file():
                found.setdefault(path, None)
    return list(found)


def _kept(memory: Memory) -> list[str]:
    kept = memory.recall(KEY, [])
    return [name for name in kept if isinstance(name, str)] if isinstance(kept, list) else []
