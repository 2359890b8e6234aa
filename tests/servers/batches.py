"""Batch APIs on loopback: OpenAI's and OpenRouter's, Anthropic's, and Google's both ways, on one store of batches.

They answer as the real ones were seen to, and do on request what those do on bad days. A test steers by the attributes.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from servers.google_batches import GOOGLE_ROUTES, GoogleBatches

BOUNDARY = re.compile(rb'name="file"; filename="[^"]*"\r\n(?:[^\r\n]+\r\n)*\r\n', re.DOTALL)


@dataclass
class Made:
    """A batch: its requests as (name, text)."""

    id: str
    asked: list[tuple[str, str]]
    body: dict[str, Any]
    created: float = field(default_factory=time.time)
    looks: int = 0
    outcome: str = ""  # once it is over
    cancelled: bool = False


class Batches:
    """The state of the servers, and how they behave."""

    def __init__(self) -> None:
        self.made: dict[str, Made] = {}
        self.files: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.creates: list[str] = []
        self.calls: Counter[str] = Counter()
        self.needed = 1  # looks until one is over
        self.outcome = "completed"
        self.answered = 1.0  # the share of requests that got an answer, where it ended otherwise
        self.failing: Callable[[str], bool] = lambda text: False  # texts whose line is an error
        self.lines: Callable[[list[dict[str, Any]]], list[Any]] = lambda lines: random.Random(1).sample(
            lines, len(lines)
        )
        self.refuse: list[tuple[str, int, Any]] = []  # (in the path, status, body), each once
        self.drop: list[str] = []  # done, and the answer is not sent; each once
        self.errors: Any = None
        self.limit: int | None = None  # requests under way that the quota has room for
        self.secret = "secret-key"
        self.wrong_key = False
        self.storage = ""  # the address of Cloud Storage
        self.reply: Callable[[str], str] = lambda text: f"answer to {text}"

    # -- what all have

    def make(self, asked: list[tuple[str, str]], body: dict[str, Any], prefix: str) -> Made:
        made = Made(f"{prefix}{len(self.made) + 1}", asked, body)
        self.made[made.id] = made
        self.creates.append(made.id)
        return made

    def look(self, made: Made) -> None:
        made.looks += 1
        if not made.outcome and (made.cancelled or made.looks >= self.needed):
            made.outcome = "cancelled" if made.cancelled else self.outcome

    def split(self, made: Made) -> tuple[list[tuple[str, str]], list[tuple[str, str]], list[tuple[str, str]]]:
        """The requests answered, in error, and not tried."""
        whole = made.outcome == "completed"
        if made.outcome == "failed":
            return [], [], []
        count = len(made.asked) if whole else int(len(made.asked) * self.answered)
        tried = made.asked[:count]
        return (
            [one for one in tried if not self.failing(one[1])],
            [one for one in tried if self.failing(one[1])],
            made.asked[count:],
        )

    @property
    def asked(self) -> Counter[str]:
        """How often each text was asked for, in batches that were not cancelled or the like."""
        return Counter(text for made in self.made.values() for _, text in made.asked)

    @property
    def paid(self) -> Counter[str]:
        """How often each text was answered."""
        return Counter(text for made in self.made.values() if made.outcome for _, text in self.split(made)[0])


def completion(text: str, model: str = "tiny-1") -> dict[str, Any]:
    return {
        "id": "c", "object": "chat.completion", "created": 1, "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }  # fmt: skip


def _text(messages: list[dict[str, Any]]) -> str:
    content = messages[-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


class Handler(GoogleBatches, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    batches: Batches

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self._serve(self.rfile.read(length) if length else b"")

    def _serve(self, data: bytes) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), {k: v[0] for k, v in parse_qs(url.query).items()}
        state = self.batches
        state.calls[f"{self.command} {path.rsplit('/', 1)[-1]}"] += 1
        if state.wrong_key:
            return self._send(
                401, {"error": {"message": "Incorrect API key provided: se***ey", "code": "invalid_api_key"}}
            )
        for index, (part, status, body) in enumerate(state.refuse):
            if part in f"{self.command} {path}":
                del state.refuse[index]
                return self._send(status, body)
        status, body = self._answer(path, query, data)
        if not status:  # it was sent already
            return None
        for index, part in enumerate(state.drop):
            if part in f"{self.command} {path}":
                del state.drop[index]
                self.close_connection = True
                self.connection.close()
                return None
        return self._send(status, body)

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass

    def _answer(self, path: str, query: dict[str, str], data: bytes) -> tuple[int, Any]:
        for pattern, method in ROUTES:
            if (match := re.fullmatch(pattern, f"{self.command} {path}")) is not None:
                answer = getattr(self, method)(*match.groups(), query=query, data=data)
                return answer if isinstance(answer, tuple) else (200, answer)
        return 404, {"error": {"message": f"no such path: {self.command} {path}"}}

    # -- OpenAI

    def openai_upload(self, *, query: dict[str, str], data: bytes) -> Any:
        match = BOUNDARY.search(data)
        assert match is not None
        name = f"file-{len(self.batches.files) + 1}"
        self.batches.files[name] = data[match.end() : data.rindex(b"\r\n--")]
        self.batches.uploads.append(name)
        return {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "x", "purpose": "batch"}

    def openai_create(self, *, query: dict[str, str], data: bytes) -> Any:
        body = json.loads(data)
        state = self.batches
        if "requests" in body:  # OpenRouter
            if list(body).index("requests") < max(list(body).index("model"), list(body).index("endpoint")):
                return 400, {"error": {"message": "endpoint and model must stand before requests"}}
            asked = [(one["custom_id"], _text(one["body"]["messages"])) for one in body["requests"]]
            return 202, self._openai(state.make(asked, body, "orb-"))
        lines = [json.loads(line) for line in state.files[body["input_file_id"]].splitlines()]
        asked = [(one["custom_id"], _text(one["body"]["messages"])) for one in lines]
        under_way = sum(len(m.asked) for m in state.made.values() if not m.outcome)
        made = state.make(asked, body, "batch_")
        if state.limit is not None and under_way + len(asked) > state.limit:
            made.outcome = "failed"
        return self._openai(made)

    def openai_get(self, name: str, *, query: dict[str, str], data: bytes) -> Any:
        made = self.batches.made.get(name)
        if made is None:
            return 404, {"error": {"message": f"No batch found with id '{name}'"}}
        self.batches.look(made)
        return self._openai(made)

    def openai_cancel(self, name: str, *, query: dict[str, str], data: bytes) -> Any:
        self.batches.made[name].cancelled = True
        return self._openai(self.batches.made[name])

    def openai_list(self, *, query: dict[str, str], data: bytes) -> Any:
        names = sorted(self.batches.made, key=lambda n: -int(re.split("[-_]", n)[-1]))
        start = names.index(query["after"]) + 1 if "after" in query else 0
        page = names[start : start + 2]
        rows = [self._openai(self.batches.made[name]) for name in page]
        return {"object": "list", "data": rows, "has_more": start + 2 < len(names)}

    def _openai(self, made: Made) -> dict[str, Any]:
        done, failed, left = self.batches.split(made) if made.outcome else ([], [], [])
        row: dict[str, Any] = {
            "id": made.id, "object": "batch", "status": made.outcome or "in_progress", "created_at": made.created,
            "input_file_id": made.body.get("input_file_id"), "metadata": made.body.get("metadata"),
            "request_counts": {"total": len(made.asked), "completed": len(done), "failed": len(failed)},
            "expires_at": made.created + 86400,
        }  # fmt: skip
        if made.outcome == "failed":
            row["errors"] = self.batches.errors or {
                "data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}]
            }
        if made.outcome and not made.id.startswith("orb-"):
            if done:
                row["output_file_id"] = f"{made.id}-output"
            if failed or left:
                row["error_file_id"] = f"{made.id}-errors"
        return row

    def openai_content(self, name: str, *, query: dict[str, str], data: bytes) -> Any:
        made = self.batches.made[name.rpartition("-")[0]]
        done, failed, left = self.batches.split(made)
        if name.endswith("-output"):
            lines = [self._line(one, completion(self.batches.reply(one[1]))) for one in done]
        else:
            lines = [
                {"id": "r", "custom_id": key, "response": {"status_code": 500, "body": {"error": {"message": "oh"}}}}
                for key, _ in failed
            ]
            code = "batch_expired" if made.outcome == "expired" else "batch_cancelled"
            lines += [
                {"id": "r", "custom_id": key, "response": None, "error": {"code": code, "message": "no"}}
                for key, _ in left
            ]
        return b"".join(
            one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in self.batches.lines(lines)
        )

    @staticmethod
    def _line(one: tuple[str, str], body: dict[str, Any]) -> dict[str, Any]:
        return {"id": "r", "custom_id": one[0], "response": {"status_code": 200, "body": body}, "error": None}

    def openrouter_results(self, name: str, *, query: dict[str, str], data: bytes) -> Any:
        made = self.batches.made[name]
        done, failed, _ = self.batches.split(made)
        rows: list[Any] = [self._line(one, completion(self.batches.reply(one[1]))) for one in done]
        rows += [
            {"custom_id": key, "response": {"status_code": 500, "body": {"error": {"message": "oh"}}}}
            for key, _ in failed
        ]
        rows = self.batches.lines(rows)
        start = int(query.get("cursor", 0))
        more = {"next_cursor": str(start + 2)} if start + 2 < len(rows) else {}
        return {"results": rows[start : start + 2], **more}

    def openai_chat(self, *, query: dict[str, str], data: bytes) -> Any:
        return completion(self.batches.reply(_text(json.loads(data)["messages"])))

    def openai_models(self, *, query: dict[str, str], data: bytes) -> Any:
        rows = [{"id": name, "object": "model", "created": 1, "owned_by": "x"} for name in ("tiny-1", "tiny-2")]
        return {"object": "list", "data": rows}

    # -- Anthropic

    def anthropic_create(self, *, query: dict[str, str], data: bytes) -> Any:
        body = json.loads(data)
        for one in body["requests"]:
            if {"temperature", "top_p", "top_k"} & set(one["params"]):
                return 400, {
                    "type": "error",
                    "error": {"type": "invalid_request_error", "message": "temperature: removed"},
                }
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", one["custom_id"])
        asked = [(one["custom_id"], _text(one["params"]["messages"])) for one in body["requests"]]
        return self._anthropic(self.batches.make(asked, {}, "msgbatch_"))

    def anthropic_get(self, name: str, *, query: dict[str, str], data: bytes) -> Any:
        if name not in self.batches.made:
            return 404, {"type": "error", "error": {"type": "not_found_error", "message": "not found"}}
        self.batches.look(self.batches.made[name])
        return self._anthropic(self.batches.made[name])

    def anthropic_cancel(self, name: str, *, query: dict[str, str], data: bytes) -> Any:
        self.batches.made[name].cancelled = True
        return self._anthropic(self.batches.made[name])

    def anthropic_list(self, *, query: dict[str, str], data: bytes) -> Any:
        rows = [self._anthropic(made) for made in reversed(self.batches.made.values())]
        return {"data": rows, "has_more": False, "first_id": None, "last_id": None}

    def anthropic_results(self, name: str, *, query: dict[str, str], data: bytes) -> Any:
        made = self.batches.made[name]
        done, failed, left = self.batches.split(made)
        lines: list[dict[str, Any]] = [
            {"custom_id": key, "result": {"type": "succeeded", "message": self._message(text)}} for key, text in done
        ]
        error = {"type": "error", "error": {"type": "api_error", "message": "oh"}}
        lines += [{"custom_id": key, "result": {"type": "errored", "error": error}} for key, _ in failed]
        word = "expired" if made.outcome == "expired" else "canceled"
        lines += [{"custom_id": key, "result": {"type": word}} for key, _ in left]
        return b"".join(
            one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in self.batches.lines(lines)
        )

    def _message(self, text: str) -> dict[str, Any]:
        return {
            "id": "m", "type": "message", "role": "assistant", "model": "claude-tiny",
            "content": [{"type": "text", "text": self.batches.reply(text)}], "stop_reason": "end_turn",
            "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 5},
        }  # fmt: skip

    def anthropic_chat(self, *, query: dict[str, str], data: bytes) -> Any:
        return self._message(_text(json.loads(data)["messages"]))

    def _anthropic(self, made: Made) -> dict[str, Any]:
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        if made.outcome:
            done, failed, left = self.batches.split(made)
            counts |= {"succeeded": len(done), "errored": len(failed), "canceled": len(left)}
        else:
            counts["processing"] = len(made.asked)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(made.created))
        port = self.server.server_address[1]
        return {
            "id": made.id, "type": "message_batch", "created_at": stamp, "request_counts": counts,
            "expires_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(made.created + 86400)),
            "processing_status": "ended" if made.outcome else "in_progress", "archived_at": None,
            "cancel_initiated_at": None, "ended_at": stamp if made.outcome else None,
            "results_url": f"http://127.0.0.1:{port}/v1/messages/batches/{made.id}/results" if made.outcome else None,
        }  # fmt: skip


ROUTES = [
    (r"POST /v1/files", "openai_upload"),
    (r"POST /v1/batches", "openai_create"),
    (r"GET /v1/batches", "openai_list"),
    (r"GET /v1/batches/([\w-]+)", "openai_get"),
    (r"POST /v1/batches/([\w-]+)/cancel", "openai_cancel"),
    (r"GET /v1/batches/([\w-]+)/results", "openrouter_results"),
    (r"GET /v1/files/([\w-]+)/content", "openai_content"),
    (r"POST /v1/chat/completions", "openai_chat"),
    (r"GET /v1/models", "openai_models"),
    (r"POST /v1/messages", "anthropic_chat"),
    (r"POST /v1/messages/batches", "anthropic_create"),
    (r"GET /v1/messages/batches", "anthropic_list"),
    (r"GET /v1/messages/batches/(\w+)", "anthropic_get"),
    (r"POST /v1/messages/batches/(\w+)/cancel", "anthropic_cancel"),
    (r"GET /v1/messages/batches/(\w+)/results", "anthropic_results"),
    *GOOGLE_ROUTES,
]


@contextmanager
def serving(batches: Batches) -> Iterator[str]:
    """The servers' address, without a path."""
    handler = type("Served", (Handler,), {"batches": batches})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
