"""`submit`, `poll`, `collect`, `cancel`, `reconcile`: a provider's batches on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from program import Program
from servers.batches import Batches, serving

from ai_router.cli.errors import Exit
from batch.job import JobStatus

MODELS = """\
models:
  far:
    engine: provider
    provider: {provider}
    model: tiny-1
    url: {url}
    poll: 0.02
    grace: 0.2
    price: {{input: 2, output: 8, batch: {{input: 1, output: 4}}}}
"""


@pytest.fixture
def batches() -> Batches:
    return Batches()


@pytest.fixture
def url(batches: Batches, program: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import ai_router.jobs
    import ai_router.models

    for name in ("make_engine", "make_job_engine"):  # the real one, which `program` has replaced
        if hasattr(ai_router.jobs, name):
            monkeypatch.setattr(ai_router.jobs, name, getattr(ai_router.models, name))
    monkeypatch.setenv("OPENAI_API_KEY", batches.secret)
    monkeypatch.setenv("ANTHROPIC_API_KEY", batches.secret)
    with serving(batches) as address:
        yield address


def models(provider: str, url: str) -> None:
    Path("models.yaml").write_text(MODELS.format(provider=provider, url=url), "utf-8")


def test_submit_poll_collect(program: Program, batches: Batches, url: str) -> None:
    models("openai", f"{url}/v1")
    batches.needed = 3
    assert program("submit", program.prompts("one", "two"), "--model", "far", "--display", "plain") == Exit.WAITING
    job = program.job()
    assert job.status == JobStatus.WAITING and f"collect {job.job_id}" in program.err
    assert program("poll", job.job_id) == Exit.WAITING
    assert "batch_1  openai  2 requests  in_progress" in program.out and "expires in 24 h" in program.out
    assert program("poll", job.job_id, "--watch", "--every", "0.05") == 0
    assert program("collect", job.job_id, "--output", "answers.jsonl") == 0
    assert Path("answers.jsonl").read_text("utf-8").count("answer to") == 2
    assert len(batches.creates) == 1 and program.job().cost == 2 * (10 * 1000 + 5 * 4000)
    assert program("poll", job.job_id) == 0 and "Nothing of job" in program.err


def test_cancel_keeps_what_is_done_and_pays_for_nothing_more(program: Program, batches: Batches, url: str) -> None:
    models("openai", f"{url}/v1")
    batches.needed, batches.answered = 10**9, 0.5
    assert program("submit", program.prompts("one", "two"), "--model", "far", "--display", "plain") == Exit.WAITING
    job = program.job()
    assert program("cancel", job.job_id) == 0 and "is asked to end it" in program.err
    assert program("collect", job.job_id, "--display", "plain") == Exit.FAILED
    assert "handed over again on resuming" in program.err
    assert program.job().completed == 1 and len(batches.creates) == 1
    batches.needed = 1
    assert program("resume", job.job_id, "--display", "plain") == 0
    assert program.job().completed == 2 and set(batches.paid.values()) == {1}


def test_a_person_says_what_became_of_an_order(program: Program, batches: Batches, url: str) -> None:
    models("anthropic", url)
    batches.drop, batches.needed = ["POST /v1/messages/batches"], 10**9
    assert program("run", program.prompts("one", "two"), "--model", "far", "--display", "plain") == Exit.WAITING
    job = program.job()
    assert program("reconcile", job.job_id) == Exit.WAITING and "it may be msgbatch_1" in program.out
    key = program.out.split()[0]
    assert program("reconcile", job.job_id, "--adopt", "nothing=x") == Exit.USAGE
    assert program("reconcile", job.job_id, "--adopt", f"{key}=msgbatch_1") == 0
    batches.needed = 1
    assert program("collect", job.job_id, "--wait", "--display", "plain") == 0
    assert program.job().completed == 2 and len(batches.creates) == 1


def test_lane_and_deadline_are_for_providers(program: Program) -> None:
    assert program("run", program.prompts("one"), "--lane", "now", "--display", "plain") == Exit.FAILED
    assert "are for a provider's model" in program.err
