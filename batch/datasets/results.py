"""The rows of a results file: written as they finish, in order at the end; and the summary beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from batch.checkpoint import CheckpointStore
from batch.errors import ExportError
from batch.evaluation.pairs import Pair
from batch.export import atomic_file
from batch.export.atomic import check_target, explained
from batch.items import Request
from batch.job import BatchJob, BatchResult
from batch.sources.text import replace_surrogates_in

_PAGE = 512
_KEYS = ("input", "expected", "predicted", "example_id")


def row_of(request: Request, result: BatchResult) -> dict[str, Any]:
    """A row of the results file. A failed one has its input for a prediction, and says why in `error`."""
    extra = request.extra or {}
    given = str(extra.get("input", request.text))
    row: dict[str, Any] = {
        "input": given,
        "expected": str(extra.get("expected", "")),
        "predicted": result.response_text if result.success else given,
        "example_id": extra.get("example_id", result.prompt_index + 1),
    }
    if not result.success:
        row["error"] = result.error_message or "failed"
    if extra.get("error_type") is not None:
        row["error_type"] = extra["error_type"]
    return row


def pair_of(request: Request, result: BatchResult) -> Pair:
    """The same for a score."""
    row = row_of(request, result)
    name = str(row["example_id"])
    return Pair(row["input"], row["expected"], row["predicted"], name, row.get("error"), row.get("error_type"))


def line_of(row: Mapping[str, Any]) -> bytes:
    """A row as a line of the file."""
    try:
        return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:
        return (json.dumps(replace_surrogates_in(row)[0], ensure_ascii=False) + "\n").encode("utf-8")


def with_requests(store: CheckpointStore, results: Iterable[BatchResult]) -> Iterator[tuple[Request, BatchResult]]:
    """Results beside what was asked, in their order; a page of them is read at a time."""
    page: list[BatchResult] = []
    for result in results:
        page.append(result)
        if len(page) == _PAGE:
            yield from _joined(store, page)
            page = []
    yield from _joined(store, page)


def _joined(store: CheckpointStore, page: list[BatchResult]) -> Iterator[tuple[Request, BatchResult]]:
    requests = dict(store.requests(sorted({result.prompt_index for result in page})))
    for result in page:
        yield requests[result.prompt_index], result


class ResultsFile:
    """A results file that grows with its job. It is first written anew with what the job has, so every line is whole.

    Raises ExportError where it cannot be written.
    """

    def __init__(self, path: Path, store: CheckpointStore) -> None:
        self.path = path
        rewrite(path, store)
        with explained(path):
            self._file = path.open("ab", buffering=0)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows; they are in the file when this returns."""
        data = b"".join(map(line_of, rows))
        with explained(self.path):
            view = memoryview(data)
            while view:  # a disk that is nearly full takes a part
                view = view[self._file.write(view) :]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def rewrite(path: Path, store: CheckpointStore) -> int:
    """Write all rows there are in the order of the examples, whole or not at all; returns how many."""
    count = 0
    with atomic_file(path, forbidden=[store.path]) as file:
        for request, result in with_requests(store, store.iter_results()):
            file.write(line_of(row_of(request, result)))
            count += 1
    return count


def summary_path(output: Path) -> Path:
    """`results.jsonl` -> `results_summary.json`."""
    name = output.name.removesuffix(".jsonl")
    return output.with_name(f"{name}_summary.json")


def summary_of(job: BatchJob, output: str, score: Mapping[str, Any] | None, skipped: int) -> dict[str, Any]:
    """What is said of a whole run: the reference's keys first. Times are seconds."""
    return {
        "total_examples": job.processed,
        "successful_predictions": job.completed,
        "failed_predictions": job.failed,
        "output_file": output,
        "timestamp": datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
        "skipped": skipped,
        "not_run": job.total_prompts - job.processed,
        "model": job.model_id,
        "adapter_path": job.config.get("details", {}).get("adapter_path"),
        "tokens_input": job.tokens_input,
        "tokens_output": job.tokens_output,
        "elapsed_seconds": round(job.elapsed, 3),
        "seconds_per_example": round(job.elapsed / job.processed, 4) if job.processed else None,
        "score": dict(score) if score else None,
        "job_id": job.job_id,
        "reason": job.reason,
    }


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write it, whole or not at all."""
    text = json.dumps(replace_surrogates_in(dict(summary))[0], indent=2, ensure_ascii=False) + "\n"
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))


def check_output(path: Path, kept: Iterable[Path] = ()) -> bool:
    """Whether results are there already. Raises ExportError where the file holds something else or cannot be written.

    A file that is no results file is never written over, whatever it is called.
    """
    with explained(path):
        check_target(path, kept)
        check_target(summary_path(path), kept)
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        if not folder.is_dir():
            raise ExportError(f"{path} cannot be written: {folder} is a file, not a folder")
        if not os.access(folder, os.W_OK):
            raise ExportError(f"No permission to write {path}")
        if path.exists() and not path.is_file():
            raise ExportError(f"{path} is no ordinary file; name one with --output-file")
        if not path.exists() or not path.stat().st_size:
            return False
        with path.open("rb") as file:
            first = file.readline(1 << 20)
    try:
        row = json.loads(first)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not set(_KEYS) <= set(row):
        raise ExportError(f"{path} holds something else than results; choose another file with --output-file")
    return True
