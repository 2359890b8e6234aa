"""The batch engine against servers that nobody here wrote: aimock, llmock, and Cloud Storage's emulator."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from engines.provider.making import again, engine_for, job_of, keys, results, run
from servers.batches import Batches
from servers.foreign import aimock, llmock
from servers.google_batches import gemini_answer

from batch import BatchProcessor
from batch.engines.provider.base import Remote, Settings
from batch.running.progress import RunState


@pytest.fixture(autouse=True)
def with_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    keys(monkeypatch.setenv, Batches())


def journal(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/__aimock/journal") as answer:
        data = json.load(answer)
    return data if isinstance(data, list) else data.get("entries", data.get("requests", []))


def creates(url: str) -> int:
    return sum(e.get("method") == "POST" and str(e.get("path", "")).rstrip("/") == "/v1/batches" for e in journal(url))


def test_aimock_sees_every_batch_once(tmp_path: Path) -> None:
    with aimock(tmp_path) as url:
        job = BatchProcessor(tmp_path / "jobs").create_job("m", [f"hello {i}" for i in range(6)])
        done = run(job, engine_for("openai", url, max_requests=3), wait=False)
        assert done.snapshot().state is RunState.WAITING, done.error
        job = again(job)
        done = run(job, engine_for("openai", url, max_requests=3))
        assert done.error is None and job.completed == 6
        assert len({r.response_text for r in results(job)}) == 1
        assert creates(url) == 2


def test_aimock_in_chaos_is_not_asked_twice(tmp_path: Path) -> None:
    with aimock(tmp_path) as url:
        request = urllib.request.Request(
            f"{url}/__aimock/chaos", json.dumps({"rateLimitRate": 0.3, "disconnectRate": 0.2}).encode(), method="POST"
        )
        request.add_header("content-type", "application/json")
        urllib.request.urlopen(request).close()
        job = BatchProcessor(tmp_path / "jobs").create_job("m", [f"hello {i}" for i in range(4)])
        for _ in range(8):
            if run(job, engine_for("openai", url)).error is None and job.completed == 4:
                break
            job = again(job)
        assert job.completed == 4
        calm = urllib.request.Request(f"{url}/__aimock/chaos", b'{"rateLimitRate": 0, "disconnectRate": 0}')
        calm.add_header("content-type", "application/json")
        urllib.request.urlopen(calm).close()
        with urllib.request.urlopen(f"{url}/v1/batches") as answer:
            assert len(json.load(answer)["data"]) == 1


def test_llmock_takes_looks_and_lists(tmp_path: Path) -> None:
    with llmock(tmp_path) as url:
        for name in ("openai", "anthropic"):
            engine = engine_for(name, url if name == "openai" else f"{url}/anthropic")
            job = job_of(tmp_path / name, 3)
            done = run(job, engine, wait=False)
            assert done.snapshot().state is RunState.WAITING, done.error
            if name == "openai":  # Anthropic's results are at an address that does not exist there
                job = again(job)
                assert run(job, engine_for(name, url)).error is None and job.completed == 3


def test_vertex_puts_its_files_into_a_bucket_and_reads_only_its_own_folder(
    tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batch.engines.provider.gemini import VertexPage
    from batch.items import Request
    from batch.options import SamplingOptions

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage)
    settings = Settings("vertex", "gemini-tiny", base_url="http://127.0.0.1:9", bucket="own", project="p", location="l")
    page = VertexPage(settings)
    page._storage.create_bucket("own")
    lines = [page.line(f"run-1-{i}", Request(f"prompt {i}"), SamplingOptions(), lambda name: None) for i in range(3)]
    file = tmp_path / "requests.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert page.upload(file, "run-1") == "gs://own/air/run-1/input.jsonl"
    with pytest.raises(Exception, match=r"412|[Cc]ondition"):  # a name is used once
        page.upload(file, "run-1")
    bucket = page._storage.bucket("own")
    out = [
        {"status": "", "request": line["request"], "response": gemini_answer(f"a{i}")} for i, line in enumerate(lines)
    ]
    out[1] = {"status": "INTERNAL: oh", "request": lines[1]["request"], "response": {}}
    bucket.blob("air/run-1/output/prediction-1/predictions.jsonl").upload_from_string(
        "".join(json.dumps(line) + "\n" for line in reversed(out))
    )
    bucket.blob("air/run-10/output/prediction-1/predictions.jsonl").upload_from_string(json.dumps(out[0]) + "\n")
    got = {r.custom_id: r for r in page.results(Remote("j", "succeeded", results=("gs://own/air/run-1/output",)))}
    assert sorted(got) == ["run-1-0", "run-1-1", "run-1-2"]
    assert got["run-1-0"].reply is not None and got["run-1-0"].reply.text == "a0\n"
    assert got["run-1-1"].failure is not None and "INTERNAL" in got["run-1-1"].failure.message
    page.close()
