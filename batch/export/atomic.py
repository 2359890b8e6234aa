"""Files appear whole or not at all, and never in the place of a checkpoint."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from batch.errors import ExportError

# What is the disk's fault, and not that of what was asked for.
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})
_SQLITE = b"SQLite format 3\0"
_CHECKPOINT_NAME = re.compile(r"batch_.*\.(db(-wal|-shm|-journal|\.lock)?|lock)", re.DOTALL)
# Unescaped quotes cannot stand inside a JSON text, so a prompt that talks of checkpoints does not match.
_CHECKPOINT_KEYS = (rb'"job"\s*:\s*\{', rb'"prompts"\s*:\s*\[', rb'"results"\s*:\s*\[', rb'"timestamp"\s*:')
_CHUNK = 1 << 18
_OVERLAP = 64  # longer than a key and the spaces around it
_LONGEST_NAME = 100  # characters of the target's name in the temporary one: a name has at most 255 bytes


@contextlib.contextmanager
def atomic_file(
    path: Path, *, forbidden: Iterable[Path] = (), private: bool = False, new: bool = False
) -> Iterator[BinaryIO]:
    """A file to write that replaces `path` at the end of the block; if the block fails, nothing has changed.

    `private`: nobody but its owner may read it, from the first byte on. `new`: FileExistsError, of the block's end,
    where there is a file by then. A missing folder is made. A symbolic link
    stays one: what it points to is replaced. A pipe or a device is written to directly. Raises ExportError, its text
    one sentence.
    """
    with explained(path):
        target = Path(os.path.realpath(path))
        check_target(path, forbidden)
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = _mode(target)
        if mode is not None and not stat.S_ISREG(mode):
            with target.open("wb") as file:
                yield file
            return
        temporary = target.with_name(f".{target.name[:_LONGEST_NAME]}.{secrets.token_hex(4)}.tmp")
        # Not mkstemp, whose files only their owner may read.
        handle = os.open(
            temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o600 if private else 0o666
        )
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                with contextlib.suppress(OSError):  # someone else's file in a shared folder
                    os.chmod(temporary, stat.S_IMODE(mode) & (0o700 if private else 0o7777))
            if new:
                _appear(temporary, target)
            else:
                os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


class NameTakenError(FileExistsError):
    """Somebody else has made a file of that name."""


def _appear(temporary: Path, target: Path) -> None:
    """Give a whole file its name, which nobody may have taken; NameTakenError where somebody has."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise NameTakenError(str(target)) from None
    except OSError:  # a file system without hard links: an empty file takes the name first
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            raise NameTakenError(str(target)) from None
        os.replace(temporary, target)
    else:
        temporary.unlink()


def check_target(path: Path, forbidden: Iterable[Path] = ()) -> None:
    """Raise ExportError if `path` is a folder, a checkpoint, or one of the files that must stay as they are."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise ExportError(f"{path} is a folder; name a file in it")
    for other in forbidden:
        if target == Path(os.path.realpath(other)) or _same_file(target, other):
            raise ExportError(f"{path} is in use by this job and is not written over; choose another file")
    if _CHECKPOINT_NAME.fullmatch(path.name) or _CHECKPOINT_NAME.fullmatch(target.name) or is_checkpoint(target):
        raise ExportError(f"{path} is a checkpoint and is not written over; choose another file")


def is_checkpoint(path: Path) -> bool:
    """Whether an existing file holds a job: any SQLite file, or JSON with a job's prompts, results and a timestamp."""
    mode = _mode(path)
    if mode is None or not stat.S_ISREG(mode):
        return False
    with path.open("rb") as file:
        head = file.read(64)
        if head.startswith(_SQLITE):
            return True
        if not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
            return False
        file.seek(0)
        missing = list(_CHECKPOINT_KEYS)
        tail = b""
        while missing and (chunk := file.read(_CHUNK)):  # not mapped: that would count as this process's memory
            text = tail + chunk
            missing = [key for key in missing if not re.search(key, text)]
            tail = text[-_OVERLAP:]
        return not missing


@contextlib.contextmanager
def explained(path: Path | str) -> Iterator[None]:
    """Turn what the operating system says about a file that cannot be written into a sentence."""
    try:
        yield
    except (BrokenPipeError, NameTakenError):
        raise
    except OSError as error:
        failed = ExportError(_explain(path, error))
        failed.disk = error.errno in _DISK
        raise failed from error
    except ValueError as error:
        if "null byte" not in str(error) and "null character" not in str(error):
            raise
        raise ExportError(f"{str(path)!r} is no name for a file") from error


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power cut, where the system has a way to."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):  # some network file systems refuse; the rename itself has happened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _explain(path: Path | str, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full: {path} was not written"
    if error.errno == errno.EROFS:
        return f"{path} is on a disk that is read-only"
    if isinstance(error, PermissionError):
        return f"No permission to write {path}"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{path} cannot be written: {error.filename or 'its folder'} is a file, not a folder"
    return f"{path} cannot be written: {error.strerror or error}"


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _same_file(path: Path, other: Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
