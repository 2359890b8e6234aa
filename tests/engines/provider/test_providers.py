"""Providers' batches as an engine: every answer in its row, whatever order, failure or refusal comes between."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from engines.provider.making import PROVIDERS, again, all_right, engine_for, job_of, results, run, words
from servers.batches import Batches

from batch import Run
from batch.checkpoint import CheckpointStore
from batch.checkpoint.submissions import all_submissions, open_submissions
from batch.engines.provider.row import ROW, seconds
from batch.job import BatchJob
from batch.options import RunOptions
from batch.running.progress import RunState

GOOGLE = ("gemini", "vertex")


def submissions(job: BatchJob) -> list[Any]:
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        return all_submissions(store)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_job_is_answered(name: str, tmp_path: Path, batches: Batches, url: str) -> None:
    job = job_of(tmp_path)
    engine = engine_for(name, url, max_requests=3)
    done = run(job, engine, options=RunOptions(workers=2))  # no limit of batches
    assert done.error is None
    all_right(job)
    assert len(batches.creates) == 3 and set(batches.asked.values()) == {1}
    assert [s.state for s in submissions(job)] == ["settled"] * 3
    first = results(job)[0]
    assert (first.tokens_input, first.tokens_output) == (10, 7 if name.startswith(GOOGLE) else 5)
    assert first.cost == 10 * 1000 + first.tokens_output * 4000  # the batch price
    if name.startswith("gemini"):
        assert bool(batches.uploads) == (name == "gemini-file")
    assert not any(batches.secret.encode() in text for text in words(tmp_path))


@pytest.mark.parametrize("name", PROVIDERS)
def test_handed_over_by_one_process_and_collected_by_another(
    name: str, tmp_path: Path, batches: Batches, url: str
) -> None:
    batches.needed = 4
    job = job_of(tmp_path)
    done = run(job, engine_for(name, url), wait=False)
    assert done.error is None and done.snapshot().state is RunState.WAITING
    job = again(job)
    assert run(job, engine_for(name, url), wait=False).snapshot().state is RunState.WAITING  # too early
    job = again(job)
    assert run(job, engine_for(name, url)).error is None
    all_right(job)
    assert len(batches.creates) == 1


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("outcome", ["expired", "cancelled"])
def test_what_was_finished_is_kept_and_the_rest_goes_again(
    name: str, outcome: str, tmp_path: Path, batches: Batches, url: str
) -> None:
    batches.outcome, batches.answered = outcome, 0.6
    job = job_of(tmp_path)
    done = run(job, engine_for(name, url), wait=False)
    while done.snapshot().state is RunState.WAITING:
        batches.outcome = "completed" if job.completed else outcome
        job = again(job)
        done = run(job, engine_for(name, url), wait=False)
    assert done.error is None
    all_right(job)
    if name.startswith("gemini"):
        return  # whose double has no part of an answer for what was cut short
    assert set(batches.paid.values()) == {1}


@pytest.mark.parametrize("name", PROVIDERS)
def test_lines_in_error_are_tried_again(name: str, tmp_path: Path, batches: Batches, url: str) -> None:
    batches.failing = lambda text: text in ("prompt 2", "prompt 5") and len(batches.creates) < 2
    job = job_of(tmp_path)
    assert run(job, engine_for(name, url)).error is None
    all_right(job)
    assert batches.asked["prompt 1"] == 1 and batches.asked["prompt 2"] == 2


def test_a_batch_with_nothing_but_an_error_file(tmp_path: Path, batches: Batches, url: str) -> None:
    batches.failing = lambda text: True
    job = job_of(tmp_path, 2)
    done = run(job, engine_for("openai", url), options=RunOptions())
    assert done.error is None and job.failed == 2 and "openai failed (500): oh" in str(results(job)[0].error_message)


def test_duplicates_strangers_and_lines_that_are_none_are_reported_and_not_written(
    tmp_path: Path, batches: Batches, url: str
) -> None:
    def lines(rows: list[dict[str, Any]]) -> list[Any]:
        other = json.loads(json.dumps(rows[0]))
        other["response"]["body"]["choices"][0]["message"]["content"] = "another answer"
        stranger = {**rows[0], "custom_id": "somebody-else-1"}
        far = {**rows[0], "custom_id": rows[0]["custom_id"].rpartition("-")[0] + "-99"}
        return [*rows, other, stranger, far, b"{ no JSON\n", b"\n"]

    batches.lines = lines
    job = job_of(tmp_path)
    engine = engine_for("openai", url)
    assert run(job, engine).error is None
    all_right(job)
    assert (engine.duplicates, engine.strangers) == (1, 3)
    assert submissions(job)[0].details["strangers"] == 3 and engine.about["second answers"] == 1


@pytest.mark.parametrize("status", [0, None, 429, 500])
def test_a_line_without_an_answer_is_a_failed_try(
    status: int | None, tmp_path: Path, batches: Batches, url: str
) -> None:
    def lines(rows: list[dict[str, Any]]) -> list[Any]:
        if len(batches.creates) == 1:
            rows[0]["response"] = {"status_code": status, "body": {"error": {"message": "later"}}}
        return rows

    batches.lines = lines
    job = job_of(tmp_path, 2)
    assert run(job, engine_for("openai", url)).error is None
    all_right(job, 2)
    assert len(batches.creates) == 2


def test_results_that_lack_an_item(tmp_path: Path, batches: Batches, url: str) -> None:
    batches.lines = lambda rows: rows[1:] if len(batches.creates) == 1 else rows
    job = job_of(tmp_path, 3)
    assert run(job, engine_for("openai", url)).error is None
    all_right(job, 3)
    assert len(batches.creates) == 2


def test_a_quota_is_filled_drop_by_drop(tmp_path: Path, batches: Batches, url: str) -> None:
    batches.limit, batches.needed = 4, 3
    job = job_of(tmp_path, 10)
    engine = engine_for("openai", url, max_requests=4)
    assert run(job, engine).error is None
    all_right(job, 10)
    assert set(batches.paid.values()) == {1}


def test_without_waiting_what_a_quota_has_no_room_for_is_handed_over_later(
    tmp_path: Path, batches: Batches, url: str
) -> None:
    limited = {"error": {"message": "Enqueued token limit reached", "code": "token_limit_exceeded"}}
    batches.needed = 100
    job = job_of(tmp_path, 6)
    engine = engine_for("openai", url, max_requests=3, grace=30)
    batches.refuse = []
    original = batches.make

    def make(*args: Any) -> Any:
        made = original(*args)
        batches.refuse = [("POST /v1/batches", 429, limited)]
        return made

    batches.make = make  # type: ignore[method-assign]
    done = run(job, engine, wait=False)
    assert done.error is None and done.snapshot().state is RunState.WAITING and job.with_provider == 3
    batches.make = original  # type: ignore[method-assign]
    batches.needed = 1
    job = again(job)
    assert run(job, engine_for("openai", url)).error is None
    all_right(job, 6)


@pytest.mark.parametrize("name", ["openai", "gemini-file"])
def test_a_file_that_could_not_be_sent_is_sent_again(name: str, tmp_path: Path, batches: Batches, url: str) -> None:
    batches.drop = ["/files"]
    job = job_of(tmp_path)
    assert run(job, engine_for(name, url)).error is None
    all_right(job)
    assert len(batches.creates) == 1


@pytest.mark.parametrize("name", PROVIDERS)
def test_an_order_whose_answer_was_lost_is_found_and_not_repeated(
    name: str, tmp_path: Path, batches: Batches, url: str
) -> None:
    batches.needed = 3
    batches.drop = ["POST /v1/batches", "POST /v1/messages/batches", ":batchGenerateContent"]
    job = job_of(tmp_path)
    engine = engine_for(name, url)
    if name == "anthropic":  # known by its results alone, once it has ended
        run(job, engine, wait=False)
        for made in batches.made.values():
            made.outcome = "completed"
        job = again(job)
        engine = engine_for(name, url)
    assert run(job, engine).error is None
    all_right(job)
    assert len(batches.creates) == 1


def test_where_it_cannot_be_told_whether_a_batch_was_made_a_person_is_asked(
    tmp_path: Path, batches: Batches, url: str
) -> None:
    batches.drop, batches.needed = ["POST /v1/messages/batches"], 10**9
    job = job_of(tmp_path)
    done = run(job, engine_for("anthropic", url))
    assert done.error is None and done.snapshot().state is RunState.WAITING
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        (intent,) = open_submissions(store)
    assert intent.remote_id is None and intent.details["maybe"] == ["msgbatch_1"]
    assert len(batches.creates) == 1


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_refused_key_loses_nothing(name: str, tmp_path: Path, batches: Batches, url: str) -> None:
    batches.wrong_key = True
    job = job_of(tmp_path)
    assert re.search("refuses the key", str(run(job, engine_for(name, url)).error))
    assert not batches.creates
    batches.wrong_key = False
    job = again(job)
    assert run(job, engine_for(name, url)).error is None
    all_right(job)


def test_a_batch_refused_as_a_whole_says_why(tmp_path: Path, batches: Batches, url: str) -> None:
    batches.outcome = "failed"
    batches.errors = {"data": [{"code": "invalid_json_line", "message": "This line is not parseable", "line": 3}]}
    job = job_of(tmp_path)
    assert re.search(
        r"refused the batch: This line is not parseable \(line 3\)", str(run(job, engine_for("openai", url)).error)
    )
    assert job.processed == 0 and submissions(job)[0].state == "withdrawn"


def test_looks_survive_bad_days_and_unknown_words(tmp_path: Path, batches: Batches, url: str) -> None:
    batches.needed = 3
    batches.refuse = [
        ("GET /v1/batches/", 404, {"error": {"message": "not yet"}}),
        ("GET /v1/batches/", 503, b"<html>busy"),
        ("GET /v1/batches/", 429, {"error": {"message": "slow down"}}),
        ("GET /v1/batches/", 200, {"id": "batch_1", "status": "a_word_of_tomorrow"}),
        ("GET /v1/batches/", 200, {"id": "batch_1", "status": "completed", "request_counts": {"total": 0}}),
        ("GET /v1/batches/", 200, b"not JSON"),
        ("/content", 500, {"error": {"message": "again"}}),
    ]
    job = job_of(tmp_path)
    assert run(job, engine_for("openai", url)).error is None
    all_right(job)
    assert len(batches.creates) == 1 and not batches.refuse


def test_results_that_are_gone_are_not_paid_for_again_unasked(tmp_path: Path, batches: Batches, url: str) -> None:
    batches.refuse = [("/content", 404, {"error": {"message": "No such File object"}})]
    job = job_of(tmp_path)
    done = run(job, engine_for("openai", url))
    assert done.snapshot().state is RunState.WAITING and len(batches.creates) == 1
    assert "are gone" in submissions(job)[0].details["unclear"]


AT_ONCE = ("openai", "anthropic", "gemini", "openrouter", "vertex")


@pytest.mark.parametrize("name", AT_ONCE)
def test_near_the_deadline_the_rest_is_asked_at_once(name: str, tmp_path: Path, batches: Batches, url: str) -> None:
    pytest.importorskip("aiohttp")
    batches.needed, batches.answered = 10**9, 0.5
    job = job_of(tmp_path)
    if name == "openrouter":  # which cannot cancel: what is with it is waited for
        batches.needed, batches.answered = 30, 1.0
        assert run(job, engine_for(name, url, lane="auto", deadline="0.4s")).error is None
        return all_right(job)
    assert run(job, engine_for(name, url, lane="auto", deadline="0.4s")).error is None
    all_right(job)
    costs = [r.cost for r in results(job)]
    half, standard = 38_000 if name in ("gemini", "vertex") else 30_000, 76_000 if name == "vertex" else 60_000
    assert costs == [half] * 3 + [standard] * 4
    assert len(batches.creates) == 1 and set(batches.paid.values()) == {1}


@pytest.mark.parametrize("name", AT_ONCE)
def test_at_once_from_the_start(name: str, tmp_path: Path, batches: Batches, url: str) -> None:
    pytest.importorskip("aiohttp")
    job = job_of(tmp_path)
    assert run(job, engine_for(name, url, lane="now")).error is None
    all_right(job)
    assert not batches.creates


@pytest.mark.parametrize("again_after", [0.3, 5.0])
def test_a_deadline_counts_from_the_first_batch(again_after: float, tmp_path: Path, batches: Batches, url: str) -> None:
    pytest.importorskip("aiohttp")
    batches.outcome, batches.answered, batches.needed = "expired", 0.5, 1
    job, now = job_of(tmp_path), [1000.0]

    def hurry(*args: Any) -> Any:  # the second batch is never over; most of the deadline went with the first
        batches.needed, now[0] = 10**9 if batches.creates else 1, now[0] + (again_after if batches.creates else 0)
        return make(*args)

    make = batches.make
    batches.make = hurry  # type: ignore[method-assign]
    engine = engine_for("openai", url, lane="auto", deadline="4s")
    engine._clock = lambda: now[0]
    made = Run(job, engine).start()
    limit = time.monotonic() + 90
    while len(batches.creates) < 2 and time.monotonic() < limit:
        time.sleep(0.005)
    if again_after < 1:
        assert not made.wait(0.2)
        now[0] += 4
    assert made.wait(90) and made.error is None
    all_right(job)
    assert len(batches.creates) == 2


def test_status_says_age_counts_and_what_comes_next(tmp_path: Path, batches: Batches, url: str) -> None:
    batches.needed = 10**9
    job = job_of(tmp_path)
    engine = engine_for("openai", url)
    made = Run(job, engine, None).start()
    limit = time.monotonic() + 90
    while "expires" not in engine.status and time.monotonic() < limit:
        time.sleep(0.01)
    status = engine.status
    assert "1 batch with openai, " in status and "oldest 0 min, expires in 24 h, looks again in" in status
    made.stop("now")
    assert made.wait(90) and made.snapshot().state is RunState.WAITING


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"provider": "opnai", "model": "x"}, "did you mean openai"),
        ({"provider": "openai"}, "model: NAME"),
        ({"provider": "gateway", "model": "x"}, "url: gateway has no address"),
        ({"provider": "openai", "model": "x", "lane": "auto"}, "needs a deadline"),
        ({"provider": "openai", "model": "x", "lane": "auto", "deadline": "soon"}, "no length of time"),
        ({"provider": "openai", "model": "x", "price": "nothing-1"}, "nothing is known of"),
    ],
)
def test_entries_that_cannot_be(entry: dict[str, Any], said: str) -> None:
    assert re.search(said, ROW.check(entry))


@pytest.mark.parametrize(("text", "value"), [("6h", 21600), ("90m", 5400), ("45", 45), ("1.5d", 129600)])
def test_lengths_of_time(text: str, value: float) -> None:
    assert seconds(text) == value


def test_no_key_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert re.search("GEMINI_API_KEY", str(run(job_of(tmp_path), engine_for("gemini", "http://127.0.0.1:9")).error))
