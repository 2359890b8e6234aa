"""A job that spans models: lines that name one of the registry are answered by it, and every row says by whom."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from ai_router.jobs import plan_of
from ai_router.lanes import OWN_LIMITS
from batch.checkpoint import CheckpointStore, lock_owner
from tests.cli.program import Program


def lines(program: Program, *models: str | None) -> Path:
    path = program.home / "batch.jsonl"
    text = ""
    for n, model in enumerate(models):
        body = {"messages": [{"role": "user", "content": f"p{n}"}], **({"model": model} if model else {})}
        line = {"custom_id": f"c{n}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        text += json.dumps(line) + "\n"
    path.write_text(text)
    return path


def answered(program: Program) -> list[tuple[str | None, str | None, str | None]]:
    path = program.job().checkpoint_file
    assert path is not None
    with CheckpointStore(path) as store:
        return [(r.model, r.meant_for, r.meant_why) for r in store.iter_results()]


def test_lines_go_to_the_models_they_name(program: Program) -> None:
    program.add_model("other")
    path = lines(program, "quick", "other", "gpt-unknown", None, "OTHER")
    assert program("run", path, "--check") == 0
    assert "2 lines name a model of their own, which answers them: OTHER (1), other (1)" in program.out
    assert "1 line names another model, and quick answers it: gpt-unknown (1)" in program.out
    assert program("run", path) == 0
    named = ("other", "other", "the input names it")
    assert answered(program) == [("quick", None, None), named, ("quick", None, None), ("quick", None, None), named]
    assert program("export", program.job().job_id, "--output", "-") == 0
    models = [json.loads(line)["response"]["body"]["model"] for line in program.out.splitlines()]
    assert models == ["quick", "other", "quick", "quick", "other"]


def test_a_job_in_the_background_goes_to_the_models_its_lines_name(program: Program) -> None:
    """Which these are stands in the job's file before it runs: who runs it reads it there."""
    program.add_model("other")
    process = program.start("run", lines(program, "quick", "other", None, "other"), "--detach")
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert plan_of(program.job()).lanes == ["other"]
    program.wait_for(lambda: program.job().processed == 4)
    assert [model for model, _, _ in answered(program)] == ["quick", "other", "quick", "other"]
    program.wait_for(lambda: lock_owner(program.job().checkpoint_file or Path()) is None)


def test_a_job_whose_config_names_no_models_goes_to_those_its_items_name(program: Program) -> None:
    """As jobs that an earlier version wrote: what the items say is never passed over."""
    program.add_model("other")
    program.engine_error = "no engine"
    assert program("run", lines(program, "quick", "other", None, "other")) == 3
    program.engine_error = ""
    job = program.job()
    with closing(sqlite3.connect(job.checkpoint_file or "")) as connection, connection:
        for table in ("plan", "job"):
            connection.execute(f"UPDATE {table} SET config = json_set(config, '$.lanes', json('[]'))")
    assert plan_of(program.job()).lanes == ["other"]
    assert program("resume", job.job_id) == 0
    assert [model for model, _, _ in answered(program)] == ["quick", "other", "quick", "other"]


def test_one_number_for_all_lanes_of_a_running_job_is_refused(program: Program) -> None:
    program.add_model("other", step_seconds=0.2)
    process = program.start("run", lines(program, *["quick", "other"] * 20))
    program.wait_for(lambda: any(name.endswith(".db") for name in program.files()) and program.job().processed > 0)
    assert program("watch", program.job().job_id, "--workers", "4") == 2
    assert f"--workers: {OWN_LIMITS}" in program.err
    assert program("watch", program.job().job_id, "--stop", "now") == 0
    process.communicate(timeout=60)


def test_a_model_that_is_gone_stops_the_job_before_its_first_item(program: Program) -> None:
    program.add_model("other")
    program.engine_error = "no engine"
    assert program("run", lines(program, "other", "other", "quick")) == 3
    program.engine_error = ""
    del program.models["other"]
    (program.home / "models.yaml").write_text(json.dumps({"models": program.models}))
    assert program("resume", program.job().job_id) == 3
    assert "Some items are meant for a model that is gone. Unknown model: other" in program.err
    assert program.job().processed == 0


def test_two_local_models_one_after_the_other(program: Program) -> None:
    program.add_model("other", step_seconds=0.001)
    process = program.start("run", lines(program, *["quick", "other"] * 10))
    assert process.wait(60) == 0, process.communicate()
    assert [model for model, _, _ in answered(program)] == ["quick", "other"] * 10
