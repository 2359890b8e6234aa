"""The reference's JSON checkpoints: listed, loaded, resumed, and never lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch import BatchProcessor
from batch.errors import CheckpointError

Folders = Callable[[], Path]

PROMPTS = ["Explain linked lists", "Write a reverse function", "What is a deque?", "What is B+?"]


def result(index: int, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "prompt_index": index,
        "prompt": PROMPTS[index],
        "response_text": f"old answer {index}",
        "tokens_input": 10,
        "tokens_output": 150,
        "duration": 2.5,
        "success": True,
        "error_message": None,
    }
    return row | changes


def checkpoint(status: str = "running", **changes: Any) -> dict[str, Any]:
    rows = [result(0), result(1, success=False, response_text="", error_message="boom")]
    return {
        "job": {
            "job_id": "7b5f330e",
            "model_id": "qwen3-coder-30b",
            "prompts": PROMPTS,
            "total_prompts": 4,
            "completed": 1,
            "failed": 1,
            "status": status,
            "started_at": "2025-12-08T10:00:00.123456",
            "completed_at": None,
            "checkpoint_file": "D:\\models\\batch_checkpoints\\batch_7b5f330e.json",
        },
        "results": rows,
        "timestamp": "2025-12-08T10:00:05.000001",
    } | changes


def write(folder: Path, data: Any, name: str = "batch_7b5f330e.json") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False), "utf-8")
    return path


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("pending", "pending"),
        ("running", "running"),
        ("failed", "failed"),
        ("completed", "completed"),
        ("completed_with_errors", "completed"),
        ("paused", "running"),
    ],
)
def test_listed_loaded_and_resumed(tmp_path: Path, status: str, shown: str) -> None:
    path = write(tmp_path, checkpoint(status))
    before = path.read_bytes()
    processor = BatchProcessor(tmp_path)
    (line,) = processor.list_checkpoints()
    assert (line["job_id"], line["model_id"], line["status"]) == ("7b5f330e", "qwen3-coder-30b", shown)
    assert (line["completed"], line["failed"], line["total"]) == (1, 1, 4)
    assert line["timestamp"] == "2025-12-08T10:00:05.000001" and line["file"] == str(path)

    job, results = processor.load_checkpoint(path)
    assert list(job.prompts) == PROMPTS and (job.completed, job.failed, job.status) == (1, 1, shown)
    assert [r.prompt_index for r in results] == [0, 1] and results[1].error_message == "boom"

    ran: list[str] = []
    final = processor.process_batch(job, lambda p: ran.append(p) or f"new {p}", results=results)
    assert ran == PROMPTS[2:]
    assert [r.success for r in final] == [True, False, True, True]
    assert final[0].response_text == "old answer 0" and (job.completed, job.failed) == (3, 1)
    assert job.tokens_output == 300 and job.elapsed >= 5.0
    assert path.read_bytes() == before  # the old file stays as it was
    (line,) = processor.list_checkpoints()  # and is listed once
    assert (line["file"], line["status"]) == (str(tmp_path / "batch_7b5f330e.db"), "completed")

    ran.clear()
    final = processor.process_batch(job, lambda p: ran.append(p) or "at last", retry_failed=True)
    assert ran == [PROMPTS[1]] and all(r.success for r in final)
    assert job.started_at == "2025-12-08T10:00:00.123456"


def test_resumed_without_its_results_in_hand(tmp_path: Path) -> None:
    processor = BatchProcessor(tmp_path)
    job = processor.open_job(write(tmp_path, checkpoint()))
    ran: list[str] = []
    processor.process_batch(job, lambda p: ran.append(p) or "x")
    assert ran == PROMPTS[2:]


def test_any_file_name(tmp_path: Path) -> None:
    processor = BatchProcessor(tmp_path)
    job = processor.open_job(write(tmp_path, checkpoint(), "my old job.json"))
    assert len(processor.process_batch(job, str.upper)) == 4
    assert job.checkpoint_file == tmp_path / "batch_my old job.db"


def test_the_last_result_of_an_index_holds(tmp_path: Path) -> None:
    rows = [result(0, response_text="first"), result(1), result(0, response_text="second")]
    job, results = BatchProcessor(tmp_path).load_checkpoint(write(tmp_path, checkpoint(results=rows)))
    assert [r.response_text for r in results] == ["second", "old answer 1"] and job.completed == 2


def test_killed_while_it_is_turned_into_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that has the prompts but not yet the results would run everything again."""
    path = write(tmp_path, checkpoint())
    processor = BatchProcessor(tmp_path)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("batch.processor._put", die)
        processor.open_job(path)
    assert [line["completed"] for line in processor.list_checkpoints()] == [1]
    assert processor.open_job(path).completed == 1


BAD: list[tuple[str, Any]] = [
    ("no object", []),
    ("a number", 5),
    ("no job", {"results": [], "timestamp": "2025-12-08T10:00:05"}),
    ("a job that is none", checkpoint(job=[])),
    ("no prompts", checkpoint(job={k: v for k, v in checkpoint()["job"].items() if k != "prompts"})),
    ("prompts in one text", checkpoint(job=checkpoint()["job"] | {"prompts": "abcd"})),
    ("unknown status", checkpoint("napping")),
    ("no time", checkpoint(timestamp="yesterday")),
    ("time is a number", checkpoint(timestamp=5)),
    ("results that are none", checkpoint(results={"0": 1})),
    ("a result that is none", checkpoint(results=[1])),
    ("a result of no prompt", checkpoint(results=[result(0, prompt_index=4)])),
    ("a negative index", checkpoint(results=[result(0, prompt_index=-1)])),
    ("tokens that are none", checkpoint(results=[result(0, tokens_input="many")])),
]


@pytest.mark.parametrize("data", [data for _, data in BAD], ids=[name for name, _ in BAD])
def test_damaged(tmp_path: Path, data: Any) -> None:
    path = write(tmp_path, data)
    processor = BatchProcessor(tmp_path)
    for attempt in (processor.load_checkpoint, processor.open_job):
        with pytest.raises(CheckpointError, match=r"batch_7b5f330e\.json"):
            attempt(path)
    listed = processor.list_checkpoints()
    assert list(listed) == [] and [p for p, _ in listed.skipped] == [path]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@given(st.integers(0, 1200), st.integers(0, 1200), st.binary(max_size=4))
def test_cut_and_patched_anywhere(folders: Folders, cut: int, at: int, patch: bytes) -> None:
    folder = folders()
    path = write(folder, checkpoint())
    data = bytearray(path.read_bytes())
    data[at : at + len(patch)] = patch
    path.write_bytes(data[: len(data) - cut] if cut else data)
    processor = BatchProcessor(folder)
    try:
        processor.load_checkpoint(path)
    except CheckpointError:
        assert len(processor.list_checkpoints().skipped) == 1
    else:
        assert len(processor.list_checkpoints()) == 1
