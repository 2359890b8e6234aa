"""A job's plan as the checkpoint keeps it."""

from __future__ import annotations

from pathlib import Path

from ai_router import jobs
from ai_router.settings import Settings, Workspace
from batch.options import RunOptions, SamplingOptions


def test_a_plan_comes_back_from_the_checkpoint_with_its_kind_and_details(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, Settings())
    plan = jobs.JobPlan(
        "demo",
        SamplingOptions(temperature=0.5),
        RunOptions(workers=3),
        source="test.jsonl",
        kind="dataset",
        details={"adapter": "adapters", "skipped": 2},
    )
    job = jobs.create_job(workspace, plan, ["one"])
    assert job.kind == "dataset"
    assert jobs.plan_of(jobs.open_job(workspace, job.job_id)) == plan


def test_a_job_of_plain_prompts_says_nothing_of_its_kind(tmp_path: Path) -> None:
    job = jobs.create_job(Workspace(tmp_path, Settings()), jobs.JobPlan("demo"), ["one"])
    assert job.kind == "prompts"
    assert "kind" not in job.config
