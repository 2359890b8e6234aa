"""Bad input: one clear sentence on stderr, exit code 2, nothing written or lost."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Program

from batch.checkpoint import JobLock


def refused(program: Program, *words: str | Path) -> str:
    """The one sentence."""
    before = {p: p.read_bytes() for p in program.home.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    code = program(*words)
    after = {p: p.read_bytes() for p in program.home.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert code == 2, program.err
    assert program.out == ""
    assert program.err.startswith("Error: ") and program.err.count("\n") == 1, program.err
    assert after == before
    return program.err.removeprefix("Error: ").rstrip("\n")


def make(name: str, data: bytes) -> Callable[[Path], str]:
    def write(home: Path) -> str:
        (home / name).write_bytes(data)
        return name

    return write


ROWS = {
    "missing": (lambda home: "no.txt", "Prompts file not found: no.txt"),
    "missing folder": (lambda home: "a/b.txt", "Prompts file not found: a/b.txt"),
    "a folder": (lambda home: "weights", "weights is a folder, not a file of prompts"),
    "empty": (make("e.txt", b""), "e.txt is empty"),
    "no prompts": (make("c.txt", b"# one\n\n"), "There are no prompts in c.txt"),
    "UTF-16": (make("u.txt", "hé".encode("utf-16")), "u.txt is UTF-16"),
    "Latin-1": (make("l.txt", b"ok\ncaf\xe9\n"), "l.txt is not UTF-8"),
    "JSON": (make("m.json", b'["a",\n "b" "c"]'), "m.json: line 2, column 6: "),
    "JSONL": (make("m.jsonl", b'"a"\n{"prompt": }\n'), "line 2: Expecting value (column 12)"),
    "empty prompt": (make("p.json", b'["a", ""]'), "1 prompt is empty: item 2"),
    "no column": (make("t.csv", b"a,b\n1,2\n"), "t.csv: "),
}


@pytest.mark.parametrize("row", ROWS)
def test_prompts_that_cannot_be_run(program: Program, row: str) -> None:
    make_file, sentence = ROWS[row]
    assert sentence in refused(program, "run", make_file(program.home))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(program: Program) -> None:
    path = program.prompts("x")
    path.chmod(0)
    assert refused(program, "run", path) == f"No permission to read {path}"


def test_a_folder_that_is_named_like_a_model_is_pointed_at(program: Program) -> None:
    (program.home / "qwen").mkdir()
    said = refused(program, "run", program.prompts("x"), "--model", "qwen")
    assert said == f"Unknown model: qwen; if you mean what lies here, write .{os.sep}qwen"
    assert "no config.json" in refused(program, "run", program.prompts("x"), "--model", f".{os.sep}qwen")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model", "quik"], "Unknown model: quik; did you mean quick?"),
        (["--model", "./quik"], "Unknown model: ./quik; there is no such folder or file"),
        (["--format", "parquett"], "Unsupported format: parquett; use one of json, csv, jsonl, openai"),
        (["--output", "answers.txt"], "answers.txt does not say which format to write; add --format"),
        (["--input-format", "xml"], "Unsupported input format: xml; use one of txt, json, jsonl, csv"),
        (["--on-error", "threshold:x"], "bad error strategy 'threshold:x': use continue, stop or threshold:N"),
        (["--on-error", "threshold:0"], "bad error strategy 'threshold:0'"),
        (["--max-tokens", "0"], "max-tokens: 0 is below the least allowed, 1"),
        (["--temperature", "hot"], "temperature: 'hot' is not a number"),
        (["--temperature", "nan"], "temperature: "),
        (["--workers", "1.5"], "workers: '1.5' is not a whole number"),
        (["--clip", "0"], "clip: 0 is below the least allowed, 1"),
        (["--notify-when", "never"], "when: 'never' is none of always, problem"),
        (["--webhook", "ftp://x"], "webhook: this is not an http:// or https:// address"),
        (["--output", "weights"], "weights does not say which format"),
        (["--output", "weights", "--format", "csv"], "weights is a folder; name a file in it"),
        (["--output", "prompts.txt", "--format", "csv"], "is not written over"),
        (["--output", "prompts.txt/x.csv"], "is a file, not a folder"),
        (["--output", "batch_1.db", "--format", "csv"], "is a checkpoint and is not written over"),
        (["--output", "-", "--stream", "-"], "would both write to stdout"),
        (["--output", "-", "--detach"], "A background run has no stdout"),
        (["--output", "a.jsonl", "--stream", "a.jsonl"], "is not written over"),
        (["--template", "no.yaml"], "Batch file not found: no.yaml"),
        (["--template", "no.j2"], "Template not found: no.j2"),
        (["--template", "{{ x }}"], "put it into a file, such as prompt.j2"),
        (["--template", "a.j2", "--template", "b.j2"], "one template of the prompt at most"),
        (["--per-row", "model"], "is not NAME=COLUMN"),
        (["--merge", "out.parquet"], "prompts.txt is no table"),
        (["--display", "fancy"], "argument --display: invalid choice: 'fancy'"),
        (["--max-token", "3"], "unrecognized arguments: --max-token 3"),
    ],
)
def test_options_that_cannot_be(program: Program, words: list[str], sentence: str) -> None:
    program.prompts("x")
    assert sentence in refused(program, "run", "prompts.txt", *words)


def test_a_model_that_is_not_ready(program: Program) -> None:
    program.models["odd"] = {"path": "nowhere"}
    program.models["alien"] = {"path": "weights/quick", "engine": "nosuchpackage.engine:open_core"}
    program.add_model("x")
    source = program.prompts("x")
    assert "Model odd is not ready: no such folder" in refused(program, "run", source, "--model", "odd")
    assert "there is no module" in refused(program, "run", source, "--model", "alien")
    assert "is not ready" in refused(program, "ask", "hi", "--model", "odd")


def test_a_missing_extra(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else real(name, *a))
    sentence = refused(program, "run", program.prompts("x"), "--model", "demo")
    assert sentence == 'Model demo is not ready: needs torch: pip install "ai-router[local]"'


def test_an_export_onto_a_checkpoint(program: Program) -> None:
    assert program("run", program.prompts("x")) == 0
    job = program.job()
    path = job.checkpoint_file
    assert path is not None
    link = program.home / "link.csv"
    link.symlink_to(path)
    for target in (path, link):
        for words in (["export", job.job_id], ["resume", job.job_id], ["run", "prompts.txt"]):
            assert "is not written over" in refused(program, *words, "--output", target, "--format", "csv")


@pytest.mark.parametrize("verb", ["resume", "show", "export", "watch", "stop", "delete"])
def test_an_unknown_job(program: Program, verb: str) -> None:
    assert refused(program, verb, "1234") == "Unknown job: 1234; ai-router jobs lists those there are"
    assert refused(program, verb, "x/batch_1.db") == "Checkpoint not found: x/batch_1.db"
    assert not (program.home / "checkpoints").exists()


def test_a_prefix_that_fits_two(program: Program) -> None:
    folder = program.home / "checkpoints"
    folder.mkdir()
    for name in ("batch_abc1.db", "batch_abc2.db"):
        (folder / name).touch()
    assert refused(program, "show", "abc") == "abc is not unique: abc1, abc2"


@pytest.mark.parametrize("verb", ["resume", "show", "export", "watch"])
@pytest.mark.parametrize("damage", [b"", b"not a database at all", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_checkpoint(program: Program, verb: str, damage: bytes) -> None:
    folder = program.home / "checkpoints"
    folder.mkdir()
    path = folder / "batch_bad.db"
    path.write_bytes(damage)
    assert f"Damaged checkpoint {path}" in refused(program, verb, "bad")
    assert program("jobs") == 0
    assert "Skipped: Damaged checkpoint" in program.err and "1 file skipped." in program.err


def test_a_job_that_another_process_runs(program: Program) -> None:
    assert program("run", program.prompts("fail x", "two"), "--on-error", "stop", "--workers", "1") == 1
    job = program.job()
    assert job.checkpoint_file is not None
    lock = JobLock(job.checkpoint_file)
    lock.acquire()
    try:
        for words in (["resume", job.job_id], ["resume", job.job_id, "--detach"], ["delete", job.job_id, "--yes"]):
            assert f"Job {job.job_id} is being run by process {os.getpid()}" in refused(program, *words)
        assert program("jobs") == 0
        assert f"running ({os.getpid()})" in program.out
    finally:
        lock.release()


def test_steering_a_job_that_does_not_run(program: Program) -> None:
    assert program("run", program.prompts("x")) == 0
    job_id = program.job().job_id
    for words in (["--pause"], ["--resume"], ["--stop", "now"], ["--workers", "3"]):
        assert refused(program, "watch", job_id, *words) == f"Job {job_id} is not running"
    assert refused(program, "stop", job_id) == f"Job {job_id} is not running"
    assert "workers: 0 is below" in refused(program, "watch", job_id, "--workers", "0")


def test_no_prompts_named(program: Program) -> None:
    assert refused(program, "run") == ("Which prompts? Name a file, or - for standard input: ai-router run FILE")


def test_delete_asks_or_is_told(program: Program) -> None:
    assert program("run", program.prompts("x")) == 0
    job_id = program.job().job_id
    assert "add --yes" in refused(program, "delete", job_id)
    assert program("delete", job_id, "--yes") == 0
    assert program.err == f"Deleted job {job_id} with 1 results of 1 prompts.\n"
    assert program.files() == []


def test_a_damaged_job_can_be_deleted(program: Program) -> None:
    folder = program.home / "checkpoints"
    folder.mkdir()
    (folder / "batch_bad.db").write_text("x")
    assert program("delete", "bad", "--yes") == 0
    assert program.files() == []


def test_a_checkpoint_of_another_version(program: Program) -> None:
    assert program("run", program.prompts("x")) == 0
    path = program.job().checkpoint_file
    assert path is not None
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "has checkpoint format 99" in refused(program, "show", path)


def test_bad_settings(program: Program) -> None:
    (program.home / "ai-router.yaml").write_text("modell: x\n")
    assert "unknown key 'modell'; did you mean 'model'?" in refused(program, "jobs")


def test_bad_sampling_of_a_model(program: Program) -> None:
    program.models["quick"]["sampling"] = {"top_k": -1}
    program.add_model("x")
    assert "models.yaml, line 1: top-k: -1 is below" in refused(program, "run", program.prompts("x"))


def test_models_that_cannot_be_read_are_told(program: Program) -> None:
    (program.home / "models.yaml").write_text("models: [")
    assert program("models") == 0
    assert program.err.startswith("Skipped: Cannot read ")


def test_an_error_nobody_thought_of_shows_a_traceback_only_when_asked(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("unthought of")

    monkeypatch.setattr("ai_router.cli.jobs.list_jobs", broken)
    assert program("jobs") == 3
    assert program.err == "Error: RuntimeError: unthought of (-v shows where)\n"
    assert program("-v", "jobs") == 3
    assert "Traceback" in program.err


def test_json_of_the_reference_is_taken(program: Program) -> None:
    folder = program.home / "checkpoints"
    folder.mkdir()
    job = {
        "job_id": "0ld", "model_id": "quick", "prompts": ["one", "two"], "total_prompts": 2, "completed": 1,
        "failed": 0, "status": "running", "started_at": None, "completed_at": None, "checkpoint_file": None,
    }  # fmt: skip
    result = {"prompt_index": 0, "prompt": "one", "response_text": "1", "success": True}
    document = {"job": job, "results": [result], "timestamp": "2025-12-08T10:00:00"}
    (folder / "batch_0ld.json").write_text(json.dumps(document))
    assert program("jobs") == 0
    assert "interrupted" in program.out and "1/2" in program.out
    assert program("resume", "0ld") == 0
    assert program.seen == ["two"]
