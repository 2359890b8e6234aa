"""One runner a job: a lock file that the operating system releases when its owner dies."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from batch.errors import CheckpointError

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[str]) -> bool:
        try:
            # A byte far behind the text, so that others can still read who the owner is.
            file.seek(1 << 20)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(file: IO[str]) -> bool:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class LockOwner:
    """Who runs a job."""

    pid: int
    since: str


def lock_path(checkpoint: Path) -> Path:
    """`batch_<id>.lock` beside the checkpoint."""
    return checkpoint.with_suffix(".lock")


class JobLock:
    """The right to run one job; held from `acquire` to `release` or the death of the process."""

    def __init__(self, checkpoint: Path) -> None:
        self.path = lock_path(checkpoint)
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock or raise `CheckpointError` naming the owner. A dead owner's lock is free."""
        deadline = time.monotonic() + 0.3  # someone may be looking at the lock for a moment
        while not self._try():
            if time.monotonic() > deadline:
                owner = _read_owner(self.path)
                who = f"process {owner.pid}" if owner else "another process"
                job_id = self.path.stem.removeprefix("batch_")
                raise CheckpointError(f"Job {job_id} is being run by {who}; follow it with: ai-router watch {job_id}")
            time.sleep(0.02)

    def _try(self) -> bool:
        try:
            file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115 - held until release
        except OSError as error:
            raise CheckpointError(f"Cannot write beside the checkpoint: {error.strerror}: {self.path}") from error
        # The owner before may have removed the file between our open and our lock.
        if not _try_lock(file) or not _same_file(file, self.path):
            file.close()
            return False
        file.seek(0)
        file.truncate()
        json.dump({"pid": os.getpid(), "since": time.strftime("%Y-%m-%dT%H:%M:%S")}, file)
        file.flush()
        self._file = file
        return True

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._file is None:
            return
        file, self._file = self._file, None
        if sys.platform == "win32":
            file.close()  # an open file cannot be removed there
        with suppress(OSError):
            self.path.unlink()
        file.close()


def _same_file(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _read_owner(path: Path) -> LockOwner | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return LockOwner(int(data["pid"]), str(data["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def lock_owner(checkpoint: Path) -> LockOwner | None:
    """Who runs this job now, or None when nobody does."""
    path = lock_path(checkpoint)
    try:
        with open(path, "r+", encoding="utf-8") as file:
            if _try_lock(file):
                return None
    except FileNotFoundError:
        return None
    except OSError:
        return _read_owner(path)
    return _read_owner(path) or LockOwner(0, "")
