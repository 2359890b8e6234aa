"""OpenAI's Batch API on loopback, in a process of its own: files and batches in memory, answers in no order.

`python -m benchmarks.batch_server`: prints its port. It outlives whoever talks to it, and ends with its stdin. Of each
request only the name and the number in its text are read, so that what is measured is the other side.
`GET /told` says how often a batch was made, and how often each request was answered.
"""

from __future__ import annotations

import random
import re
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

LINE = re.compile(rb'"custom_id":"([^"]+)".*?"content":"[^"0-9]*(\d+)', re.DOTALL)
ANSWER = (
    b'{"id":"r","custom_id":"%s","response":{"status_code":200,"request_id":"q","body":{"id":"c","object":'
    b'"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":'
    b'"answer to %s"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5}}},"error":null}\n'
)
FILES: dict[str, bytes] = {}
BATCHES: dict[str, dict[str, Any]] = {}
ANSWERED: Counter[bytes] = Counter()
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """The five calls, and what it tells of itself."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing."""

    def do_GET(self) -> None:
        """Look, list, read, tell."""
        path = self.path.partition("?")[0]
        if path == "/told":
            found = {name.decode(): count for name, count in ANSWERED.items()}
            return self._send({"made": len(BATCHES), "answered": found})
        if path.endswith("/content"):
            return self._send(FILES[path.split("/")[-2]])
        if path == "/v1/batches":
            return self._send({"object": "list", "data": list(reversed(BATCHES.values())), "has_more": False})
        self._send(BATCHES[path.rpartition("/")[2]])

    def do_POST(self) -> None:
        """A file, or a batch, which is over at once."""
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        with LOCK:
            if self.path == "/v1/files":
                name = f"file-{len(FILES)}"
                FILES[name] = data[data.index(b"\r\n\r\n{") + 4 :]
                made: dict[str, Any] = {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "x"}
                return self._send({**made, "purpose": "batch"})
            self._send(self._made(orjson.loads(data)))

    def _made(self, body: dict[str, Any]) -> dict[str, Any]:
        number = len(BATCHES)
        asked = LINE.findall(FILES[body["input_file_id"]])
        random.Random(number).shuffle(asked)
        ANSWERED.update(text for _, text in asked)
        FILES[f"out-{number}"] = b"".join(ANSWER % pair for pair in asked)
        made = {
            "id": f"batch_{number}",
            "object": "batch",
            "status": "completed",
            "created_at": 1,
            "input_file_id": body["input_file_id"],
            "metadata": body.get("metadata"),
            "request_counts": {"total": len(asked), "completed": len(asked), "failed": 0},
            "output_file_id": f"out-{number}",
        }
        BATCHES[made["id"]] = made
        return made

    def _send(self, body: Any) -> None:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        try:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # whoever asked is gone
            pass


class Quiet(ThreadingHTTPServer):
    """Says nothing of clients that are killed in the middle of a request."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing."""


def main() -> None:
    """Serve until stdin ends."""
    server = Quiet(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
