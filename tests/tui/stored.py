"""Jobs on disk, in any state, without a model."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from ai_router.settings import Workspace
from batch.items import Request
from batch.job import BatchJob, BatchResult
from batch.processor import BatchProcessor

NASTY = "\x1b]52;c;aGk=\x07 [bold red]not bold[/] \x00 \u202eabc\u202c \x1b[31mred\x1b[0m"
JAPANESE = "日本語の文を直してください。私は学校を行きます。"


def make_job(
    folder: Path,
    prompts: Sequence[str],
    answers: dict[int, str | None] | None = None,
    *,
    job_id: str = "",
    model: str = "demo",
    source: str = "prompts.txt",
    status: str = "running",
    at: str = "2025-03-01T10:00:00",
    config: dict[str, object] | None = None,
) -> Path:
    """A job on disk; an answer of None is a failure, a missing one is pending."""
    processor = BatchProcessor(folder)
    job: BatchJob = processor.create_job(model, list(prompts), config={"source": source, **(config or {})})
    assert job.checkpoint_file is not None
    results = [
        BatchResult(
            index,
            prompts[index],
            text or "",
            tokens_input=len(prompts[index]) // 4,
            tokens_output=len(text or "") // 4,
            duration=0.25 + index % 8 * 0.125,
            success=text is not None,
            error_message=None if text is not None else "the server closed the connection",
            error_class=None if text is not None else "transient",
        )
        for index, text in (answers or {}).items()
    ]
    job.status = status
    processor.save_checkpoint(job, results)
    path = job.checkpoint_file
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE job SET status = ?, updated_at = ?, started_at = ?, elapsed = 42.5", (status, at, at)
        )
        connection.execute("UPDATE plan SET created_at = ?", (at,))
        if job_id:
            connection.execute("UPDATE plan SET job_id = ?", (job_id,))
    connection.close()
    if job_id:
        path = path.rename(folder / f"batch_{job_id}.db")
    return path


Example = tuple[str, str, str | None, str | None]  # input, expected, predicted, error type


def make_dataset_job(
    folder: Path,
    examples: Sequence[Example],
    *,
    job_id: str = "",
    model: str = "demo",
    pending: Sequence[int] = (),
    at: str = "2025-03-01T10:00:00",
    **details: object,
) -> Path:
    """A job with known answers; a prediction of None is a failure."""
    processor = BatchProcessor(folder)
    requests = [
        Request(
            f"Correct: {given}",
            {"input": given, "expected": expected, "example_id": number, **({"error_type": kind} if kind else {})},
        )
        for number, (given, expected, _, kind) in enumerate(examples, 1)
    ]
    config = {"source": "data/test.jsonl", "kind": "dataset", "details": {"test_file": "/data/test.jsonl", **details}}
    job = processor.create_job(model, requests, config=config)
    answer_examples(processor, job, examples, [at for at in range(len(examples)) if at not in pending])
    path = job.checkpoint_file
    assert path is not None
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE job SET status = 'completed', updated_at = ?", (at,))
        connection.execute("UPDATE plan SET created_at = ?", (at,))
        if job_id:
            connection.execute("UPDATE plan SET job_id = ?", (job_id,))
    connection.close()
    return path.rename(folder / f"batch_{job_id}.db") if job_id else path


def answer_examples(
    processor: BatchProcessor, job: BatchJob, examples: Sequence[Example], places: Sequence[int]
) -> None:
    """Commit the predictions of some examples."""
    results = [
        BatchResult(
            place,
            f"Correct: {examples[place][0]}",
            examples[place][2] or "",
            duration=0.5,
            success=examples[place][2] is not None,
            error_message=None if examples[place][2] is not None else "the server closed the connection",
            error_class=None if examples[place][2] is not None else "transient",
        )
        for place in places
    ]
    processor.save_checkpoint(job, results)


def add_model(workspace: Workspace, name: str, **config: object) -> Path:
    """A folder that looks like a model."""
    folder = workspace.models_dir / name
    folder.mkdir(parents=True)
    text = {"architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": 4096, **config}
    (folder / "config.json").write_text(json.dumps(text))
    header = b'{"w":{"dtype":"F32","shape":[1000,2000],"data_offsets":[0,0]}}'
    # With its name behind it, as no two models have the same weights.
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + name.encode()[:10])
    return folder
