"""Gemini's batches, both of Google's ways: the Developer API (a key, files) and Vertex AI (a project, Cloud Storage).

Sources: the API reference, google-genai 3.6, and its requests as seen on loopback. Answers in files come with our key;
Vertex has none, but gives each request's labels back.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from batch.engines.http.wire import Reply, WireError, _count, messages_of, text_of
from batch.engines.provider.base import PREFIX, Found, Limits, Lookup, Remote, Result, Settings, key_of, project_of
from batch.engines.provider.faults import line_failure, sdk
from batch.errors import ErrorClass, Failure, FatalError, PermanentError
from batch.items import Request
from batch.options import SamplingOptions
from batch.prices import Usage

LABEL = "air"
OVER = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED"})
UNTRIED = frozenset({"FAILED", "CANCELLED", "EXPIRED"})
# Larger answers that come in the job itself were seen never to come at all.
INLINE_BYTES, INLINE_TOKENS = 1_000_000, 100_000
_NAMES = {"temperature": "temperature", "top_p": "topP", "top_k": "topK", "seed": "seed", "stop": "stopSequences"}
_FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}


def body_of(request: Request, options: SamplingOptions, left_out: Callable[[str], None]) -> dict[str, Any]:
    """A request as JSON."""
    messages = messages_of(request, options)
    system = "\n\n".join(text_of(m.get("content")) for m in messages if m.get("role") in ("system", "developer"))
    turns = [_turn(m) for m in messages if m.get("role") not in ("system", "developer")]
    plain = SamplingOptions()
    config: dict[str, Any] = {"maxOutputTokens": options.max_tokens}
    for option in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop"):
        value = getattr(options, option)
        if option != "temperature" and value == getattr(plain, option):
            continue
        if option in _NAMES:
            config[_NAMES[option]] = value
        else:
            left_out(option)
    if options.json_schema is not None:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": options.json_schema}
    body: dict[str, Any] = {"contents": turns, "generationConfig": config}
    if system:
        body["systemInstruction"] = {"parts": [{"text": system}]}
    return body


def _turn(message: Mapping[str, Any]) -> dict[str, Any]:
    """A turn of the chat. Raises PermanentError for what Gemini would not be told: it is refused, not dropped."""
    role, content = message.get("role"), message.get("content")
    kinds = (
        [part.get("type") if isinstance(part, Mapping) else part for part in content or ()]
        if isinstance(content, list)
        else []
    )
    strange = [str(kind) for kind in kinds if kind != "text"]
    if role not in ("user", "assistant") or strange or message.get("tool_calls"):
        what = ", ".join(strange) or ("tool calls" if role == "assistant" else f"role {role!r}")
        raise PermanentError(f"a batch of Gemini is sent texts of user and assistant only, no {what}")
    return {"role": "model" if role == "assistant" else "user", "parts": [{"text": text_of(content)}]}


def reply_of(data: Any) -> Reply:
    """An answer, from a `GenerateContentResponse` as JSON; raises WireError for what is none."""
    if not isinstance(data, Mapping):
        raise WireError("no response in the line")
    candidates = data.get("candidates")
    if not isinstance(candidates, list) or not candidates or not isinstance(candidates[0], Mapping):
        reason = (data.get("promptFeedback") or {}).get("blockReason") or "no reason is given"
        raise WireError(f"no candidate in the answer: {reason}")
    first = candidates[0]
    reply = Reply(done=True, model=str(data.get("modelVersion") or ""))
    finish = str(first.get("finishReason") or "STOP")
    reply.finish = _FINISH.get(finish, "content_filter")
    for part in (first.get("content") or {}).get("parts") or ():
        if part.get("thought"):
            reply.reasoning += text_of(part.get("text"))
        else:
            reply.text += text_of(part.get("text"))
    usage = data.get("usageMetadata")
    if isinstance(usage, Mapping):
        thinking = _count(usage.get("thoughtsTokenCount"))
        out = _count(usage.get("candidatesTokenCount")) + thinking
        cached = _count(usage.get("cachedContentTokenCount"))
        reply.usage = Usage(_count(usage.get("promptTokenCount")), out, cached, 0, thinking)
    return reply


class GeminiPage:
    """The Developer API."""

    limits = Limits(200_000, 1_900_000_000)
    uploads = True
    cancels = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sdk = sdk("google.genai", "the batch API")
        self._client: Any = self._made()

    def _made(self) -> Any:
        return self._sdk.Client(
            vertexai=False, api_key=key_of(self._settings), http_options=self._http(self._settings.base_url)
        )

    def _http(self, url: str | None) -> dict[str, Any]:
        options: dict[str, Any] = {"timeout": round(self._settings.timeout * 10_000)}
        if url:
            options["base_url"] = url
        return options

    def line(self, custom_id: str, request: Request, options: SamplingOptions, left_out: Any) -> dict[str, Any]:
        """A request as its line."""
        return {"key": custom_id, "request": {**body_of(request, options, left_out), **self._settings.body}}

    def upload(self, path: Path, key: str) -> str:
        """Send the file; none for a batch that is small enough to go in the order itself."""
        if self._small(path):
            return ""
        with path.open("rb") as file:
            made = self._client.files.upload(
                file=file, config={"mime_type": "application/jsonl", "display_name": f"{PREFIX}-{key}"}
            )
        return str(made.name)

    def _small(self, path: Path) -> bool:
        if path.stat().st_size > INLINE_BYTES:
            return False
        tokens = 0
        with path.open("rb") as file:
            for line in file:
                tokens += int(orjson.loads(line)["request"]["generationConfig"].get("maxOutputTokens", INLINE_TOKENS))
        return tokens <= INLINE_TOKENS

    def create(self, path: Path, file: str | None, key: str) -> Remote:
        """Make the batch."""
        source: Any = file or [_inline(orjson.loads(line)) for line in path.read_bytes().splitlines()]
        return self._read(
            self._client.batches.create(
                model=self._settings.model, src=source, config={"display_name": f"{PREFIX}-{key}"}
            )
        )

    def check(self, remote_id: str) -> Remote:
        """How it stands."""
        return self._read(self._client.batches.get(name=remote_id))

    def cancel(self, remote_id: str) -> None:
        """Ask for its end."""
        self._client.batches.cancel(name=remote_id)

    def find(self, lookup: Lookup) -> Found:
        """By the name it was given, page by page: the list cannot be filtered."""
        for job in self._listed(lookup):
            if job.display_name == f"{PREFIX}-{lookup.key}":
                return Found(self._read(job))
        return Found()

    def _listed(self, lookup: Lookup) -> Iterator[Any]:
        return iter(self._client.batches.list(config={"page_size": 100}))

    def results(self, remote: Remote) -> Iterator[Result]:
        """Its answers."""
        for entry in remote.inline or ():
            yield self._from_inline(entry)
        for name in remote.results:  # by way of the disk: they may be more than memory has room for
            with tempfile.TemporaryDirectory(prefix="ai-router-batch-") as folder:
                path = Path(folder) / "answers.jsonl"
                self._client.files.download(file=name, destination=str(path))
                with path.open("rb") as lines:
                    yield from (self._result(line) for line in lines if line.strip())

    def ask(self, request: Request, options: SamplingOptions, left_out: Callable[[str], None]) -> Reply:
        """The answer to one request, at once."""
        body = {**body_of(request, options, left_out), **self._settings.body}
        asked = _inline({"key": "", "request": body})
        asked.pop("metadata")
        contents, config = asked.pop("contents"), {**asked.pop("config"), **asked}
        answer = self._client.models.generate_content(model=self._settings.model, contents=contents, config=config)
        return reply_of(answer.model_dump(mode="json", by_alias=True, exclude_none=True))

    def models(self) -> list[str]:
        """The models that the key may use."""
        return sorted(str(model.name).removeprefix("models/") for model in self._client.models.list())

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _read(self, job: Any) -> Remote:
        word = str(getattr(job.state, "value", job.state) or "").removeprefix("JOB_STATE_").removeprefix("BATCH_STATE_")
        stats, dest, error = job.completion_stats, job.dest, job.error
        return Remote(
            str(job.name),
            word.lower(),
            over=word in OVER,
            untried=word in UNTRIED,
            done=getattr(stats, "successful_count", None),
            failed=getattr(stats, "failed_count", None),
            results=self._places(job) if word in OVER else (),
            inline=getattr(dest, "inlined_responses", None),
            error=str(getattr(error, "message", None) or ""),
            code=str(getattr(error, "code", None) or ""),
        )

    def _places(self, job: Any) -> tuple[str, ...]:
        name = getattr(job.dest, "file_name", None)
        return (str(name),) if name else ()

    def _from_inline(self, entry: Any) -> Result:
        data = entry.model_dump(mode="json", by_alias=True, exclude_none=True)
        return _result_of(str((data.get("metadata") or {}).get("key") or ""), data)

    def _result(self, line: bytes | str) -> Result:
        data = _json(line)
        return _result_of(str(data.get("key") or ""), data)


class VertexPage(GeminiPage):
    """Vertex AI."""

    buckets = True  # the one it is opened with counts
    limits = Limits(200_000, 500_000_000)

    def _made(self) -> Any:
        settings = self._settings
        project, location = project_of(settings)
        credentials = None
        if settings.base_url:  # a gateway or a test: nobody asks Google who one is
            from google.oauth2.credentials import Credentials

            credentials = Credentials(token=os.environ.get("GOOGLE_ACCESS_TOKEN", "none"))
        storage = sdk("google.cloud.storage", "Vertex AI")
        self._storage: Any = _storage(storage, project)
        return self._sdk.Client(
            vertexai=True,
            project=project,
            location=location,
            credentials=credentials,
            http_options=self._http(settings.base_url),
        )

    def line(self, custom_id: str, request: Request, options: SamplingOptions, left_out: Any) -> dict[str, Any]:
        """A request as its line; the label comes back with the answer."""
        body = {**body_of(request, options, left_out), **self._settings.body}
        return {"request": {**body, "labels": {**(body.get("labels") or {}), LABEL: custom_id}}}

    def upload(self, path: Path, key: str) -> str:
        """Put the file into the bucket, where there is none of that name."""
        if not self._settings.bucket:
            raise FatalError("Vertex AI needs a bucket of Cloud Storage for its files: bucket")
        blob = self._storage.bucket(self._settings.bucket).blob(f"{PREFIX}/{key}/input.jsonl")
        blob.upload_from_filename(str(path), if_generation_match=0, timeout=self._settings.timeout * 10)
        return f"gs://{self._settings.bucket}/{blob.name}"

    def create(self, path: Path, file: str | None, key: str) -> Remote:
        """Make the batch, with a folder of its own for its answers."""
        config = {"display_name": f"{PREFIX}-{key}", "dest": f"gs://{self._settings.bucket}/{PREFIX}/{key}/output"}
        return self._read(self._client.batches.create(model=self._settings.model, src=file, config=config))

    def _listed(self, lookup: Lookup) -> Iterator[Any]:
        name = f"{PREFIX}-{lookup.key}"
        return iter(self._client.batches.list(config={"page_size": 100, "filter": f'display_name="{name}"'}))

    def _places(self, job: Any) -> tuple[str, ...]:
        folder = getattr(job.output_info, "gcs_output_directory", None) or getattr(job.dest, "gcs_uri", None)
        return (str(folder),) if folder else ()

    def results(self, remote: Remote) -> Iterator[Result]:
        """The lines of every file of its own folder."""
        for folder in remote.results:
            bucket, _, prefix = folder.removeprefix("gs://").partition("/")
            for blob in self._storage.list_blobs(bucket, prefix=f"{prefix.rstrip('/')}/"):
                if blob.name.endswith(".jsonl"):
                    with blob.open("rb") as lines:
                        yield from (self._result(line) for line in lines if line.strip())

    def _result(self, line: bytes | str) -> Result:
        data = _json(line)
        request = data.get("request")
        labels = request.get("labels") if isinstance(request, Mapping) else None
        custom_id = str(labels.get(LABEL) or "") if isinstance(labels, Mapping) else ""
        if data.get("status") and not data.get("response"):
            said = str(data["status"])
            data = {**data, "error": {"message": said, "code": _status_of(said)}}
        return _result_of(custom_id, data)


def _storage(module: Any, project: str | None) -> Any:
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        from google.auth.credentials import AnonymousCredentials

        return module.Client(project=project, credentials=AnonymousCredentials())
    return module.Client(project=project)


def _json(line: bytes | str) -> dict[str, Any]:
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {"error": {"message": "a result line that is no JSON"}}
    return data if isinstance(data, dict) else {"error": {"message": "a result line that is no object"}}


def _status_of(text: str) -> int:
    """The HTTP status in the words that Vertex has for a line; 500 without one, as asking again costs nothing."""
    if match := re.search(r"\b([45]\d\d)\b", text):
        return int(match[1])
    return next((status for name, status in _NAMED.items() if name in text), 500)


def _inline(line: dict[str, Any]) -> dict[str, Any]:
    """A line of a file as a request of the order itself."""
    request = dict(line["request"])
    config = {**request.pop("generationConfig", {})}
    if "systemInstruction" in request:
        config["systemInstruction"] = request.pop("systemInstruction")
    return {**request, "config": config, "metadata": {"key": line["key"]}}


def _result_of(custom_id: str, data: Mapping[str, Any]) -> Result:
    error = data.get("error")
    if error and not data.get("response"):
        code = error.get("code") if isinstance(error, Mapping) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else _GRPC.get(code, 400)
        return Result(custom_id, failure=line_failure(status, orjson.dumps({"error": error}, default=str), "gemini"))
    try:
        return Result(custom_id, reply_of(data.get("response")))
    except WireError as problem:
        return Result(custom_id, failure=Failure(ErrorClass.PERMANENT, str(problem)))


_NAMED = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "Bad Request": 400,
    "NOT_FOUND": 404,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
}
_GRPC: Mapping[Any, int] = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 13: 500, 14: 503, 16: 401}
