"""OpenAI's Batch API, and every other one of its shape: what differs between them is a `Dialect`.

Sources: the API reference of OpenAI, Mistral, Together, Groq and Azure, and the types of their libraries
(openai 3.57, mistralai 3.7, together 3.1, groq 1.7). Its own library makes the calls, with no retries.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import orjson

from batch.engines.http.server import PRESETS, Server
from batch.engines.http.wire import ChatWire, WireError, messages_of
from batch.engines.provider.base import PREFIX, Found, Limits, Lookup, Remote, Result, Settings, key_of
from batch.engines.provider.faults import line_failure, sdk
from batch.errors import ErrorClass, Failure, FatalError
from batch.items import Request
from batch.options import SamplingOptions

OVER = frozenset({"completed", "failed", "expired", "cancelled"})
UNTRIED = frozenset({"failed", "expired", "cancelled"})
NOT_TRIED = frozenset({"batch_expired", "batch_cancelled"})  # codes of lines that were never asked


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one provider of this shape has otherwise."""

    path: str = "/batches"
    cancel: str = "/batches/{id}/cancel"
    limits: Limits = Limits(50_000, 200_000_000)
    purpose: str = "batch"
    metadata: bool = True  # whether a batch carries a name of ours
    bare: bool = False  # whether a line has no method and url
    states: Mapping[str, str] = field(default_factory=dict)  # its word, in lower case -> OpenAI's
    window: str = "24h"


class OpenAIPage:
    """A provider of OpenAI's shape."""

    uploads = True
    cancels = True

    def __init__(self, settings: Settings, dialect: Dialect | None = None) -> None:
        self.dialect = dialect or Dialect()
        self.limits = self.dialect.limits
        self._settings = settings
        preset = dict(PRESETS.get(settings.provider, {}))
        url = settings.base_url or next(iter(preset.get("base_urls", ())), None)
        if url is None:
            raise FatalError(f"{settings.provider}: no address; give it as url")
        values = {name: value for name, value in preset.items() if name in _SERVER_KEYS}
        parts = urlsplit(url)
        url = urlunsplit(parts._replace(query=""))
        self._server = Server(model=settings.model, base_urls=(url,), **values)
        key = key_of(settings)
        own = {preset["key_header"]: key} if preset.get("key_header") else {}
        self._sdk = sdk("openai", "the batch API")
        self._client: Any = self._sdk.OpenAI(
            api_key=key,
            base_url=url,
            max_retries=0,
            timeout=settings.timeout,
            default_headers={**own, **settings.headers} or None,
            default_query=dict(parse_qsl(parts.query)) or None,  # Azure's api-version
        )
        self._wire = ChatWire()
        self._options: SamplingOptions | None = None  # of the last request, and its body
        self._body: dict[str, Any] = {}

    def line(self, custom_id: str, request: Request, options: SamplingOptions, left_out: Any) -> dict[str, Any]:
        """A request as its line."""
        if self._options is not options:  # all but a few requests of a job have the same
            body = {**self._wire.body(self._server, request, options, left_out), **self._settings.body}
            if self.dialect.bare:
                body.pop("model", None)
            self._options, self._body = options, body
        body = {**self._body, "messages": messages_of(request, options)}
        if self.dialect.bare:
            return {"custom_id": custom_id, "body": body}
        return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}

    def upload(self, path: Path, key: str) -> str:
        """Send the file."""
        with path.open("rb") as file:
            made = self._client.files.create(
                file=(f"{PREFIX}-{key}.jsonl", file), purpose=self.dialect.purpose, timeout=self._settings.timeout * 10
            )
        return str(made.id)

    def create(self, path: Path, file: str | None, key: str) -> Remote:
        """Make the batch."""
        return self._read(self._client.post(self.dialect.path, body=self._order(file, key), cast_to=object))

    def _order(self, file: str | None, key: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "input_file_id": file,
            "endpoint": "/v1/chat/completions",
            "completion_window": self._settings.window or self.dialect.window,
        }
        if self.dialect.metadata:
            body["metadata"] = {PREFIX: key}
        return body

    def check(self, remote_id: str) -> Remote:
        """How it stands."""
        return self._read(self._client.get(f"{self.dialect.path}/{remote_id}", cast_to=object))

    def cancel(self, remote_id: str) -> None:
        """Ask for its end."""
        self._client.post(self.dialect.cancel.format(id=remote_id), body={}, cast_to=object)

    def find(self, lookup: Lookup) -> Found:
        """By the name that it carries, or by its input file."""
        for data in self._all():
            metadata = data.get("metadata")
            named = isinstance(metadata, Mapping) and metadata.get(PREFIX) == lookup.key
            if named or (lookup.file and lookup.file in (data.get("input_file_id"), *_list(data.get("input_files")))):
                return Found(self._read(data))
        return Found()

    def _all(self) -> Iterator[Mapping[str, Any]]:
        query: dict[str, Any] = {"limit": 100}
        while True:
            listed = self._client.get(self.dialect.path, cast_to=object, options={"params": query})
            rows = listed.get("data", []) if isinstance(listed, Mapping) else _list(listed)
            yield from (row for row in rows if isinstance(row, Mapping))
            more = isinstance(listed, Mapping) and listed.get("has_more") and rows
            if not more or query.get("after") == rows[-1].get("id"):
                return
            query["after"] = rows[-1].get("id")

    def results(self, remote: Remote) -> Iterator[Result]:
        """The output file, then the errors."""
        for name in remote.results:
            with self._client.files.with_streaming_response.content(
                name, timeout=self._settings.timeout * 10
            ) as response:
                for line in _lines(response.iter_bytes(1 << 18)):
                    yield self._result(line)

    def chat(self, body: dict[str, Any]) -> Any:
        """The answer to one request, at once."""
        return self._client.post("/chat/completions", body=body, cast_to=object)

    def models(self) -> list[str]:
        """The models that the key may use."""
        return sorted(str(model.id) for model in self._client.models.list())

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _read(self, data: Any) -> Remote:
        if isinstance(data, Mapping) and isinstance(data.get("job"), Mapping):  # Together's answer to a creation
            data = data["job"]
        if not isinstance(data, Mapping) or not data.get("id"):
            raise WireError("what came is no batch")
        said = str(data.get("status") or "")
        word = self.dialect.states.get(said.lower(), said.lower())
        counts = data.get("request_counts") if isinstance(data.get("request_counts"), Mapping) else {}
        assert isinstance(counts, Mapping)
        errors = data.get("errors")
        first = _first_error(errors) if errors else ("", str(data.get("error") or ""))
        files = [
            data.get("output_file_id") or data.get("output_file"),
            data.get("error_file_id") or data.get("error_file"),
        ]
        return Remote(
            str(data["id"]),
            said,
            over=word in OVER,
            untried=word in UNTRIED,
            done=_int(counts.get("completed", data.get("succeeded_requests"))),
            failed=_int(counts.get("failed", data.get("failed_requests"))),
            total=_int(counts.get("total", data.get("total_requests"))),
            results=tuple(str(file) for file in files if file),
            inline=data.get("outputs") or data.get("results"),
            error=first[1],
            code=first[0],
            expires=_seconds(data.get("expires_at") or data.get("job_deadline")),
        )

    def _result(self, line: str | bytes) -> Result:
        return openai_result(line, self._wire, self._settings.provider)


