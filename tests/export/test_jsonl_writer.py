"""The file that grows with a job: every line whole, none doubled, whatever happened before."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.errors import ExportError
from batch.export import JsonlWriter, export
from batch.export.lines import IndexSet
from batch.job import BatchJob, BatchResult

FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def results(count: int, start: int = 0) -> list[BatchResult]:
    return [BatchResult(i, f"prompt {i} 日本", "two\nlines", 1, 2, 0.5) for i in range(start, count)]


def indexes(path: Path) -> list[int]:
    data = path.read_bytes()
    assert not data or data.endswith(b"\n")
    return [json.loads(line)["prompt_index"] for line in data.split(b"\n")[:-1]]


def test_lines_are_those_of_the_export(tmp_path: Path) -> None:
    with JsonlWriter(tmp_path / "deep" / "s.jsonl") as stream:
        assert stream.write(iter(results(3))) == 3
    export(BatchJob("j", "m", [], 3), results(3), tmp_path / "e.jsonl", "jsonl")
    assert (tmp_path / "deep" / "s.jsonl").read_bytes() == (tmp_path / "e.jsonl").read_bytes()


@FAST
@given(st.integers(0, 6), st.data())
def test_a_torn_file_is_gone_on_with(tmp_path: Path, count: int, data: st.DataObject) -> None:
    path = tmp_path / "s.jsonl"
    path.unlink(missing_ok=True)
    with JsonlWriter(path) as stream:
        stream.write(results(count))
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    with JsonlWriter(path) as stream:
        assert stream.count == kept
        assert path.stat().st_size == whole[:cut].rfind(b"\n") + 1
        assert stream.write(results(8)) == 8 - kept
        assert stream.write(results(8)) == 0
    assert indexes(path) == list(range(8))


def test_one_batch_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    real = os.write

    def write(handle: int, data: bytes) -> int:
        writes.append(bytes(data))
        return real(handle, data)

    with JsonlWriter(tmp_path / "s.jsonl") as stream:
        monkeypatch.setattr(os, "write", write)
        stream.write(results(100))
        stream.write([])
        monkeypatch.undo()
    assert len(writes) == 1
    assert writes[0].endswith(b"\n")


def test_a_success_after_a_failure_is_appended_once(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    failed = BatchResult(0, "p", "", success=False, error_message="no")
    good = BatchResult(0, "p", "yes")
    with JsonlWriter(path) as stream:
        assert stream.write([failed, failed]) == 1
    with JsonlWriter(path) as stream:
        assert [stream.write([failed]), stream.write([good]), stream.write([good]), stream.write([failed])] == [
            0,
            1,
            0,
            0,
        ]
    assert [json.loads(line)["success"] for line in path.read_text().splitlines()] == [False, True]


def test_a_full_disk_leaves_whole_lines_and_the_rest_can_come_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.jsonl"
    real = os.write

    def write(handle: int, data: bytes) -> int:
        if len(data) > 200:
            return real(handle, data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with JsonlWriter(path) as stream:
        stream.write(results(2))
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(ExportError, match="disk is full"):
            stream.write(results(9))
        monkeypatch.undo()
        assert indexes(path) == [0, 1]
        assert stream.write(results(9)) == 7
    assert indexes(path) == list(range(9))


@pytest.mark.parametrize("content", ["my notes", "my notes\n", '{"prompt_index": 0, "x": 1}\n', '{"a": 1}\n{"prompt_'])
def test_a_file_that_is_not_a_jobs_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(ExportError, match="not written by a job"):
        JsonlWriter(path)
    assert path.read_text() == content


def test_a_new_stream_wants_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with JsonlWriter(path, new=True) as stream:
        stream.write(results(1))
    with pytest.raises(ExportError, match="exists and is not empty"):
        JsonlWriter(path, new=True)
    assert indexes(path) == [0]


def test_never_onto_a_checkpoint_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "batch_1.db"):
        with pytest.raises(ExportError):
            JsonlWriter(path)
    assert not list(tmp_path.iterdir())


def test_standard_output_and_devices(capfdbinary: Any) -> None:
    with JsonlWriter("-") as stream:
        assert stream.write(results(2)) == 2
    assert capfdbinary.readouterr().out.count(b"\n") == 2
    if os.path.exists("/dev/null"):
        with JsonlWriter("/dev/null") as stream:
            assert stream.write(results(2)) == 2


@FAST
@given(st.sets(st.integers(0, 3000)))
def test_index_set(numbers: set[int]) -> None:
    held = IndexSet()
    for number in [*numbers, *numbers]:
        held.add(number)
    assert len(held) == len(numbers)
    assert {n for n in range(3100) if n in held} == numbers
