"""Google's batches on loopback: Gemini's Developer API, by files and in the order itself, and Vertex AI's by buckets.

Vertex reads its requests from a server of Cloud Storage and writes its answers there, as the real one does: `storage`
is that server's address.
"""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from http.server import HTTPServer

    from servers.batches import Batches, Made


def gemini_answer(text: str) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"role": "model", "parts": [{"text": f"{text}\n"}]}, "finishReason": "STOP"}],
        "modelVersion": "gemini-tiny",
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 2},
    }


class GoogleBatches:
    """What a handler of `servers.batches` knows of Google."""

    batches: Batches
    server: HTTPServer

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        raise NotImplementedError

    # -- Gemini

    def gemini_start(self, *, query: dict[str, str], data: bytes) -> Any:
        port = self.server.server_address[1]
        self._send(
            200, {}, {"X-Goog-Upload-URL": f"http://127.0.0.1:{port}/upload-here", "X-Goog-Upload-Status": "active"}
        )
        return 0, b""

    def gemini_upload(self, *, query: dict[str, str], data: bytes) -> Any:
        name = f"files/f{len(self.batches.files) + 1}"
        self.batches.files[name] = data
        self.batches.uploads.append(name)
        self._send(200, {"file": {"name": name, "state": "ACTIVE"}}, {"X-Goog-Upload-Status": "final"})
        return 0, b""

    def gemini_create(self, model: str, *, query: dict[str, str], data: bytes) -> Any:
        body = json.loads(data)["batch"]
        config = body["inputConfig"]
        if "fileName" in config:
            lines = [json.loads(line) for line in self.batches.files[config["fileName"]].splitlines()]
        else:
            lines = [
                {"key": one["metadata"]["key"], "request": one["request"]} for one in config["requests"]["requests"]
            ]
        asked = [(one["key"], one["request"]["contents"][-1]["parts"][0]["text"]) for one in lines]
        return self._gemini(self.batches.make(asked, body, "batches/g"))

    def gemini_get(self, name: str, *, query: dict[str, str], data: bytes) -> Any:
        made = self.batches.made.get(name)
        if made is None:
            return 404, {"error": {"code": 404, "message": "not found", "status": "NOT_FOUND"}}
        self.batches.look(made)
        return self._gemini(made)

    def gemini_cancel(self, name: str, *, query: dict[str, str], data: bytes) -> Any:
        self.batches.made[name].cancelled = True
        return {}

    def gemini_list(self, *, query: dict[str, str], data: bytes) -> Any:
        return {"operations": [self._gemini(made) for made in self.batches.made.values()]}

    def _gemini(self, made: Made) -> dict[str, Any]:
        state = {"": "RUNNING", "completed": "SUCCEEDED"}.get(made.outcome, made.outcome.upper())
        meta: dict[str, Any] = {
            "state": f"BATCH_STATE_{state}",
            "displayName": made.body.get("displayName"),
            "name": made.id,
        }
        row: dict[str, Any] = {"name": made.id, "metadata": meta}
        if made.outcome and made.outcome != "failed":
            if "fileName" in made.body["inputConfig"]:
                output: dict[str, Any] = {"responsesFile": f"files/out-{made.id.rpartition('/')[2]}"}
            else:
                rows = self._gemini_lines(made)
                output = {
                    "inlinedResponses": {"inlinedResponses": [{"metadata": {"key": r.pop("key")}, **r} for r in rows]}
                }
            meta["output"] = output
            row |= {"done": True, "response": output}
        return row

    def _gemini_lines(self, made: Made) -> list[dict[str, Any]]:
        done, failed, _ = self.batches.split(made)
        lines = [{"key": key, "response": gemini_answer(self.batches.reply(text))} for key, text in done]
        return lines + [{"key": key, "error": {"code": 13, "message": "oh"}} for key, _ in failed]

    def gemini_download(self, name: str, *, query: dict[str, str], data: bytes) -> Any:
        made = self.batches.made[f"batches/{name}"]
        return b"".join(json.dumps(one).encode() + b"\n" for one in self.batches.lines(self._gemini_lines(made)))

    def gemini_chat(self, *, query: dict[str, str], data: bytes) -> Any:
        """At once: Google's endpoint of OpenAI's shape."""
        return self.openai_chat(query=query, data=data)  # type: ignore[attr-defined]

    def gemini_models(self, *, query: dict[str, str], data: bytes) -> Any:
        return {"models": [{"name": f"models/{name}"} for name in ("tiny-1", "tiny-2")]}

    # -- Vertex AI

    def vertex_chat(self, *, query: dict[str, str], data: bytes) -> Any:
        """At once."""
        return gemini_answer(self.batches.reply(json.loads(data)["contents"][-1]["parts"][0]["text"]))

    def vertex_create(self, *, query: dict[str, str], data: bytes) -> Any:
        body = json.loads(data)
        assert body["inputConfig"]["instancesFormat"] == "jsonl" and body["model"].startswith("publishers/google/")
        (source,) = body["inputConfig"]["gcsSource"]["uris"]
        bucket, _, name = source.removeprefix("gs://").partition("/")
        address = f"{self.batches.storage}/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media"
        with urllib.request.urlopen(address) as answer:
            lines = [json.loads(line) for line in answer.read().splitlines()]
        asked = [(one["request"]["labels"]["air"], one["request"]["contents"][-1]["parts"][0]["text"]) for one in lines]
        return self._vertex(self.batches.make(asked, body, "projects/1/locations/l/batchPredictionJobs/7"))

    def vertex_get(self, name: str, *, query: dict[str, str], data: bytes) -> Any:
        made = self._vertex_made(name)
        if made is None:
            return 404, {"error": {"code": 404, "message": "not found", "status": "NOT_FOUND"}}
        before = made.outcome
        self.batches.look(made)
        if made.outcome and not before:
            self._vertex_write(made)
        return self._vertex(made)

    def vertex_cancel(self, name: str, *, query: dict[str, str], data: bytes) -> Any:
        made = self._vertex_made(name)
        assert made is not None
        made.cancelled = True
        return {}

    def vertex_list(self, *, query: dict[str, str], data: bytes) -> Any:
        rows = [self._vertex(made) for made in self.batches.made.values()]
        name = query["filter"].removeprefix('display_name="').rstrip('"')
        return {"batchPredictionJobs": [row for row in rows if row["displayName"] == name]}

    def _vertex_made(self, name: str) -> Made | None:
        return next((made for made in self.batches.made.values() if made.id.endswith(f"/{name}")), None)

    def _vertex(self, made: Made) -> dict[str, Any]:
        words = {"": "RUNNING", "completed": "SUCCEEDED"}
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(made.created))
        row: dict[str, Any] = {
            "name": made.id, "displayName": made.body["displayName"], "model": made.body["model"],
            "state": f"JOB_STATE_{words.get(made.outcome, made.outcome.upper())}", "createTime": stamp,
            "inputConfig": made.body["inputConfig"], "outputConfig": made.body["outputConfig"],
        }  # fmt: skip
        if made.outcome == "failed":
            row["error"] = {"code": 3, "message": "The input file has no line that can be read"}
        elif made.outcome:
            done, failed, left = self.batches.split(made)
            row["completionStats"] = {
                "successfulCount": str(len(done)), "failedCount": str(len(failed)), "incompleteCount": str(len(left)),
            }  # fmt: skip
            row["outputInfo"] = {"gcsOutputDirectory": self._vertex_folder(made)}
        return row

    @staticmethod
    def _vertex_folder(made: Made) -> str:
        prefix: str = made.body["outputConfig"]["gcsDestination"]["outputUriPrefix"]
        return f"{prefix.rstrip('/')}/prediction-model-2026-11-28T10:00:00.000000Z"

    def _vertex_write(self, made: Made) -> None:
        """The answers, without an order, each with its request."""
        done, failed, _ = self.batches.split(made)
        rows: list[dict[str, Any]] = []
        for key, text in done + failed:
            request = {"contents": [{"role": "user", "parts": [{"text": text}]}], "labels": {"air": key}}
            answer = {"status": "", "response": gemini_answer(self.batches.reply(text))}
            if (key, text) in failed:
                answer = {"status": "INTERNAL: oh", "response": {}}
            rows.append({**answer, "processed_time": "2026-11-28T10:00:00.000+00:00", "request": request})
        text = "".join(json.dumps(row) + "\n" for row in self.batches.lines(rows))
        bucket, _, folder = self._vertex_folder(made).removeprefix("gs://").partition("/")
        name = urllib.parse.quote(f"{folder}/predictions.jsonl", safe="")
        address = f"{self.batches.storage}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}"
        urllib.request.urlopen(urllib.request.Request(address, text.encode(), method="POST")).close()


_JOBS = "/x/v1beta1/projects/p/locations/l/batchPredictionJobs"
GOOGLE_ROUTES = [
    (r"POST /g/upload/v1/files", "gemini_start"),
    (r"POST /upload-here", "gemini_upload"),
    (r"POST /g/v1/models/([\w.-]+):batchGenerateContent", "gemini_create"),
    (r"GET /g/v1/batches", "gemini_list"),
    (r"GET /g/v1/(batches/\w+)", "gemini_get"),
    (r"POST /g/v1/(batches/\w+):cancel", "gemini_cancel"),
    (r"GET /g/v1/files/out-(\w+):download", "gemini_download"),
    (r"GET /g/v1/models", "gemini_models"),
    (r"POST /g/v1beta/openai/chat/completions", "gemini_chat"),
    (r"POST /x/v1beta1/projects/p/locations/l/publishers/google/models/[\w.-]+:generateContent", "vertex_chat"),
    (rf"POST {_JOBS}", "vertex_create"),
    (rf"GET {_JOBS}", "vertex_list"),
    (rf"GET {_JOBS}/(\d+)", "vertex_get"),
    (rf"POST {_JOBS}/(\d+):cancel", "vertex_cancel"),
]
