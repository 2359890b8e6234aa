"""`run` and `resume` in this process, on an engine that stands in for a model."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from program import Program

from ai_router.cli.flags import as_arguments, flag_name
from ai_router.jobs import plan_of
from batch.checkpoint import CheckpointStore
from batch.job import JobStatus
from batch.options import RunOptions, SamplingOptions


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_says_how_it_went_and_where_the_answers_are(program: Program) -> None:
    assert program("run", program.prompts("one", "two", "# a comment", "three")) == 0
    job = program.job()
    assert program.out == ""
    assert "Progress: [==============================] 100.0% (3/3) | ETA: 0m 0s\n" in program.err
    assert f"Job {job.job_id} finished: 3 done | 0 failed | 15 tokens out, 9 in | 0m " in program.err
    assert f"Results: ai-router --workspace {program.home} show {job.job_id}\n" in program.err
    assert f"export {job.job_id}" in program.err
    assert "Resume" not in program.err and "Errors" not in program.err
    assert (job.status, job.completed, job.model_id) == (JobStatus.COMPLETED, 3, "quick")
    assert job.config["source"].endswith("prompts.txt")


def test_failures_are_counted_by_kind_and_end_with_exit_code_1(program: Program) -> None:
    assert program("run", program.prompts("one", "fail too long", "fail too long", "fail odd")) == 1
    assert "Errors:\n  2 × permanent: too long\n  1 × permanent: odd\n" in program.err
    retry = f"resume {program.job().job_id} --retry-failed"
    assert retry in program.err
    program.seen.clear()
    assert program("resume", program.job().job_id, "--retry-failed") == 1
    assert sorted(program.seen) == ["fail odd", "fail too long", "fail too long"]
    assert program.job().completed == 1


@pytest.mark.parametrize(("strategy", "failed"), [("stop", 1), ("threshold:2", 2)])
def test_an_error_strategy_stops_the_run_and_the_rest_can_be_resumed(
    program: Program, strategy: str, failed: int
) -> None:
    source = program.prompts("fail a", "fail b", "three", "four")
    out = program.home / "out.json"
    assert program("run", source, "--on-error", strategy, "--workers", "1", "--output", out) == 1
    job = program.job()
    assert (job.failed, job.status) == (failed, JobStatus.FAILED)
    assert f"Resume with: ai-router --workspace {program.home} resume {job.job_id} --output={out}\n" in program.err
    assert not out.exists()
    assert program("resume", job.job_id, "--on-error", "continue", "--output", out) == 1
    assert json.loads(out.read_text())["summary"] == {"total": 4, "completed": 2, "failed": 2, "success_rate": 50.0}


def test_an_engine_that_fails_ends_with_exit_code_3_and_loses_nothing(program: Program) -> None:
    assert program("run", program.prompts("one", "fatal the cable is out", "three"), "--workers", "1") == 3
    assert "Error: the cable is out\n" in program.err
    job = program.job()
    assert (job.completed, job.failed, job.status) == (1, 0, JobStatus.FAILED)
    assert f"resume {job.job_id}\n" in program.err


def test_an_engine_that_cannot_be_made_ends_with_exit_code_3(program: Program) -> None:
    program.engine_error = "no such device"
    assert program("run", program.prompts("one")) == 3
    assert "no such device" in program.err and "Traceback" not in program.err


def test_every_option_is_a_flag_and_reaches_the_engine_and_the_job(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch.engines.registry._installed", lambda module: True)  # Ray need not be there
    sampling = {
        "system": "Be brief.",
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "min_p": 0.1,
        "repetition_penalty": 1.5,
        "seed": 4,
        "stop": ["a", "-b"],
        "json_schema": {"enum": ["ONE", "a b"]},
    }
    run = {
        "workers": 2,
        "on_error": "threshold:3",
        "retries": 0,
        "timeout": 9.0,
        "requests_per_minute": 600,
        "tokens_per_minute": 100_000,
        "budget": 2.0,
        "reuse": "jobs",
        "slo": ["p95_ms=500", "items_per_second=1"],
        "precision": "int8",
        "truncate": "left",
        "cluster": "local",
        "ship_model": True,
    }
    assert sampling.keys() == {f.name for f in fields(SamplingOptions)}
    # `lane` and `deadline` are refused by a model that is no provider's (see test_cli_provider.py).
    assert run.keys() | {"lane", "deadline"} == {f.name for f in fields(RunOptions)}
    words = []
    for cls, values in ((SamplingOptions, sampling), (RunOptions, run)):
        for name, value in values.items():
            words += as_arguments(cls, {name: value})
            assert words[-1].partition("=")[0] == f"--{flag_name(cls, name)}"
    assert program("run", program.prompts("one"), *words) == 0
    assert program.asked == ("quick", SamplingOptions(**sampling), 2)
    assert program.job().config["sampling"] == sampling
    assert program.job().config["run"] == run
    assert program.asked_for == {"precision": "int8", "truncate": "left"}


def test_service_levels_are_told_at_the_end_and_shown_later(program: Program) -> None:
    slo = ["--slo", "p95_ms=60000", "--slo", "items_per_second=1000000"]
    assert program("run", program.prompts("one", "two"), *slo) == 0
    told = next(line for line in program.err.splitlines() if line.startswith("Service levels:"))
    assert "p95_ms" in told and "of 60,000: met" in told and "of 1,000,000: missed" in told
    assert program("show", program.job().job_id) == 0
    assert "slo       p95_ms " in program.out and "of 60,000: met" in program.out
    assert program("show", program.job().job_id, "--json") == 0
    levels = json.loads(program.out)["service_levels"]
    assert [(level["name"], level["met"]) for level in levels] == [("p95_ms", True), ("items_per_second", False)]
    assert program("run", program.prompts("one"), "--slo", "fast") == 2
    assert "slo: fast: it is written NAME=NUMBER" in program.err


def test_a_schema_is_read_when_the_job_is_made(program: Program) -> None:
    file = program.home / "schema.json"
    file.write_text('{"type": "integer"}')
    assert program("run", program.prompts("one"), "--json-schema", file) == 0
    file.unlink()
    assert program.asked is not None and program.asked[1].json_schema == {"type": "integer"}
    assert program.job().config["sampling"]["json_schema"] == {"type": "integer"}
    assert program("run", program.prompts("one"), "--json-schema", file) == 2
    assert "json-schema: cannot read" in program.err


def test_a_models_own_sampling_lies_below_template_and_flags(program: Program) -> None:
    program.models["quick"]["sampling"] = {"temperature": 0.9, "top_k": 5, "max_tokens": 11}
    program.add_model("other")
    template = program.home / "t.yaml"
    template.write_text("sampling: {top_k: 6, max_tokens: 12}\n")
    assert program("run", program.prompts("one"), "--template", template, "--max-tokens", "13") == 0
    assert program.asked is not None
    assert program.asked[1] == SamplingOptions(temperature=0.9, top_k=6, max_tokens=13)


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.jsonl", "a.openai.jsonl"])
def test_the_output_s_name_decides_the_format(program: Program, name: str) -> None:
    out = program.home / "new folder" / name
    assert program("run", program.prompts("one"), "--output", out) == 0
    assert f"Wrote {out}\n" in program.err
    start = {"a.json": "{\n", "a.csv": "index,prompt", "a.jsonl": '{"prompt_index"', "a.openai.jsonl": '{"id"'}
    assert out.read_text().startswith(start[name])


def test_output_to_stdout_holds_nothing_but_the_export(program: Program) -> None:
    assert program("run", program.prompts("one", "two"), "--output", "-", "--format", "jsonl") == 0
    assert [line["response_text"] for line in lines(program.out)] == ["ONE", "TWO"]
    assert "Progress:" in program.err


def test_a_format_alone_writes_to_the_outputs_folder(program: Program) -> None:
    assert program("run", program.prompts("one"), "--format", "csv", "--clip", "2") == 0
    out = program.home / "outputs" / f"batch_{program.job().job_id}.csv"
    assert "0,on...,ON...,True" in out.read_text()


def test_csv_cells_are_inert_unless_asked_otherwise(program: Program) -> None:
    source = program.prompts("=1+1")
    assert program("run", source, "--output", "a.csv", "--no-inert-csv") == 0
    assert program("run", source, "--output", "b.csv") == 0
    assert "\n0,=1+1," in Path("a.csv").read_text()
    assert "\n0,'=1+1," in Path("b.csv").read_text()


def test_an_openai_batch_comes_back_as_one(program: Program) -> None:
    source = program.home / "in.jsonl"
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    source.write_text(json.dumps({"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": body}))
    assert program("run", source, "--output", "-") == 0
    assert lines(program.out)[0]["custom_id"] == "x"
    assert program("export", program.job().job_id, "--output", "answers.jsonl") == 0
    assert "chat.completion" in Path("answers.jsonl").read_text()


def test_prompts_from_standard_input(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"prompt": "one"}\n{"prompt": "two"}\n')))
    assert program("run", "-", "--output", "-", "--format", "jsonl") == 0
    assert [line["prompt"] for line in lines(program.out)] == ["one", "two"]
    assert program.job().config["source"] == "standard input"


def test_a_column_of_a_table(program: Program) -> None:
    source = program.home / "t.csv"
    source.write_text("id,question\n7,why\n8,how\n")
    assert program("run", source, "--column", "question") == 0
    assert sorted(program.seen) == ["how", "why"]


def test_check_reports_and_makes_nothing(program: Program) -> None:
    good, bad = program.prompts("one", "one"), program.home / "bad.jsonl"
    bad.write_text('{"prompt": "x"}\nnot json\n')
    assert program("run", good, "--check") == 0
    assert program.out.splitlines()[1].startswith("2 prompts;")
    assert "repeats an earlier one" in program.out
    assert program("run", bad, "--check") == 2
    assert "line 2: Expecting value (column 1)" in program.out
    assert program.files() == []


def test_invalid_entries_are_left_out_when_asked(program: Program) -> None:
    source = program.home / "mixed.jsonl"
    source.write_text('{"prompt": "x"}\nnot json\n{"prompt": ""}\n')
    assert program("run", source) == 2
    assert program.files() == []
    assert program("run", source, "--skip-invalid") == 0
    assert "Warning: 1 line is malformed and left out: line 2" in program.err
    assert program.seen == ["x"]


def test_a_stream_grows_with_the_job_and_is_gone_on_with(program: Program) -> None:
    source, stream = program.prompts("one", "two", "fatal x", "four"), program.home / "s.jsonl"
    assert program("run", source, "--stream", stream, "--workers", "1") == 3
    assert [line["prompt"] for line in lines(stream.read_text())] == ["one", "two"]
    job_id = program.job().job_id
    assert f"resume {job_id} --stream={stream}\n" in program.err
    program.answers["fatal x"] = ""
    assert program("run", program.prompts("a", name="b.txt"), "--stream", stream) == 2
    assert "exists and is not empty" in program.err
    assert len(program.files()) == 1


def test_a_stream_first_gets_what_there_is(program: Program) -> None:
    stream = program.home / "s.jsonl"
    assert program("run", program.prompts("one", "fail x", "three")) == 1
    job_id = program.job().job_id
    assert program("resume", job_id, "--stream", stream) == 1
    assert [line["prompt_index"] for line in lines(stream.read_text())] == [0, 1, 2]
    assert program("resume", job_id, "--stream", stream) == 1
    assert len(lines(stream.read_text())) == 3


def test_a_template_is_written_and_run(program: Program) -> None:
    source = program.prompts("one")
    folder = program.home / "templates"
    folder.mkdir()
    words = ["--max-tokens", "5", "--workers", "3", "--output", "answers.csv", "--save-template", folder / "t.yaml"]
    assert program("run", source, *words, "--notify-when", "problem") == 0
    text = (folder / "t.yaml").read_text()
    assert "path: ../prompts.txt" in text and "max_tokens: 5" in text and "when: problem" in text
    Path("answers.csv").unlink()
    assert program("run", "--template", folder / "t.yaml", "--workers", "4") == 0
    assert Path("answers.csv").exists()
    assert program.asked is not None
    assert (program.asked[1].max_tokens, program.asked[2]) == (5, 4)


def test_resume_keeps_the_options_and_flags_change_them(program: Program) -> None:
    source = program.prompts("fail x", "two")
    assert program("run", source, "--max-tokens", "9", "--top-k", "4", "--on-error", "stop", "--workers", "1") == 1
    job_id = program.job().job_id
    assert program("resume", job_id[:4], "--max-tokens", "10") == 1
    assert program.asked == ("quick", SamplingOptions(max_tokens=10, top_k=4), 1)
    assert program.job().config["sampling"] == {"max_tokens": 10, "top_k": 4}
    assert program.seen == ["fail x", "two"]


def test_resume_with_another_model_says_so(program: Program) -> None:
    program.add_model("other")
    assert program("run", program.prompts("fail x", "two"), "--on-error", "stop", "--workers", "1") == 1
    job_id = program.job().job_id
    said = f"1 result of job {job_id} so far came from quick, and the rest would come from other"
    assert program("resume", job_id, "--model", "other") == 2
    assert f"Error: {said}; --yes goes on all the same" in program.err and program.job().model_id == "quick"
    assert program("resume", job_id, "--model", "other", "--yes") == 1
    assert f"Warning: {said}" in program.err
    assert program.job().model_id == "other"


def test_resume_with_other_weights_is_asked_first(program: Program) -> None:
    assert program("run", program.prompts("fail x", "two"), "--on-error", "stop", "--workers", "1") == 1
    job_id = program.job().job_id
    weights = program.home / "weights" / "quick" / "model.safetensors"
    weights.touch()
    assert program("resume", job_id, "--workers", "2") == 1 and program.seen == ["fail x", "two"]
    weights.write_bytes(b"trained on")
    assert program("resume", job_id, "--retry-failed") == 2
    assert "from other weights of quick than are there now: changed: model.safetensors; --yes" in program.err
    assert program("resume", job_id, "--retry-failed", "--yes") == 1
    assert "Warning: 2 results" in program.err
    assert program("resume", job_id, "--retry-failed") == 1  # said once
    assert "other weights" not in program.err


def test_a_complete_job_runs_nothing_but_is_written(program: Program) -> None:
    assert program("run", program.prompts("one")) == 0
    job_id = program.job().job_id
    program.asked = None
    assert program("resume", job_id, "--output", "a.csv") == 0
    assert program.asked is None and Path("a.csv").exists()
    assert f"Job {job_id} is complete: 1 done, 0 failed." in program.err


def test_a_job_killed_after_its_last_answer_is_completed_without_a_model(program: Program) -> None:
    import sqlite3

    assert program("run", program.prompts("one")) == 0
    path = program.job().checkpoint_file
    assert path is not None
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE job SET status = 'running'")
    connection.close()
    program.asked = None
    assert program("resume", program.job().job_id) == 0
    assert program.asked is None
    assert program.job().status == JobStatus.COMPLETED


def test_log_display_has_times(program: Program) -> None:
    assert program("run", program.prompts("one"), "--display", "log") == 0
    assert all(line[:4].isdigit() and line[10] == "T" for line in program.err.splitlines())
    assert " finished: 1 done" in program.err


def test_json_display_is_an_object_a_line(program: Program) -> None:
    assert program("run", program.prompts("one", "fail x"), "--display", "json") == 1
    events = lines(program.err)
    end = events[-1]
    assert end["event"] == "end" and end["exit_code"] == 1 and end["state"] == "finished"
    assert end["errors"] == [{"class": "permanent", "message": "x", "count": 1}]
    assert {event["event"] for event in events} == {"note", "progress", "end"}


def test_no_display_says_only_what_must_be_known(program: Program) -> None:
    assert program("run", program.prompts("one"), "--display", "none") == 0
    assert program.out == program.err == ""
    assert program("run", program.prompts("fatal x"), "--display", "none") == 3
    error, resume = program.err.splitlines()
    assert error == "Error: x" and resume.startswith("Resume with: ai-router ")


def test_a_command_is_told_of_the_end(program: Program) -> None:
    script = program.home / "tell.py"
    script.write_text(
        "from os import environ as e; open('told', 'w').write(e['AI_ROUTER_STATUS'] + e['AI_ROUTER_FAILED'])"
    )
    assert program("run", program.prompts("fail x"), "--notify-command", f"{sys.executable} {script}") == 1
    assert Path("told").read_text() == "completed1"
    assert program("run", program.prompts("one"), "--notify-command", "no-such-program-here") == 0
    assert "Warning: Notification command no-such-program-here was not found" in program.err


def test_the_settings_say_whom_to_tell(program: Program) -> None:
    script = program.home / "tell.py"
    script.write_text("import pathlib; pathlib.Path('told').touch()")
    (program.home / "ai-router.yaml").write_text(
        f"model: quick\nnotify_command: {json.dumps(f'{sys.executable} {script}')}\n"
    )
    assert program("run", program.prompts("one")) == 0
    assert Path("told").exists()


def test_text_from_outside_cannot_steer_the_terminal(program: Program) -> None:
    evil = "fail \x1b]52;c;aGk=\x07 \u202etxt"
    assert program("run", program.prompts(evil)) == 1
    assert "\x1b" not in program.err and "\x07" not in program.err and "\u202e" not in program.err
    assert "␛]52;c;aGk=␇" in program.err and "\\u202e" in program.err


def test_the_workspace_may_be_named_after_the_verb(program: Program, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert program("jobs", "--workspace", other) == 0
    assert str(other) in program.err


def test_options_are_kept_by_a_name_and_taken_again(program: Program) -> None:
    file = program.prompts("one", "two")
    assert program("run", file, "--max-tokens", "7", "--workers", "3", "--keep-preset", "short ones") == 0
    assert "Kept as short ones" in program.err
    assert program("run", file, "--preset", "short ones", "--max-tokens", "9") == 0
    plans = []
    for path in (program.home / "checkpoints").glob("batch_*.db"):
        with CheckpointStore(path) as store:
            plans.append(plan_of(store.job()))
    assert sorted((plan.sampling.max_tokens, plan.run.workers) for plan in plans) == [(7, 3), (9, 3)]
    assert program("run", file, "--preset", "short one") == 2 and "did you mean short ones?" in program.err
    assert program("run", file, "--keep-preset", " ") == 2 and "needs a name" in program.err
