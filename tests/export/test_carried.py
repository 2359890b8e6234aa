"""What a table's rows carry, who answered and what it cost come out again, and nothing where there is nothing."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from batch.checkpoint import CheckpointStore, ResultWriter
from batch.checkpoint.written import ResultRow
from batch.export import CSV_COLUMNS, export
from batch.items import Answer, BatchResponse, Request
from batch.job import BatchJob
from batch.processor import BatchProcessor

ROWS = [
    Request("one", columns={"id": 7, "prompt": "shadowed", "note": 'a "quoted", cell'}),
    Request("two", columns={"id": None, "big": 10**30, "odd": float("nan"), "=x": ["a", 1]}),
    Request("three"),
]


def stored(folder: Path, requests: list[Request], *, model: str | None = None, cost: int | None = None) -> BatchJob:
    job = BatchProcessor(folder).create_job("small", requests)
    writer = ResultWriter(job, lambda rows: None, lambda error: None, lambda: 0.0)
    for n in range(len(requests)):
        response = BatchResponse(n, Answer(f"answer {n}"), model=model if n == 1 else "small", cost=cost)
        writer.put(ResultRow.of(response, requests[n].text, None, 1, replaces=False))
    writer.close()
    return BatchProcessor(folder).open_job(job.checkpoint_file or "")


def exported(job: BatchJob, form: str, folder: Path) -> str:
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        export(job, list(store.iter_results()), folder / "out", form)
    return (folder / "out").read_bytes().decode()


def test_carried_columns_come_out_in_their_order(tmp_path: Path) -> None:
    job = stored(tmp_path, ROWS)
    table = list(csv.reader(io.StringIO(exported(job, "csv", tmp_path))))
    assert table[0] == [*CSV_COLUMNS, "id", "prompt_input", "note", "big", "odd", "'=x"]
    assert table[1][len(CSV_COLUMNS) :] == ["7", "shadowed", 'a "quoted", cell', "", "", ""]
    assert table[2][len(CSV_COLUMNS) :] == ["", "", "", str(10**30), "NaN", '["a", 1]']
    assert table[3][len(CSV_COLUMNS) :] == [""] * 6
    lines = [json.loads(line) for line in exported(job, "jsonl", tmp_path).splitlines()]
    assert lines[0]["columns"] == ROWS[0].columns and "columns" not in lines[2]
    whole = json.loads(exported(job, "json", tmp_path))
    assert whole["results"][1]["columns"]["big"] == 10**30


def test_a_row_says_who_answered_where_that_is_not_the_jobs_model(tmp_path: Path) -> None:
    job = stored(tmp_path, [Request("one"), Request("two")], model="big", cost=1_500_000)
    table = list(csv.reader(io.StringIO(exported(job, "csv", tmp_path))))
    assert [row[len(CSV_COLUMNS) :] for row in table] == [["model", "cost"], ["small", "0.0015"], ["big", "0.0015"]]
    whole = json.loads(exported(job, "json", tmp_path))
    assert "model" not in whole["results"][0] and whole["results"][1]["model"] == "big"
    assert whole["results"][1]["cost"] == 0.0015


def test_a_plain_job_has_the_plain_table(tmp_path: Path) -> None:
    job = stored(tmp_path, [Request("one"), Request("two")], model="small", cost=0)
    assert exported(job, "csv", tmp_path).splitlines()[0] == ",".join(CSV_COLUMNS)
    assert set(json.loads(exported(job, "json", tmp_path))["results"][0]) == {
        *("prompt_index", "prompt", "response_text", "tokens_input", "tokens_output", "duration", "success"),
        "error_message",
    }
