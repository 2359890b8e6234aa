"""A hub on loopback that speaks the Hugging Face Hub's wire format, as far as listing, fetching and uploading go.

Uploads: preupload says how a file is to be sent; a regular one comes inside the commit (NDJSON, base64), a large one
through git LFS (batch, PUT) before a commit that names its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "b" * 40


@dataclass
class HubServer:
    """`repos` holds the files by `datasets/ORG/NAME` or `ORG/NAME` and path; `failures` are answered first."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    failures: list[int] = field(default_factory=list)  # statuses of the next answers
    large: bool = False  # whether uploads go through LFS
    token: str = ""  # the only one that may write
    ranges: list[int] = field(default_factory=list)  # first bytes of the parts that were asked for
    requests: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    sums: dict[str, str] = field(default_factory=dict)  # SHA-256 it claims of files, where not their own
    blobs: dict[str, bytes] = field(default_factory=dict)

    def __enter__(self) -> HubServer:
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, method: str, target: str, body: bytes, token: str) -> tuple[int, bytes, dict[str, str]]:
        path = unquote(urlsplit(target).path).strip("/")
        self.requests.append(f"{method} {path}")
        if token:
            self.tokens.add(token)
        if self.failures:
            return self.failures.pop(0), b'{"error": "not now"}', {}
        if method == "POST" and self.token and token != self.token:
            return 403, b'{"error": "You do not have the right to write here"}', {}
        if path.startswith("blob/"):
            self.blobs[path.removeprefix("blob/")] = body
            return 200, b"", {}
        if path.startswith("api/"):
            return self._api(path.removeprefix("api/"), body)
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**known, "actions": {"upload": {"href": f"{self.url}/blob/{known['oid']}"}}}
                for known in json.loads(body)["objects"]
            ]
            return 200, json.dumps({"transfer": "basic", "objects": objects}).encode(), {}
        repo, _, file = path.replace(f"/resolve/{COMMIT}/", "/resolve/main/").partition("/resolve/main/")
        held = self.repos.get(repo)
        if held is None:
            return 404, b"", {"x-error-code": "RepoNotFound"}
        if file not in held:
            return 404, b"", {"x-error-code": "EntryNotFound"}
        return 200, held[file], {"etag": f'"{hashlib.sha1(held[file]).hexdigest()}"', "x-repo-commit": COMMIT}

    def _api(self, path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        path = path.removeprefix("models/")
        for verb in ("/tree/main", "/preupload/main", "/commit/main", "/revision/main", f"/tree/{COMMIT}"):
            repo, found, _ = path.partition(verb)
            if found:
                break
        held = self.repos.get(repo)
        if held is None:
            return 404, b'{"error": "Repository not found"}', {"x-error-code": "RepoNotFound"}
        if verb == "/revision/main":
            files: Any = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in held]}
        elif verb.startswith("/tree/"):
            files = [self._listed(name, data) for name, data in held.items()]
        elif verb == "/preupload/main":
            mode = "lfs" if self.large else "regular"
            asked = json.loads(body)["files"]
            files = {"files": [{"path": f["path"], "uploadMode": mode, "shouldIgnore": False} for f in asked]}
        else:
            self._commit(held, [json.loads(line) for line in body.splitlines()])
            files = {"success": True, "commitOid": COMMIT, "commitUrl": f"https://huggingface.co/{repo}/commit/{COMMIT}",
                     "hookOutput": ""}  # fmt: skip
        return 200, json.dumps(files).encode(), {}

    def _listed(self, name: str, data: bytes) -> dict[str, Any]:
        made: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": "a" * 40}
        if name.endswith((".gguf", ".safetensors")):
            sha = self.sums.get(name) or hashlib.sha256(data).hexdigest()
            made["lfs"] = {"oid": sha, "size": len(data), "pointerSize": 130}
        return made

    def _commit(self, held: dict[str, bytes], lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                held[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                held[value["path"]] = self.blobs[value["oid"]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_hub: HubServer

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
        status, data, headers = self.server_hub.answer(self.command, self.path, body, token)
        asked = re.match(r"bytes=(\d+)-", self.headers.get("range") or "")
        if status == 200 and asked and "etag" in headers:
            self.server_hub.ranges.append(int(asked[1]))
            headers["content-range"] = f"bytes {asked[1]}-{len(data) - 1}/{len(data)}"
            status, data = 206, data[int(asked[1]) :]
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers, "content-length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_POST = do_HEAD = do_PUT = _serve
