"""`ai-router run TABLE --template … --merge …`: preview, resume and merge in later processes, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from program import Program

pytest.importorskip("pyarrow")
pytest.importorskip("jinja2")
import pyarrow as pa
import pyarrow.parquet as pq

from batch.checkpoint import CheckpointStore


@pytest.fixture
def table(program: Program) -> Path:
    path = program.home / "table.parquet"
    rows = {
        "title": ["one", "fail two", None, "four"],
        "limit": [7, None, None, 9],
        "who": ["quick", None, None, "big"],
        "key": ["k1", "k2", "k3", "k4"],
    }
    pq.write_table(pa.table(rows), path)
    (program.home / "t.j2").write_text("{{ title }}\n")
    return path


def answers(path: Path, name: str = "answer_llm") -> list[str | None]:
    return list(pq.read_table(path).column(name).to_pylist())


def test_a_table_goes_in_and_a_table_comes_out(program: Program, table: Path) -> None:
    assert program("run", table, "--template", "t.j2", "--merge", "out.parquet") == 1  # one row fails
    assert answers(program.home / "out.parquet") == ["ONE", None, None, "FOUR"]
    assert answers(program.home / "out.parquet", "answer_llm_error") == [None, "two", None, None]
    assert "out.parquet" in program.err and program.out == ""
    job = program.job()
    assert job.total_prompts == 3
    assert job.config["table"]["path"] == str(table) and job.config["table"]["template"] == "{{ title }}\n"
    # Any later process, under other names and in another format.
    words = ["export", job.job_id, "--merge", "again.csv", "--merge-column", "llm"]
    assert program(*words) == 0 and program.out == ""
    with (program.home / "again.csv").open(newline="") as file:
        assert [row["llm"] for row in csv.DictReader(file)] == ["ONE", "", "", "FOUR"]
    assert program("resume", job.job_id, "--merge", "third.parquet") == 1
    assert answers(program.home / "third.parquet") == answers(program.home / "out.parquet")
    table.write_bytes(table.read_bytes() + b" ")
    assert program("export", job.job_id, "--merge", "fourth.csv") == 2
    assert not (program.home / "fourth.csv").exists()


def test_a_stopped_job_says_how_its_table_is_merged(program: Program, table: Path) -> None:
    words = ["--merge", "out.parquet", "--on-error", "stop", "--workers", "1"]
    assert program("run", table, "--template", "t.j2", *words) == 1
    assert not (program.home / "out.parquet").exists()
    (line,) = [line for line in program.err.splitlines() if "ai-router" in line and " resume " in line]
    assert f"--merge={program.home / 'out.parquet'}" in line
    assert program("export", program.job().job_id, "--merge", "part.parquet") == 0
    assert answers(program.home / "part.parquet", "answer_llm_error")[3] in ("no answer yet", None)


def test_rows_say_their_own_options(program: Program, table: Path) -> None:
    given = [
        "--per-row",
        "max-tokens=limit",
        "--per-row",
        "model=who",
        "--per-row",
        "id=key",
        "--per-row",
        "system=key",
    ]
    assert program("run", table, "--template", "t.j2", *given) == 1
    assert "1 row names another model, and quick answers it: big (1)" in program.err
    job = program.job()
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        asked = [store.request(n) for n in range(3)]
    assert [r.custom_id for r in asked] == ["k1", "k2", "k4"]
    assert [dict(r.params) for r in asked] == [
        {"max_tokens": 7, "system": "k1"},
        {"system": "k2"},
        {"max_tokens": 9, "system": "k4"},
    ]


def test_a_check_shows_the_first_prompts_with_their_values_marked(program: Program, table: Path) -> None:
    (program.home / "t.j2").write_text("Say \x1b[2J {{ title }}!")
    assert program("run", table, "--template", "t.j2", "--check") == 0
    assert "3 prompts" in program.out and "passed over: 1 row without text" in program.out
    assert "prompt 1, values in «…»:\nSay \x1b[2J «one»!\n" in program.out
    assert "«four»!" in program.out
    assert program.files() == []


def test_a_column_that_is_missing_is_named_with_its_nearest(program: Program, table: Path) -> None:
    (program.home / "t.j2").write_text("{{ titel }}")
    assert program("run", table, "--template", "t.j2") == 2
    assert 'no column; the columns are: title, limit, who, key (did you mean "title"?)' in program.err
    assert program("run", table, "--template", "t.j2", "--column", "title") == 2
    (program.home / "t.j2").write_text("{{ title }}")
    assert program("run", table, "--template", "t.j2", "--per-row", "max_tokens=limt") == 2
    assert 'did you mean "limit"' in program.err
    for words in (["--merge-column", "key"], ["--merge-field", "x"]):
        assert program("run", table, "--template", "t.j2", "--merge", "o.csv", *words) == 2
    assert program("run", table, "--template", "t.j2", "--merge", table) == 2
    assert "is not written over" in program.err
    assert program.files() == []


def test_a_job_file_holds_template_and_merge(program: Program, table: Path) -> None:
    folder = program.home / "deep"
    folder.mkdir()
    saved = folder / "job.yaml"
    words = ["--merge", "out.jsonl", "--per-row", "id=key", "--save-template", saved]
    assert program("run", table, "--template", "t.j2", *words) == 1
    (program.home / "out.jsonl").unlink()
    assert "template: ../t.j2" in saved.read_text() and "merge: ../out.jsonl" in saved.read_text()
    assert program("run", "--template", saved) == 1
    lines = [json.loads(line) for line in (program.home / "out.jsonl").read_text().splitlines()]
    assert [line["answer_llm"] for line in lines] == ["ONE", None, None, "FOUR"]


def test_other_models_of_batch_lines_are_said_before_anything_runs(program: Program) -> None:
    path = program.home / "batch.jsonl"
    lines = [
        {"custom_id": str(n), "body": {"model": m, "prompt": f"p{n}"}} for n, m in enumerate(["quick", "gpt", "gpt"])
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = "2 lines name another model, and quick answers them: gpt (2)"
    assert program("run", path, "--check") == 0
    assert said in program.out and program.files() == []
    assert program("run", path) == 0
    assert program.err.index(said) < program.err.index("Job ")
    assert program("export", program.job().job_id, "--output", "-") == 0
    assert {json.loads(line)["response"]["body"]["object"] for line in program.out.splitlines()} == {"text_completion"}
