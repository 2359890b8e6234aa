"""What a provider refuses, and results that are not what they should be: one sentence, nothing lost or repeated."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from engines.provider.making import again, all_right, engine_for, job_of, results, run
from servers.batches import Batches

from batch import BatchProcessor
from batch.checkpoint import CheckpointStore
from batch.checkpoint.submissions import open_submissions
from batch.items import Request
from batch.job import BatchJob
from batch.running.progress import RunState
from batch.sources import open_source, validate


def unclear(job: BatchJob) -> str:
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        (waiting,) = open_submissions(store)
    return str(waiting.details["unclear"])


BILLING = {"error": {"message": "You exceeded your current quota, check your billing", "code": "insufficient_quota"}}


@pytest.mark.parametrize("status", [402, 429])
def test_a_billing_refusal_is_said_and_loses_nothing(status: int, tmp_path: Path, batches: Batches, url: str) -> None:
    batches.refuse = [("POST /v1/batches", status, BILLING)]
    job = job_of(tmp_path)
    assert "billing" in str(run(job, engine_for("openai", url)).error)
    assert not batches.creates and job.processed == 0
    job = again(job)
    assert run(job, engine_for("openai", url)).error is None
    all_right(job)
    assert len(batches.creates) == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("billing_hard_limit_reached", "Billing hard limit has been reached"),
        ("insufficient_quota", "You exceeded your current quota"),
        ("internal_error", "Failed to generate the output file"),
    ],
)
def test_a_batch_that_failed_for_no_want_of_room_is_not_made_again(
    code: str, message: str, tmp_path: Path, batches: Batches, url: str
) -> None:
    batches.outcome, batches.errors = "failed", {"data": [{"code": code, "message": message, "line": None}]}
    job = job_of(tmp_path)
    assert f"refused the batch: {message}" in str(run(job, engine_for("openai", url)).error)
    assert len(batches.creates) == 1 and job.processed == 0


@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini", "openrouter"])
def test_an_unknown_model_names_those_that_there_are(name: str, tmp_path: Path, batches: Batches, url: str) -> None:
    body: dict[str, Any] = {"error": {"message": "The model does not exist", "code": "model_not_found"}}
    if name == "anthropic":
        body = {"type": "error", "error": {"type": "not_found_error", "message": "model: tiny-1"}}
    if name == "gemini":
        said = "models/tiny-1 is not found for API version v1"
        body = {"error": {"code": 404, "message": said, "status": "NOT_FOUND"}}
    orders = ("POST /v1/batches", "POST /v1/messages/batches", ":batchGenerate")
    batches.refuse = [(part, 404, body) for part in orders]
    said = str(run(job_of(tmp_path), engine_for(name, url)).error)
    assert re.search("the key may use: tiny-1, tiny-2", said), said
    assert not batches.creates


def test_a_bucket_that_is_none_is_said(tmp_path: Path, batches: Batches, url: str, vertex: None) -> None:
    job = job_of(tmp_path)
    said = str(run(job, engine_for("vertex", url, bucket="no-such-bucket")).error)
    assert "no-such-bucket" in said or "not found" in said.lower(), said
    assert not batches.creates and job.processed == 0


def test_lines_that_cannot_be_read_are_looked_at_again_and_never_paid_for_twice_unasked(
    tmp_path: Path, batches: Batches, url: str
) -> None:
    reads: list[int] = []

    def lines(rows: list[dict[str, Any]]) -> list[Any]:
        reads.append(1)
        return rows if len(reads) == 2 else [*rows[:-1], b'{"id": "r", "custom_id": "cut off in the mid\n']

    batches.lines = lines
    job = job_of(tmp_path / "once")
    assert run(job, engine_for("openai", url)).error is None
    all_right(job)
    assert len(batches.creates) == 1 and len(reads) == 2
    job = job_of(tmp_path / "always")
    done = run(job, engine_for("openai", url))
    assert done.error is None and done.snapshot().state is RunState.WAITING and job.completed == 6
    assert "1 line of the results of batch batch_2 cannot be read" in unclear(job) and len(batches.creates) == 2


def test_results_that_are_empty_may_come_late(tmp_path: Path, batches: Batches, url: str) -> None:
    reads: list[int] = []

    def lines(rows: list[dict[str, Any]]) -> list[Any]:
        reads.append(1)
        return [] if len(reads) < 4 else rows

    batches.lines = lines
    job = job_of(tmp_path)
    assert run(job, engine_for("openai", url)).error is None
    all_right(job)
    assert len(batches.creates) == 1


IMAGE = [{"type": "image_url", "image_url": {"url": "x"}}]


@pytest.mark.parametrize(
    ("name", "extra", "said"),
    [
        ("openai", {"endpoint": "completions"}, "bare text"),
        ("gemini", {"messages": [{"role": "user", "content": IMAGE}]}, "no image_url"),
        ("gemini", {"messages": [{"role": "tool", "content": "7"}]}, "no role 'tool'"),
    ],
)
def test_what_cannot_be_asked_is_refused_alone(
    name: str, extra: dict[str, Any], said: str, tmp_path: Path, batches: Batches, url: str
) -> None:
    job = BatchProcessor(tmp_path).create_job("m", [Request("prompt 0"), Request("strange", extra)])
    assert run(job, engine_for(name, url)).error is None
    good, bad = results(job)
    assert good.response_text.strip() == "answer to prompt 0" and said in str(bad.error_message)


UNSUPPORTED = {"error": {"code": 400, "message": "Unsupported region for Vertex AI", "status": "FAILED_PRECONDITION"}}
NOT_THERE = {"error": {"code": 404, "message": "Publisher model tiny-1 was not found in l", "status": "NOT_FOUND"}}


@pytest.mark.parametrize(("status", "body"), [(400, UNSUPPORTED), (404, NOT_THERE)])
def test_a_region_that_does_not_have_it_is_said(
    status: int, body: Any, tmp_path: Path, batches: Batches, url: str, vertex: None
) -> None:
    batches.refuse = [("batchPredictionJobs", status, body)]
    job = job_of(tmp_path)
    said = str(run(job, engine_for("vertex", url)).error)
    assert body["error"]["message"] in said and "\n" not in said
    assert not batches.creates and job.processed == 0
    assert run(again(job), engine_for("vertex", url)).error is None
    all_right(job)


@pytest.mark.parametrize("name", ["openai", "vertex"])
def test_two_rows_of_one_id_are_said_and_each_has_its_own_answer(
    name: str, tmp_path: Path, batches: Batches, url: str, vertex: None
) -> None:
    """Names in a batch are ours, so that a name of the user's that comes twice confuses nobody."""
    asked = [[{"role": "user", "content": f"prompt {n}"}] for n in range(2)]
    order = {"custom_id": "same", "method": "POST", "url": "/v1/chat/completions"}
    lines = [{**order, "body": {"messages": messages}} for messages in asked]
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    source = open_source(file)
    report = validate(source)
    [said] = [problem.text for problem in report.problems if problem.code == "duplicate_id"]
    assert said.startswith("1 custom_id is used before: ") and "\n" not in said
    job = BatchProcessor(tmp_path).create_job("m", source)
    assert run(job, engine_for(name, url)).error is None
    all_right(job, 2)
    assert len(batches.creates) == 1


@pytest.mark.parametrize(("status", "lost"), [(503, False), (429, False), (401, True)])
def test_what_vertex_refuses_at_once(
    status: int, lost: bool, tmp_path: Path, batches: Batches, url: str, vertex: None
) -> None:
    body = {"error": {"code": status, "message": "not now", "status": "UNAVAILABLE"}}
    batches.refuse = [(":generateContent", status, body)]
    job = job_of(tmp_path, 3)
    done = run(job, engine_for("vertex", url, lane="now"))
    assert (done.error is not None) is lost
    if lost:
        assert "refuses the key" in str(done.error) and job.failed == 0
    else:
        all_right(job, 3)


def test_of_requests_too_large_for_any_batch_none_is_ordered(tmp_path: Path, batches: Batches, url: str) -> None:
    job = BatchProcessor(tmp_path).create_job("m", ["x" * 3000, "y" * 3000])
    run(job, engine_for("openai", url, max_bytes=2000))
    assert not batches.creates and job.failed == 2
    assert all("more than a whole batch may have" in str(row.error_message) for row in results(job))
