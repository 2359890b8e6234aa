"""What a server means by an error: every shape of body that is known to come, as one of our four classes.

Bodies come as `{"error": {"message", "type", "code"}}` (OpenAI, vLLM, llama.cpp), `{"error": "text"}` (mlx-lm, Ollama),
`{"detail": "text" | [{"msg", "loc"}]}` (FastAPI: transformers serve), `{"object": "error", "message", "code"}` (older
vLLM), `[{"error": {…}}]` (Gemini), or as plain text and HTML from whatever stands between.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from batch.errors import Cause, ErrorClass, Failure

SHOWN = 300  # characters of a server's own words in a message

# 408 and 425 ask for another try; 409 is a lock somewhere behind; 529 is Anthropic's "overloaded".
TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})

_NO_MONEY = (
    "insufficient_quota",
    "insufficient balance",
    "billing",
    "credit balance",
    "payment required",
    "exceeded your current quota",
)
_TOO_LONG = (
    "context_length_exceeded",
    "exceed_context_size",
    "maximum context length",
    "prompt is too long",
    "context window",
    "too many tokens",
    "exceeds the available context",
)
_FILTERED = ("content_filter", "content management policy", "responsibleaipolicyviolation", "safety")
_NO_MODEL = (
    "model_not_found",
    "does not exist",
    "unknown model",
    "no such model",
    "not found for api version",
    "is pinned to",
    "not a valid model",
)


@dataclass(frozen=True, slots=True)
class ServerError:
    """An error as the server put it."""

    status: int
    message: str
    code: str = ""
    kind: str = ""
    param: str = ""

    @property
    def _words(self) -> str:
        return f"{self.code} {self.kind} {self.message}".lower()

    def says(self, *words: str) -> bool:
        """Whether any of these stands in its code, type or message."""
        return any(word in self._words for word in words)

    @property
    def no_money(self) -> bool:
        """Whether the account, not the request, is at its end."""
        return self.status == 402 or self.says(*_NO_MONEY)

    @property
    def bad_key(self) -> bool:
        """Whether the key is missing, wrong or not allowed to do this."""
        return self.status == 401 or (self.status == 403 and not self.says(*_FILTERED, "quota", "rate limit"))

    @property
    def unknown_model(self) -> bool:
        """Whether the server does not have the model."""
        return (self.status in (400, 404) and self.says(*_NO_MODEL)) or (
            self.status in (400, 404) and self.param == "model"
        )

    @property
    def too_long(self) -> bool:
        """Whether the prompt does not fit into the model's context."""
        return self.status in (400, 413, 422, 500) and self.says(*_TOO_LONG)

    @property
    def filtered(self) -> bool:
        """Whether a content filter refused."""
        return self.status in (400, 403) and self.says(*_FILTERED)

    @property
    def rejected_parameter(self) -> str | None:
        """The name of a parameter that the server refuses, where it says which."""
        if self.status not in (400, 422):
            return None
        if self.param and self.param not in ("model", "messages", "prompt", "input"):
            return self.param.split(".")[-1]
        match = re.search(
            r"(?:unsupported|unrecognized|unknown|unexpected|extra)[^'\"`]{0,40}['\"`]([a-z_]{3,40})['\"`]"
            r"|['\"`]([a-z_]{3,40})['\"`] (?:is|are) (?:not supported|deprecated|not permitted|no longer)"
            r"|\b(temperature|top_p|top_k)\b[^.]{0,60}(?:not supported|removed|deprecated|not permitted|unsupported)",
            self.message,
            re.IGNORECASE,
        )
        return next((group for group in match.groups() if group), None) if match else None


def parse_error(status: int, body: bytes, content_type: str = "") -> ServerError:
    """The error in a response's body, whatever its shape; never raises."""
    text = body[:20_000].decode("utf-8", "replace").strip()
    try:
        data: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        if "html" in content_type.lower() or text[:200].lower().startswith(("<!doctype", "<html")):
            title = re.search(r"<title[^>]*>\s*(.{1,120}?)\s*</title>", text, re.IGNORECASE | re.DOTALL)
            return ServerError(status, f"a web page instead of JSON{f' ({title[1]})' if title else ''}")
        return ServerError(status, _short(text) or "no message")
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, Mapping):
        return ServerError(status, _short(text) or "no message")
    error = data.get("error")
    if isinstance(error, Mapping):
        inner = error.get("innererror")
        code = _text(error.get("code")) or (_text(inner.get("code")) if isinstance(inner, Mapping) else "")
        message = _text(error.get("message")) or _text(error)
        kind = _text(error.get("type")) or _text(error.get("status"))
        return ServerError(status, _short(message), code, kind, _text(error.get("param")))
    if isinstance(error, str) and error:
        return ServerError(status, _short(error), _text(data.get("code")), _text(data.get("error_type")))
    detail = data.get("detail")
    if isinstance(detail, list):
        said = [
            f"{'.'.join(str(part) for part in one.get('loc', ()))}: {one.get('msg', '')}".strip(": ")
            for one in detail
            if isinstance(one, Mapping)
        ]
        return ServerError(status, _short("; ".join(said)) or "no message")
    if detail:
        return ServerError(status, _short(_text(detail)))
    message = _text(data.get("message"))
    return ServerError(status, _short(message or text), _text(data.get("code")), _text(data.get("type")))


def failure_of(error: ServerError, *, retry_after: float | None = None, where: str = "the server") -> Failure:
    """What becomes of the item, and of the job.

    A key, an account or a model that is wrong is fatal: the job stops with its rows pending. Rate limits, server
    errors and time-outs are transient; what is wrong with one request is permanent.
    """
    status = error.status
    if error.no_money:
        return Failure(ErrorClass.FATAL, f"{where} says the account has no money or quota left: {error.message}")
    if error.bad_key:
        return Failure(ErrorClass.FATAL, f"{where} refuses the key ({status}): {error.message}")
    if error.too_long:
        return Failure(
            ErrorClass.PERMANENT,
            f"the prompt does not fit into the model's context: {error.message}",
            cause=Cause.REFUSED,
        )
    if error.filtered:
        return Failure(ErrorClass.PERMANENT, f"refused by a content filter: {error.message}", cause=Cause.FILTERED)
    if error.unknown_model:
        return Failure(ErrorClass.FATAL, f"{where} does not have this model: {error.message}")
    if status == 404 or status == 405:
        return Failure(ErrorClass.FATAL, f"there is no such API at this address ({status}): {error.message}")
    if status == 429 or (status == 403 and error.says("quota", "rate limit")):
        return Failure(ErrorClass.TRANSIENT, f"rate limit of {where}: {error.message}", retry_after, Cause.RATE)
    if status in TRANSIENT or status >= 500:
        return Failure(ErrorClass.TRANSIENT, f"{where} failed ({status}): {error.message}", retry_after, Cause.SERVER)
    if 300 <= status < 400:
        return Failure(ErrorClass.FATAL, f"{where} sends to another address ({status}); name that one: {error.message}")
    return Failure(ErrorClass.PERMANENT, f"{where} refused the request ({status}): {error.message}")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
