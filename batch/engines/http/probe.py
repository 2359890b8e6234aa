"""What a server says of itself: which models it has, and how much context. One short GET each, by the standard library.

Sources: `GET /models` of OpenAI's API (llama.cpp adds `meta.n_ctx`, vLLM `max_model_len`), Ollama's `GET /api/tags`.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

import orjson

from batch.engines.http.errors import parse_error
from batch.engines.http.server import check_url, is_loopback
from batch.errors import FatalError

LONGEST = 8 << 20  # bytes of a list of models


@dataclass(frozen=True, slots=True)
class Found:
    """A model that a server says it has."""

    name: str
    context: int | None = None


class _Stay(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: what was asked of one server is no other's business."""

    def redirect_request(self, *_: Any) -> None:
        return None


def get_json(url: str, headers: Mapping[str, str] | None = None, timeout: float = 5.0) -> Any:
    """The JSON at an address. Raises FatalError with one sentence; follows no redirect."""
    check_url(url)
    handlers: list[urllib.request.BaseHandler] = [_Stay()]
    if is_loopback(url):
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    where = urlsplit(url).netloc
    request = urllib.request.Request(url, headers={"accept": "application/json", **(headers or {})})
    try:
        with opener.open(request, timeout=timeout) as response:
            body = _read(response)
    except urllib.error.HTTPError as error:
        with error:
            said = parse_error(error.code, _read(error), error.headers.get("content-type", ""))
        if said.bad_key:
            raise FatalError(f"{where} refuses the key ({error.code}): {said.message}") from None
        raise FatalError(f"{where} does not list its models ({error.code}): {said.message}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise FatalError(f"{where} cannot be reached: {getattr(reason, 'strerror', None) or reason}") from None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        page = "a web page" if body.lstrip()[:1] == b"<" else "no JSON" if body.strip() else "nothing"
        raise FatalError(f"there is no such API at {url}: it answered with {page}") from None


def _read(response: IO[bytes]) -> bytes:
    try:
        return response.read(LONGEST)
    except OSError:
        return b""


def models_of(url: str, headers: Mapping[str, str] | None = None, timeout: float = 5.0) -> list[Found]:
    """The models of the server at an address (with its /v1, as OpenAI's API has it). Raises FatalError."""
    data = get_json(f"{url.rstrip('/')}/models", headers, timeout)
    listed = data.get("data") if isinstance(data, Mapping) else data
    return _found(listed, ("id",))


def ollama_models(url: str, timeout: float = 5.0) -> list[Found]:
    """The models of an Ollama. Raises FatalError."""
    data = get_json(f"{url.rstrip('/')}/api/tags", timeout=timeout)
    return _found(data.get("models") if isinstance(data, Mapping) else None, ("name", "model"))


def _found(listed: Any, names: tuple[str, ...]) -> list[Found]:
    found = []
    for entry in listed if isinstance(listed, list) else ():
        if not isinstance(entry, Mapping):
            continue
        name = next((entry[key] for key in names if isinstance(entry.get(key), str) and entry[key]), None)
        if name is not None:
            found.append(Found(name, _context(entry)))
    return found


def _context(entry: Mapping[str, Any]) -> int | None:
    meta = entry.get("meta")
    for value in (
        meta.get("n_ctx") if isinstance(meta, Mapping) else None,
        entry.get("max_model_len"),
        entry.get("context_length"),
        entry.get("context_window"),
    ):
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 40:
            return value
    return None
