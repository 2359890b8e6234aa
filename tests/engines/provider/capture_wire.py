"""Writes `wire.json`: what the libraries of Groq, Mistral, Together and Azure send for each step of a batch.

    pip install groq==1.7.0 mistralai==3.7.0 together==3.1.1 openai==3.57.0
    python tests/engines/provider/capture_wire.py

They talk to a server on loopback that answers with `REPLIES` and writes down what it is asked.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILE, ANSWERS = "4d9e2f0c-1f2a-4a3b-9b0e-1234567890ab", "5d9e2f0c-1f2a-4a3b-9b0e-1234567890ab"
FIELD = re.compile(rb'name="([^"]+)"(?:; filename="([^"]*)")?[^\r]*\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--', re.DOTALL)
_UPLOADED = {
    "id": FILE, "object": "file", "bytes": 1, "created_at": 1, "filename": "x.jsonl", "purpose": "batch",
    "sample_type": "batch_request", "source": "upload", "FileType": "jsonl", "LineCount": 1, "Processed": True,
}  # fmt: skip
_SHAPED = {
    "id": "job_1", "object": "batch", "endpoint": "/v1/chat/completions", "errors": None, "input_file_id": FILE,
    "completion_window": "24h", "status": "in_progress", "output_file_id": ANSWERS, "error_file_id": None,
    "created_at": 1, "expires_at": 2, "request_counts": {"total": 3, "completed": 1, "failed": 1},
    "metadata": {"air": "key"},
}  # fmt: skip
_MISTRAL = {
    "id": "job_1", "object": "batch", "input_files": [FILE], "metadata": {"air": "key"}, "model": "m",
    "endpoint": "/v1/chat/completions", "output_file": ANSWERS, "error_file": None, "status": "RUNNING",
    "errors": [{"message": "bad", "count": 2}], "created_at": 1, "started_at": 1, "completed_at": None,
    "total_requests": 3, "completed_requests": 2, "succeeded_requests": 1, "failed_requests": 1,
}  # fmt: skip
_TOGETHER = {
    "id": "job_1", "completed_at": None, "created_at": "2026-11-28T10:00:00Z", "endpoint": "/v1/chat/completions",
    "error": None, "error_file_id": None, "file_size_bytes": 1, "input_file_id": FILE, "progress": 33.0,
    "job_deadline": "2026-11-29T10:00:00Z", "model_id": "m", "output_file_id": ANSWERS, "status": "IN_PROGRESS",
    "user_id": "u",
}  # fmt: skip


def _replies(batch: dict[str, Any], listed: Any = None, created: Any = None) -> dict[str, Any]:
    listed = listed or {"object": "list", "data": [batch], "has_more": False}
    lines = '{"custom_id": "key-0"}\n'
    return {"upload": _UPLOADED, "create": created or batch, "check": batch, "find": listed, "cancel": batch,
            "results": lines}  # fmt: skip


REPLIES: dict[str, dict[str, Any]] = {
    "groq": _replies(_SHAPED),
    "azure": _replies(_SHAPED),
    "mistral": _replies(_MISTRAL, {"object": "list", "data": [_MISTRAL], "total": 1}),
    "together": _replies(_TOGETHER, [_TOGETHER], {"job": _TOGETHER, "warning": None}),
}
REPLIES["together"]["upload"] = {**_UPLOADED, "purpose": "batch-api"}


class Recorder:
    """A server that answers every call of a step alike and keeps what was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.reply: Any = {}
        self.seen: list[dict[str, Any]] = []

    def read(self, handler: BaseHTTPRequestHandler) -> None:
        """One call: method, path, JSON or the names and values of a form, and the header that carries the key."""
        data = _body(handler)
        content = handler.headers.get("content-type", "")
        body: Any = None
        if content.startswith("multipart"):
            found = FIELD.findall(data)
            body = {"form": {n.decode(): "(file)" if f else v.decode() for n, f, v in found}}
        elif content.startswith("application/json"):
            body = json.loads(data) if data else None
        elif data:
            body = {"bytes": len(data)}
        keys = [name.lower() for name in handler.headers if name.lower() in ("authorization", "api-key")]
        self.seen.append({"call": f"{handler.command} {handler.path}", "body": body, "key": sorted(keys)})

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """The reply; Together's upload is sent elsewhere."""
        form = (self.seen[-1]["body"] or {}).get("form", {})
        data = self.reply.encode() if isinstance(self.reply, str) else json.dumps(self.reply).encode()
        handler.send_response(302 if "file_type" in form else 200)
        if "file_type" in form:
            handler.send_header("Location", f"{self.url}/elsewhere")
            handler.send_header("X-Together-File-Id", FILE)
        handler.send_header(
            "content-type", "application/json" if isinstance(self.reply, dict | list) else "application/octet-stream"
        )
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("transfer-encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("content-length") or 0))
    data = b""
    while size := int(handler.rfile.readline(), 16):
        data += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return data


@contextmanager
def recording() -> Iterator[Recorder]:
    """A recorder that listens."""
    recorder = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

        def _serve(self) -> None:
            recorder.read(self)
            recorder.answer(self)

        do_GET = do_POST = do_PUT = _serve

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    recorder.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield recorder
    finally:
        server.shutdown()
        server.server_close()


def _libraries(url: str, path: Path) -> dict[str, dict[str, Callable[[], Any]]]:
    import groq
    import openai
    import together
    from mistralai.client import Mistral

    order = {"input_file_id": FILE, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    steps: dict[str, dict[str, Callable[[], Any]]] = {}
    clients: dict[str, Any] = {
        "groq": groq.Groq(api_key="k", base_url=url, max_retries=0),
        "azure": openai.AzureOpenAI(api_key="k", azure_endpoint=url, api_version="2025-04-01-preview", max_retries=0),
    }
    for name, client in clients.items():
        steps[name] = {
            "upload": lambda client=client: client.files.create(file=path, purpose="batch"),
            "create": lambda client=client: client.batches.create(**order, metadata={"air": "key"}),
            "check": lambda client=client: client.batches.retrieve("job_1"),
            "find": lambda client=client: client.batches.list(),
            "cancel": lambda client=client: client.batches.cancel("job_1"),
            "results": lambda client=client: client.files.content(ANSWERS).read(),
        }
    mistral = Mistral(api_key="k", server_url=url)
    made = {"input_files": [FILE], "model": "m", "endpoint": "/v1/chat/completions", "metadata": {"air": "key"}}
    steps["mistral"] = {
        "upload": lambda: mistral.files.upload(
            file={"file_name": "x.jsonl", "content": path.read_bytes()}, purpose="batch"
        ),
        "create": lambda: mistral.batch.jobs.create(**made, timeout_hours=24),
        "check": lambda: mistral.batch.jobs.get(job_id="job_1"),
        "find": lambda: mistral.batch.jobs.list(page=0, page_size=100),
        "cancel": lambda: mistral.batch.jobs.cancel(job_id="job_1"),
        "results": lambda: mistral.files.download(file_id=ANSWERS).read(),
    }
    client = together.Together(api_key="k", base_url=url, max_retries=0)
    steps["together"] = {
        "upload": lambda: client.files.upload(file=path, purpose="batch-api", check=False),
        "create": lambda: client.batches.create(**order),
        "check": lambda: client.batches.retrieve("job_1"),
        "find": lambda: client.batches.list(),
        "cancel": lambda: client.batches.cancel("job_1"),
        "results": lambda: client.files.content(ANSWERS).read(),
    }
    return steps


def main() -> None:
    """Write the file."""
    captured: dict[str, Any] = {}
    with recording() as recorder, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        path.write_text('{"custom_id": "key-0", "body": {}}\n')
        for name, steps in _libraries(recorder.url, path).items():
            for step, call in steps.items():
                recorder.reply, before = REPLIES[name][step], len(recorder.seen)
                call()
                captured.setdefault(name, {})[step] = recorder.seen[before:]
    (HERE / "wire.json").write_text(json.dumps(captured, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
