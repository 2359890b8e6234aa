"""`submit`, `poll`, `collect`, `cancel`, `reconcile`: a provider's batches on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from program import Program
from servers.batches import Batches, serving

from ai_router.cli.errors import Exit
from batch.checkpoint import schema
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


def test_what_is_with_a_provider_is_listed_whoever_was_killed(program: Program, batches: Batches, url: str) -> None:
    models("openai", f"{url}/v1")
    batches.needed = 10**9
    assert program("submit", program.prompts("one", "two"), "--model", "far", "--display", "plain") == Exit.WAITING
    job = program.job()
    with closing(schema.connect(Path(job.checkpoint_file or ""), "write")) as connection:  # as while it ran
        connection.execute("UPDATE job SET status = 'running'")
    assert program("jobs") == 0
    assert f"{job.job_id}: 2 with openai in 1 batch" in program.err and f"ai-router collect {job.job_id}" in program.err


def test_gone_results_are_for_a_person(program: Program, batches: Batches, url: str) -> None:
    models("openai", f"{url}/v1")
    assert program("submit", program.prompts("one"), "--model", "far", "--display", "plain") == Exit.WAITING
    batches.refuse = [("/content", 404, {"error": {"message": "no such file"}})] * 9
    assert program("collect", program.job().job_id, "--display", "plain") == Exit.WAITING
    assert "A person has to say" in program.err and "Collect the answers" not in program.err
    assert program("reconcile", program.job().job_id) == Exit.WAITING and "are gone" in program.out
    key, batches.refuse = program.out.split()[0], []
    assert program("reconcile", program.job().job_id, "--again", key) == 0
    assert program("resume", program.job().job_id, "--display", "plain") == 0 and len(batches.creates) == 2


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
    settle = "A person has to say what became of what is with the provider: ai-router"
    assert settle in program.err and "Collect the answers" in program.err  # it may be known when it is over
    for words in (["poll", job.job_id], ["poll", job.job_id, "--watch"], ["collect", job.job_id, "--display", "plain"]):
        assert program(*words) == Exit.WAITING and settle in program.err
    assert (
        program("jobs") == 0
        and f"a person has to say what became of it: ai-router reconcile {job.job_id}" in program.err
    )
    assert program("reconcile", job.job_id) == Exit.WAITING and "it may be msgbatch_1" in program.out
    key = program.out.split()[0]
    assert program("reconcile", job.job_id, "--adopt", "nothing=x") == Exit.USAGE
    assert program("reconcile", job.job_id, "--adopt", f"{key}=msgbatch_1") == 0
    batches.needed = 1
    assert program("collect", job.job_id, "--wait", "--display", "plain") == 0
    assert program.job().completed == 2 and len(batches.creates) == 1


def test_a_job_that_has_a_deadline_and_no_lane_is_collected(program: Program, batches: Batches, url: str) -> None:
    models("openai", f"{url}/v1")
    batches.needed = 2
    lane = ["--lane", "auto", "--deadline", "6h"]
    assert program("submit", program.prompts("one"), "--model", "far", *lane, "--display", "plain") == Exit.WAITING
    job = program.job()
    with closing(schema.connect(Path(job.checkpoint_file or ""), "write")) as connection:  # as older versions took it
        connection.execute("UPDATE job SET config = replace(config, '\"auto\"', '\"batch\"')")
        assert '"auto"' not in connection.execute("SELECT config FROM job").fetchone()[0]
        connection.commit()
    assert program("collect", job.job_id, "--wait", "--display", "plain") == 0 and program.job().completed == 1


def test_lane_and_deadline_are_for_providers(program: Program) -> None:
    for flags in (["--lane", "now"], ["--lane", "auto", "--deadline", "6h"], ["--deadline", "6h"]):
        assert program("run", program.prompts("one"), *flags, "--display", "plain") == Exit.USAGE
        assert "are for a provider's model" in program.err
    assert not list(Path("checkpoints").glob("*.db"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--lane", "auto"], "needs a deadline"),
        (["--lane", "auto", "--deadline", "soon"], "no length of time"),
        (["--deadline", "6h"], "--deadline counts with --lane auto alone"),
        (["--lane", "batch", "--deadline", "6h"], "--deadline counts with --lane auto alone"),
    ],
)
def test_lanes_that_cannot_be(flags: list[str], said: str, program: Program, batches: Batches, url: str) -> None:
    models("openai", f"{url}/v1")
    assert program("submit", program.prompts("one"), "--model", "far", *flags, "--display", "plain") == Exit.USAGE
    assert said in program.err and not list(Path("checkpoints").glob("*.db")) and not batches.creates


def test_lanes_of_a_run_are_those_of_its_model(program: Program, batches: Batches, url: str) -> None:
    pytest.importorskip("aiohttp")
    models("openai", f"{url}/v1")
    batches.needed = 10**9
    assert program("run", program.prompts("one", "two"), "--model", "far", "--lane", "now", "--display", "plain") == 0
    assert not batches.creates and program.job().cost == 2 * (10 * 2000 + 5 * 8000)  # the standard price
    flags = ["--lane", "auto", "--deadline", "0.4s", "--display", "plain"]
    assert program("run", program.prompts("three", "four"), "--model", "far", *flags) == 0
    assert len(batches.creates) == 1 and batches.made["batch_1"].cancelled


def test_a_job_of_several_models_with_a_provider_among_them(
    program: Program, batches: Batches, url: str, tmp_path: Path
) -> None:
    pytest.importorskip("aiohttp")
    models("openai", f"{url}/v1")
    with Path("models.yaml").open("a", encoding="utf-8") as file:
        file.write(f"  near: {{engine: server, model: tiny-1, url: {url}/v1}}\n")
    Path("table.csv").write_text("text,llm\none,near\ntwo,far\nthree,\nfour,far\n", "utf-8")
    batches.needed = 3
    table = ["table.csv", "--column", "text", "--per-row", "model=llm"]
    words = ["submit", *table, "--model", "near", "--display", "plain"]
    assert program(*words) == Exit.WAITING
    job = program.job()
    assert (job.completed, job.with_provider, len(batches.creates)) == (2, 2, 1)
    assert program("poll", job.job_id) == Exit.WAITING and "batch_1  openai  2 requests" in program.out
    assert program("collect", job.job_id, "--wait", "--output", "answers.jsonl", "--display", "plain") == 0
    lines = Path("answers.jsonl").read_text("utf-8").splitlines()
    assert [text in line for text, line in zip(("o one", "o two", "o three", "o four"), lines, strict=True)] == [
        True
    ] * 4
    assert len(batches.creates) == 1 and program.job().with_provider == 0
    # A lane is for the provider's model among them.
    batches.needed = 10**9
    Path("checkpoints").joinpath(f"batch_{job.job_id}.db").unlink()
    assert program(*words, "--lane", "now") == 0 and len(batches.creates) == 1


def test_no_key_names_the_variable_before_anything_is_written(
    program: Program, batches: Batches, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models("openai", f"{url}/v1")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert program("submit", program.prompts("one"), "--model", "far") == Exit.USAGE
    assert "set the environment variable OPENAI_API_KEY" in program.err
    assert not list(Path("checkpoints").glob("*.db")) and not batches.calls
