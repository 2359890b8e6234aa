"""Jobs that were thrown away and can still be taken back: a folder beside the checkpoints."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from batch.checkpoint.lock import lock_owner
from batch.checkpoint.schema import connect
from batch.errors import CheckpointError

FOLDER = "trash"
KEPT_DAYS = 30
# All that stands beside a checkpoint. The file itself moves after it, so that half a move is still a job, and the same
# move once more ends it. The JSON file that a job began as is never in a list without the checkpoint made of it.
BESIDE = (".db-wal", ".db-shm", ".log", ".about")
AWAY, BACK = (*BESIDE, ".json", ".db"), (*BESIDE, ".db", ".json")


def throw_away(path: Path) -> Path:
    """Move a job and what stands beside it to the trash; returns where its checkpoint is now. Refused while it runs.

    What has been there for `KEPT_DAYS` goes for good.
    """
    if owner := lock_owner(path):
        raise CheckpointError(f"Job {path.stem.removeprefix('batch_')} is being run by process {owner.pid}")
    if not path.is_file():
        raise CheckpointError(f"Checkpoint not found: {path}")
    folder = path.parent / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        _sweep(folder)
        os.utime(path)  # thrown away now; said before, or it might be swept out at once
        moved = _move(path, folder, AWAY)
    except OSError as error:
        raise CheckpointError(f"Cannot move {path} to {folder}: {error.strerror}") from error
    for suffix in (".lock", ".live", ".find"):
        with suppress(OSError):
            path.with_suffix(suffix).unlink()
    return moved


def take_back(path: Path) -> Path:
    """Move a job from the trash to where it was; returns its checkpoint. Never onto another job."""
    if not path.is_file():
        raise CheckpointError(f"{path.name} is not in the trash any more")
    try:
        return _move(path, path.parent.parent, BACK)
    except OSError as error:
        raise CheckpointError(f"Cannot move {path} back: {error.strerror}") from error


def in_trash(directory: Path) -> list[Path]:
    """The jobs of the trash of a folder of checkpoints, the last thrown away first."""
    found = [path for suffix in ("db", "json") for path in (directory / FOLDER).glob(f"batch_*.{suffix}")]
    stems = {path.stem for path in found if path.suffix == ".db"}
    found = [path for path in found if path.suffix == ".db" or path.stem not in stems]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _move(path: Path, folder: Path, suffixes: Sequence[str]) -> Path:
    target = folder / path.name
    if target.exists():
        raise CheckpointError(f"{target} is there already")
    _settle(path)
    moved: list[tuple[Path, Path]] = []
    try:
        for source in (path.with_suffix(suffix) for suffix in suffixes):
            if source.exists():
                source.replace(folder / source.name)
                moved.append((source, folder / source.name))
    except OSError:
        for source, there in reversed(moved):
            with suppress(OSError):
                there.rename(source)
        raise
    return target


def _settle(path: Path) -> None:
    """Bring what stands in the log of a killed process into the checkpoint: half a move would part the two."""
    if path.with_suffix(".db-wal").exists():
        with suppress(CheckpointError, sqlite3.Error), closing(connect(path, "write", upgrade=False)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _sweep(folder: Path) -> None:
    """Remove for good what has been here too long."""
    oldest = time.time() - KEPT_DAYS * 86400
    for path in folder.glob("batch_*"):
        with suppress(OSError):
            whole = path.with_suffix(".db")
            if (whole if whole.exists() else path).stat().st_mtime < oldest:
                path.unlink()