def openai_result(line: str | bytes | Mapping[str, Any], wire: ChatWire, where: str) -> Result:
    """One line of results in OpenAI's shape; what cannot be read has no `custom_id`."""
    try:
        data = orjson.loads(line) if isinstance(line, bytes | str) else line
    except orjson.JSONDecodeError:
        return Result("", failure=Failure(ErrorClass.PERMANENT, "a result line that is no JSON"))
    if not isinstance(data, dict):
        return Result("", failure=Failure(ErrorClass.PERMANENT, "a result line that is no object"))
    custom_id = str(data.get("custom_id") or "")
    response, error = data.get("response"), data.get("error")
    if isinstance(response, dict):
        status = _int(response.get("status_code"))
        body = response.get("body")
        if status is not None and 200 <= status < 300 and isinstance(body, dict):
            try:
                return Result(custom_id, wire.read(body))
            except WireError as problem:
                return Result(custom_id, failure=Failure(ErrorClass.PERMANENT, str(problem)))
        return Result(custom_id, failure=line_failure(status or 0, orjson.dumps(body or error, default=str), where))
    if isinstance(error, Mapping) and error.get("code") in NOT_TRIED:
        return Result(custom_id)
    return Result(custom_id, failure=line_failure(400, orjson.dumps({"error": error}, default=str), where))


_SERVER_KEYS = frozenset({"accepts", "max_tokens_name", "repetition_name", "schema"})


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of a stream, without empty ones; a library's own decoder is ten times as slow."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line for line in whole if line.strip())
    if rest.strip():
        yield rest


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(value: Any) -> float | None:
    """Seconds since the epoch, from such seconds or from a date."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and len(value) >= 19:
        try:
            return float(calendar.timegm(time.strptime(value[:19], "%Y-%m-%dT%H:%M:%S")))
        except ValueError:
            return None
    return None


def _first_error(errors: Any) -> tuple[str, str]:
    rows = errors.get("data") if isinstance(errors, Mapping) else errors
    for row in _list(rows):
        if isinstance(row, Mapping):
            line = f" (line {row['line']})" if row.get("line") else ""
            line = f" ({row['count']} lines)" if row.get("count") else line  # Mistral's
            return str(row.get("code") or ""), f"{row.get('message') or row.get('code') or 'no reason'}{line}"
    return "", ""
