"""What went wrong in a call, whatever library made it: it was answered with a refusal, or nobody knows."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from batch.engines.http.errors import ServerError, failure_of, parse_error
from batch.engines.http.wire import WireError
from batch.errors import BatchError, Cause, ErrorClass, Failure, FatalError, MissingExtraError

T = TypeVar("T")

# Where the library says no status: the words of its exception's class.
_LOST = ("connection", "timeout", "transport", "protocol", "network", "readerror", "writeerror", "ssl", "chunked")
UNANSWERED = frozenset(
    {408, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
)  # what was asked may be done all the same


class Refused(Exception):
    """The provider answered no: nothing was done."""

    def __init__(self, error: ServerError, where: str, retry_after: float | None) -> None:
        super().__init__(error.message)
        self.error = error
        self.failure: Failure = failure_of(error, retry_after=retry_after, where=where)

    @property
    def quota(self) -> bool:
        """Whether there is no room now, and will be."""
        return self.failure.error_class is ErrorClass.TRANSIENT or self.error.says("token_limit_exceeded", "enqueued")


class Lost(Exception):
    """No answer, or one that leaves open whether anything was done."""


def asked(where: str, call: Callable[[], T]) -> T:
    """What `call` returns. Raises Refused or Lost for what its library raises; this program's own go through."""
    try:
        return call()
    except (BatchError, Refused, Lost):
        raise
    except Exception as error:
        raise read(where, error) from error


def read(where: str, error: Exception) -> Exception:
    """Refused or Lost for an exception of a library; FatalError where it is neither."""
    status = status_of(error)
    if status is not None:
        said = parse_error(status, _body(error))
        if status in UNANSWERED:
            return Lost(f"{where} failed ({status}): {said.message}")
        return Refused(said, where, _retry_after(error))
    names = " ".join(cls.__name__.lower() for cls in type(error).__mro__)
    if isinstance(error, OSError) or any(word in names for word in _LOST):
        inner = error.__cause__ or error
        return Lost(f"{where} cannot be reached: {str(inner) or type(inner).__name__}"[:300])
    if isinstance(error, WireError | ValueError):  # the answer cannot be read
        return Lost(f"{where}: {str(error)[:200] or type(error).__name__}")
    return FatalError(f"{where}: {type(error).__name__}: {str(error)[:200]}")


def line_failure(status: int, body: bytes, where: str) -> Failure:
    """The failure of one line of a batch. What would end a job counts for the line alone: the others were answered."""
    if not status:
        said = parse_error(0, body).message if body.startswith(b'{"error"') else ""
        why = f"status 0: {said}" if said else "status 0"
        return Failure(ErrorClass.TRANSIENT, f"{where} gave no answer to it ({why})", cause=Cause.SERVER)
    failure = failure_of(parse_error(status, body), where=where)
    if failure.error_class is ErrorClass.FATAL:
        return Failure(ErrorClass.EXHAUSTED, failure.message)
    return failure


def sdk(module: str, what: str) -> Any:
    """A provider's library. Raises MissingExtraError."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError("providers", what) from None


def status_of(error: Exception) -> int | None:
    """The HTTP status that a library's exception tells of; None where it tells of none."""
    for name in ("status_code", "code"):
        value = getattr(error, name, None)
        value = getattr(value, "value", value)  # google.api_core has an enumeration
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value < 600:
            return value
    return None


def _body(error: Exception) -> bytes:
    details: Any = getattr(error, "details", None)
    if isinstance(details, dict):  # google.genai
        return orjson.dumps(details, default=str)
    response = getattr(error, "response", None)
    try:
        content = response.content if response is not None else b""
    except Exception:  # a stream that was not read
        content = b""
    return content if isinstance(content, bytes) and content else str(error).encode("utf-8", "replace")


def _retry_after(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None)
    try:
        return float(headers["retry-after"]) if headers is not None else None
    except (KeyError, ValueError, TypeError):
        return None
