"""What can go wrong with an item, in four classes, and the exceptions that carry them."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import StrEnum

_DISK_FAILS = (errno.ENOSPC, errno.EIO, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


class ErrorClass(StrEnum):
    """How a failure is to be treated.

    transient: worth another try soon (timeout, dropped connection, 429, 5xx).
    exhausted: a resource or quota ran out (memory, disk, credit); more tries of this item will not help now.
    permanent: this item can never succeed as it is (too long, invalid).
    fatal: nothing in this job can succeed (engine gone, wrong key); the job stops and stays resumable.
    """

    TRANSIENT = "transient"
    EXHAUSTED = "exhausted"
    PERMANENT = "permanent"
    FATAL = "fatal"


class Cause(StrEnum):
    """What a failure came of, where its class does not say enough for who chooses how fast, and where, to go on."""

    OTHER = ""
    RATE = "rate"  # too many requests or tokens: the other side asks to go slower
    SERVER = "server"  # the other side is overloaded, slow or unreachable; nothing is wrong with the item
    REFUSED = "refused"  # this model will not or cannot answer the item; another one may
    FILTERED = "filtered"  # a content filter holds it back; another model may have it where the user allows that


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an item has no answer. `retry_after` is in seconds, where the other side named a time."""

    error_class: ErrorClass
    message: str
    retry_after: float | None = None
    cause: Cause = Cause.OTHER


class BatchError(Exception):
    """Base of every error this library raises on purpose; its text is one sentence for the user."""

    disk = False  # whether the disk failed (full, faulty), and nothing that was asked for was wrong


class CheckpointError(BatchError):
    """A checkpoint cannot be read, written or locked."""


class DiskError(CheckpointError):
    """The disk of a checkpoint is full or faulty."""

    disk = True


def checkpoint_error(text: str, error: OSError) -> CheckpointError:
    """What the operating system says of a checkpoint, after `text`."""
    kind = DiskError if error.errno in _DISK_FAILS else CheckpointError
    return kind(f"{text}: {error.strerror or error}")


class SourceError(BatchError):
    """An input file cannot be used; the text names the file and, where there is one, line and column."""


class ExportError(BatchError):
    """An export cannot be written."""


class UnknownFormatError(ExportError, ValueError):
    """There is no export format of that name; a ValueError as well, as the reference raises one."""


class Interrupted(BatchError):
    """Ctrl-C inside the work itself: the run stops, saves and stays resumable."""


class EngineError(BatchError):
    """Raised by an engine for one item or for all of them; `error_class` says which."""

    error_class = ErrorClass.PERMANENT

    def __init__(self, message: str, *, retry_after: float | None = None, cause: Cause = Cause.OTHER) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.cause = cause


class TransientError(EngineError):
    """Worth another try."""

    error_class = ErrorClass.TRANSIENT


class ExhaustedError(EngineError):
    """Out of memory, disk or quota."""

    error_class = ErrorClass.EXHAUSTED


class PermanentError(EngineError):
    """This item cannot succeed."""


class FatalError(EngineError):
    """The engine cannot answer anything."""

    error_class = ErrorClass.FATAL


class MissingExtraError(FatalError):
    """An optional dependency is not installed; the text names the command that installs it."""

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f'{what} needs the "{extra}" extra: pip install "ai-router[{extra}]"')
        self.extra = extra


def classify(error: BaseException) -> Failure:
    """The failure an exception stands for; what is unknown is permanent, so that it is seen and not repeated."""
    message = str(error) or type(error).__name__
    if isinstance(error, EngineError):
        return Failure(error.error_class, message, error.retry_after, error.cause)
    if isinstance(error, TimeoutError):
        return Failure(ErrorClass.TRANSIENT, str(error) or "timed out", cause=Cause.SERVER)
    if isinstance(error, ConnectionError):
        return Failure(ErrorClass.TRANSIENT, message, cause=Cause.SERVER)
    if isinstance(error, MemoryError):
        return Failure(ErrorClass.EXHAUSTED, str(error) or "out of memory")
    return Failure(ErrorClass.PERMANENT, f"{type(error).__name__}: {error}" if str(error) else message)
