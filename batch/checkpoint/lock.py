"""One runner a job: a lock file that the operating system releases when its owner dies.

The lock goes by the real file: it stands beside what a symbolic link leads to, and a second one, in the system's
folder for temporary files, is named by device and inode, which all hard links share.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from batch.errors import CheckpointError, checkpoint_error

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

    def _is_locked(path: Path) -> bool:
        for _ in range(5):  # someone else may be looking just now
            with open(path, "r+", encoding="utf-8") as file:
                if _try_lock(file):
                    return False
            time.sleep(0.01)
        return True
else:
    import fcntl

    def _try_lock(file: IO[str]) -> bool:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _is_locked(path: Path) -> bool:
        with open(path, encoding="utf-8") as file:
            try:
                # Shared: those who only look do not take each other for a runner.
                fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False


@dataclass(frozen=True, slots=True)
class LockOwner:
    """Who runs a job."""

    pid: int
    since: str


def lock_path(checkpoint: Path) -> Path:
    """`batch_<id>.lock` beside the checkpoint, or beside what it is a link to."""
    real = Path(os.path.realpath(checkpoint)) if checkpoint.is_symlink() else checkpoint
    return real.with_suffix(".lock")


class JobLock:
    """The right to run one job; held from `acquire` to `release` or the death of the process."""

    def __init__(self, checkpoint: Path) -> None:
        self.path = lock_path(checkpoint)
        self._checkpoint = checkpoint
        self._file: IO[str] | None = None
        self._shared: IO[str] | None = None  # the lock of all hard links

    def acquire(self) -> None:
        """Take the lock or raise `CheckpointError` naming the owner. A dead owner's lock is free."""
        deadline = time.monotonic() + 0.3  # someone may be looking at the lock for a moment
        while not self._try():
            if time.monotonic() > deadline:
                raise self._refusal(_read_owner(self.path))
            time.sleep(0.02)
        try:
            self._acquire_links(deadline)
        except BaseException:
            self.release()
            raise

    @property
    def held(self) -> bool:
        """Whether it was acquired, and not given back yet."""
        return self._file is not None

    def try_acquire(self) -> bool:
        """Take the lock if it is free at this moment."""
        if not self._try():
            return False
        try:
            self._acquire_links(0)
        except CheckpointError:
            self.release()
            return False
        return True

    def _try(self) -> bool:
        try:
            file = _take(self.path)
            if file is None:
                return False
            self._file = file
            _write_owner(file)
        except OSError as error:
            self.release()
            raise checkpoint_error(f"Cannot write beside the checkpoint {self.path}", error) from error
        return True

    def _acquire_links(self, deadline: float) -> None:
        """The lock that hard links share; without a folder for it, a file with several names is not run."""
        try:
            found = self._checkpoint.stat()
        except OSError:
            return  # it is about to be made
        try:
            path = _links_path(found)
            while (file := _take(path)) is None:
                if time.monotonic() > deadline:
                    raise self._refusal(_read_owner(path))
                time.sleep(0.02)
        except OSError as error:
            if found.st_nlink > 1:
                raise CheckpointError(f"{self._checkpoint} has several names, and cannot be locked: {error}") from error
            return
        self._shared = file
        own = Path(os.path.realpath(self._checkpoint))
        if (other := _left_log(file, own)) is not None:
            raise CheckpointError(f"{self._checkpoint} was last run as {other}, which still has a log; resume it there")
        with suppress(OSError):
            _write_owner(file, own)

    def _refusal(self, owner: LockOwner | None) -> CheckpointError:
        who = f"process {owner.pid}" if owner else "another process"
        job_id = self.path.stem.removeprefix("batch_")
        return CheckpointError(f"Job {job_id} is being run by {who}; follow it with: ai-router watch {job_id}")

    def release(self) -> None:
        """Give the lock back and remove its file."""
        shared, self._shared = self._shared, None
        file, self._file = self._file, None
        for held in (shared, file):
            if held is None:
                continue
            if sys.platform == "win32":
                held.close()  # an open file cannot be removed there
            with suppress(OSError):
                Path(held.name).unlink()
            held.close()


def _take(path: Path) -> IO[str] | None:
    """The locked file, or None where another process has it; OSError where it cannot be made."""
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - held until release
    # The owner before may have removed the file between our open and our lock.
    if not _try_lock(file) or not _same_file(file, path):
        file.close()
        return None
    return file


def _write_owner(file: IO[str], checkpoint: Path | None = None) -> None:
    file.seek(0)
    file.truncate()
    owner = {"pid": os.getpid(), "since": time.strftime("%Y-%m-%dT%H:%M:%S")}
    json.dump(owner | ({"path": str(checkpoint)} if checkpoint else {}), file)
    file.flush()


def _left_log(file: IO[str], own: Path) -> Path | None:
    """The other name under which a killed run left answers in a log: SQLite finds a log by its file's name."""
    try:
        file.seek(0)
        other = Path(json.loads(file.read())["path"])
        if other != own and os.path.samefile(other, own) and os.path.getsize(f"{other}-wal") > 0:
            return other
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _links_path(found: os.stat_result) -> Path:
    """Where the lock of a file's hard links stands: in a folder of this user's own."""
    folder = Path(tempfile.gettempdir()) / f"ai-router-locks-{os.getuid() if hasattr(os, 'getuid') else 0}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.lstat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is somebody else's")
    return folder / f"{found.st_dev:x}-{found.st_ino:x}.lock"


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
    """Who runs this job now, under whatever name, or None when nobody does."""
    if (owner := _owner(lock_path(checkpoint))) is not None:
        return owner
    try:
        found = checkpoint.stat()
        return _owner(_links_path(found)) if found.st_nlink > 1 else None
    except OSError:
        return None


def _owner(path: Path) -> LockOwner | None:
    try:
        if not _is_locked(path):
            return None
    except FileNotFoundError:
        return None
    except OSError:
        return _read_owner(path)
    for _ in range(5):  # it may be writing who it is
        if owner := _read_owner(path):
            return owner
        time.sleep(0.01)
    return LockOwner(0, "")
