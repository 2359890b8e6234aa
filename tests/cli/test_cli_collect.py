"""Jobs whose answers come later, on the command line: 75, and the command that collects."""

from __future__ import annotations

from pathlib import Path

import pytest
from program import Program
from servers.remote import Remote, RemoteEngine

from ai_router.cli.errors import Exit
from batch.job import JobStatus


@pytest.fixture
def far(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a provider that the program's model is with; a group must be looked at three times."""
    place = tmp_path / "provider"
    monkeypatch.setattr(
        "ai_router.jobs.make_engine", lambda *args, **kw: RemoteEngine(place, size=2, looks=place_looks(place))
    )
    return place


def place_looks(place: Path) -> int:
    return int(place.with_suffix(".looks").read_text()) if place.with_suffix(".looks").exists() else 3


def test_a_job_is_left_with_a_provider_and_collected(program: Program, far: Path) -> None:
    far.with_suffix(".looks").write_text("1000000")
    from batch import Run

    init = Run.__init__
    with pytest.MonkeyPatch.context() as patch:  # as `run` stays by itself
        patch.setattr(Run, "__init__", lambda self, *a, **kw: init(self, *a, **{**kw, "wait_for_providers": False}))
        assert program("run", program.prompts("one", "two", "three"), "--display", "plain") == Exit.WAITING == 75
    job = program.job()
    assert job.status == JobStatus.WAITING and "Collect the answers with: ai-router --workspace" in program.err
    assert f"collect {job.job_id}" in program.err and "Resume with" not in program.err
    assert program("jobs") == 0 and " waiting " in program.out
    # Once: they are not there yet.
    assert program("collect", job.job_id, "--display", "plain") == 75 and "3 prompts with a provider" in program.err
    far.with_suffix(".looks").write_text("1")
    assert program("collect", job.job_id, "--wait", "--output", "answers.jsonl") == 0
    assert program.job().completed == 3 and Path("answers.jsonl").read_text("utf-8").count("answer to") == 3
    remote = Remote(far)
    assert [item for _, item in remote.asked()] == [0, 1, 2]
    remote.close()


def test_nothing_to_collect(program: Program) -> None:
    assert program("run", program.prompts("one")) == 0
    assert program("collect", program.job().job_id) == Exit.USAGE
    assert "is with a provider: it is complete" in program.err
    assert program("poll", program.job().job_id) == 0 and "Collect the answers" not in program.err
    # A file is written all the same: the process that collected may have died before.
    assert program("collect", program.job().job_id, "--output", "answers.jsonl", "--display", "plain") == 0
    assert "is complete" in program.err and Path("answers.jsonl").read_text("utf-8").count("prompt_index") == 1
