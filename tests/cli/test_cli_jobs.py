"""`jobs`, `show`, `export`, `models`, `ask`, `watch` of a job that is over."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from program import Program

from ai_router.cli import text
from batch.engines.function import FunctionEngine
from batch.items import Answer, BatchResponse


def as_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stdout look like one."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)


def test_no_jobs(program: Program) -> None:
    assert program("jobs") == 0
    assert program.out == "" and "begin one with: ai-router run FILE" in program.err
    assert program("jobs", "--json") == 0
    assert json.loads(program.out) == []


def test_jobs_as_a_table_and_as_json(program: Program) -> None:
    assert program("run", program.prompts("one", "fail x", "three", name="日本語.txt")) == 1
    job = program.job()
    assert program("jobs") == 0
    head, row = program.out.splitlines()
    assert head.split() == ["ID", "STATUS", "PROGRESS", "FAILED", "MODEL", "AGE", "SOURCE"]
    assert row.split()[:6] == [job.job_id, "completed", "3/3", "100%", "1", "quick"]
    assert row.endswith("日本語.txt")
    assert program("jobs", "--json") == 0
    (facts,) = json.loads(program.out)
    assert facts["job_id"] == job.job_id and facts["pid"] is None and (facts["completed"], facts["failed"]) == (2, 1)


def test_show(program: Program) -> None:
    assert program("run", program.prompts("one", "fail because", "three"), "--max-tokens", "9") == 1
    job_id = program.job().job_id
    assert program("show", job_id[:3]) == 0
    assert "prompts   3: 2 done, 1 failed, 0 left\n" in program.out
    assert "tokens    6 read, 10 written\n" in program.out
    assert "p95" in program.out and "max_tokens 9" in program.out and "1 × permanent: because" in program.out
    assert "results, 2 of 2" in program.out and "ONE" in program.out
    assert program("show", job_id, "--failed") == 0
    assert "failures, 1 of 1" in program.out and "permanent: because" in program.out
    assert program("show", job_id, "--full", "--limit", "1") == 0
    assert "results, 1 of 2" in program.out and "[0] one\n→ ONE\n" in program.out


class Talkative(FunctionEngine):
    """Whose answers to what ends in "…" are cut."""

    async def answer(self, items: Any, desk: Any) -> AsyncIterator[Any]:
        async for response in super().answer(items, desk):
            reason = "length" if response.data.text.endswith("…") else "stop"
            yield replace(response, data=Answer(response.data.text, {"finish_reason": reason}))


def test_answers_that_are_cut_are_counted(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_router.jobs.make_engine", lambda *_, **__: Talkative(str.upper, workers=2))
    assert program("run", program.prompts("one…", "two", "three…")) == 0
    assert program.err.count("| 2 cut at the token limit\n") == 1
    job = program.job()
    assert program("show", job.job_id) == 0 and "cut       2 cut at the token limit\n" in program.out
    assert program("show", job.job_id, "--json") == 0
    assert json.loads(program.out)["performance"]["cut"] == 2
    assert program("watch", job.job_id) == 0 and "| 2 cut at the token limit\n" in program.err


def test_an_answer_that_is_cut_says_so(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_router.cli.ask.make_engine", lambda *_, **__: Talkative(str.upper))
    assert program("ask", "one…") == 0 and "cut at the token limit (--max-tokens)" in program.err
    assert program("ask", "two") == 0 and "cut" not in program.err


def test_a_trial_says_what_ran_and_how_soon_the_first_token_came(program: Program) -> None:
    program.add_model("m", step_seconds=0.02)
    subprocess.run([sys.executable, "-c", "b'x' * 300_000_000"], check=True)
    assert program("models", "test", "m", "--json") == 0, program.err
    found = json.loads(program.out)
    if sys.platform == "linux":  # of that process, and not the largest child there ever was
        assert found["peak_memory_bytes"] < 250_000_000
    assert 0.02 <= found["first_token_seconds"] < found["latency_seconds"] and found["load_seconds"] > 0
    assert program("models", "test", "m") == 0
    assert program.out.startswith("engine       cores:open_core none\nlatency ") and "first token  0.0" in program.out


def test_show_as_json(program: Program) -> None:
    assert program("run", program.prompts("one", "fail because")) == 1
    assert program("show", program.job().job_id, "--json", "--failed") == 0
    document = json.loads(program.out)
    assert document["performance"]["answers"] == 1
    assert document["errors"] == [{"class": "permanent", "message": "because", "count": 1}]
    assert [result["prompt_index"] for result in document["results"]] == [1]


def test_answers_on_a_terminal_are_inert_and_elsewhere_as_they_are(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.answers["one"] = "\x1b[31mred\x07 \u202eback"
    assert program("run", program.prompts("one")) == 0
    job_id = program.job().job_id
    assert program("show", job_id, "--full") == 0
    assert "\x1b[31mred\x07 \u202eback" in program.out
    for words in (["--full"], ["--json"], []):
        as_terminal(monkeypatch)
        assert program("show", job_id, *words) == 0
        assert not set("\x1b\x07\u202e") & set(program.out)
    assert "␛[31mred␇ \\u202eback" in program.out


def test_export_chooses_a_name_and_says_it(program: Program) -> None:
    assert program("run", program.prompts("one", "two")) == 0
    job_id = program.job().job_id
    assert program("export", job_id) == 0
    path = Path(program.out.strip())
    assert path == program.home / "outputs" / f"batch_{job_id}.json"
    assert program.err == f"Wrote 2 results: {path}\n"
    assert program("export", job_id) == 0
    assert program.out.strip().endswith(f"batch_{job_id}-2.json")
    assert program("export", job_id, "--output", "-", "--format", "csv") == 0
    assert program.out.startswith("index,prompt,") and program.err == ""


def test_a_job_that_is_not_complete_exports_what_there_is(program: Program) -> None:
    assert program("run", program.prompts("one", "fatal x", "three"), "--workers", "1") == 3
    assert program("export", program.job().job_id, "--output", "a.jsonl") == 0
    assert "Wrote 1 results; 2 prompts have none yet: " in program.err
    assert len(Path("a.jsonl").read_text().splitlines()) == 1


def test_models(program: Program) -> None:
    assert program("models", "--json") == 0
    models = {model["id"]: model for model in json.loads(program.out)}
    assert models["quick"]["ready"] and models["quick"]["default"] and not models["demo"]["default"]
    assert program("models") == 0
    assert "ready, the default" in program.out


def test_ask(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    assert program("ask", "what is it") == 0
    assert program.out == "WHAT IS IT\n"
    assert "5 tokens, 3 read" in program.err
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe"))
    assert program("ask", "-", "--max-tokens", "4") == 0
    assert program.out == "FROM A PIPE\n" and program.asked is not None and program.asked[1].max_tokens == 4
    assert program("ask", "fail no idea") == 1
    assert program.err.endswith("Error: no idea\n") and program.out == ""
    program.engine_error = "cannot load"
    assert program("ask", "x") == 3
    assert program("ask", " ") == 2


def test_the_rate_of_an_answer_leaves_out_the_loading() -> None:
    from ai_router.cli.ask import _figures

    response = BatchResponse(0, Answer("x"), 2_000_000_000, tokens_input=3, tokens_output=10)
    assert _figures(response, 5.0) == "10 tokens, 3 read, 2.0 s, 5.0 tok/s, model loaded in 3.0 s"
    assert _figures(response, 2.1) == "10 tokens, 3 read, 2.0 s, 5.0 tok/s"


def test_watch_of_a_job_that_is_over_says_how_it_ended(program: Program) -> None:
    assert program("run", program.prompts("one", "fail x")) == 1
    job_id = program.job().job_id
    assert program("watch", job_id) == 1
    assert f"Job {job_id} finished: 1 done | 1 failed" in program.err
    assert program("run", program.prompts("fatal x", name="b.txt")) == 3
    assert program("jobs", "--json") == 0
    other = json.loads(program.out)[0]["job_id"]
    assert program("watch", other) == 3
    assert f"resume {other}\n" in program.err


def test_a_job_elsewhere_is_named_by_its_path(program: Program) -> None:
    assert program("run", program.prompts("one", "fail x")) == 1
    path = program.job().checkpoint_file
    assert path is not None
    moved = program.home / "elsewhere" / path.name
    moved.parent.mkdir()
    path.rename(moved)
    assert program("show", moved) == 0
    assert program("resume", moved, "--retry-failed") == 1
    assert f"resume {moved} --retry-failed\n" in program.err


def test_cells_and_clipping() -> None:
    assert text.cells("日本e\u0301") == 5
    assert text.clip("日本語", 5) == "日本…"
    assert text.clip("abc", 3) == "abc"
    assert text.one_line("a\nb\t c", 20) == "a b c"
    assert text.table(("A", "LAST"), [["1", "x" * 50]], width=20).splitlines()[1] == "1  " + "x" * 16 + "…"
    assert text.inert("a\r\nb\rc\x00\x9b\ud800", lines=True) == "a\nb␍c␀\\x9b\\ud800"
    assert text.age("nonsense") == "—"


def test_only_what_was_written_is_removed_from_the_models(program: Program) -> None:
    program.add_model("m")
    place = program.home / "weights" / "m"
    assert program("models", "add", place.parent / ".." / "weights" / "m", "--name", "mine") == 0, program.err
    assert ".." not in (program.home / "models.yaml").read_text()
    assert program("models", "remove", "mine") == 0 and "Removed from" in program.err and place.is_dir()
    assert program("models", "remove", "demo") == 2
    assert "demo is no entry of models.yaml: it lies at" in program.err
    assert program("models", "remove") == 2 and "Which model?" in program.err
