"""Checkpoints appear whole and never in the place of another; what killed processes left on the way is swept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batch.checkpoint.lock import JobLock
from batch.errors import CheckpointError

_ADOPTING = ".adopting-"


def place(temporary: Path, path: Path) -> None:
    """Give a whole file its name, on the disk when this returns. Raises CheckpointError where there is one already."""
    _sync(temporary)
    try:
        os.link(temporary, path)  # unlike a rename, it never replaces
    except FileExistsError:
        raise CheckpointError(f"Checkpoint {path} exists already; load it to go on with it") from None
    except OSError:  # a file system without hard links
        if path.exists():
            raise CheckpointError(f"Checkpoint {path} exists already; load it to go on with it") from None
        os.rename(temporary, path)
    else:
        temporary.unlink()
    _sync(path.parent)


@contextmanager
def aside(database: Path) -> Iterator[Path]:
    """A folder beside a checkpoint-to-be, to make it in; gone afterwards. Whoever asks holds the checkpoint's lock."""
    with tempfile.TemporaryDirectory(prefix=f"{_ADOPTING}{database.stem}-", dir=database.parent) as folder:
        yield Path(folder)


def sweep(directory: Path) -> None:
    """Remove what processes that died left half made. What a living one makes is under its lock, and stays."""
    for left in directory.glob("batch_*.tmp"):
        _remove(left, left.name.removesuffix(".tmp").removesuffix(".live"))
    for left in directory.glob(f"{_ADOPTING}batch_*-*"):
        _remove(left, left.name.removeprefix(_ADOPTING).rpartition("-")[0])


def _remove(left: Path, stem: str) -> None:
    lock = JobLock(left.with_name(f"{stem}.db"))
    with suppress(CheckpointError, OSError):  # somebody has it, or it may not be removed
        if not lock.try_acquire():
            return
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink()
    lock.release()


def _sync(path: Path) -> None:
    """Bring a file or a folder to the disk; folders cannot be synced everywhere."""
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)
