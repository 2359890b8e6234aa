"""Checkpoints that were cut, scratched or never were: each opens right, or is a CheckpointError. Nothing else."""

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch import BatchProcessor, BatchResult
from batch.checkpoint import CheckpointStore, list_jobs
from batch.errors import CheckpointError
from batch.items import Request

Folders = Callable[[], Path]

ITEMS = 120
pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "batch")


@pytest.fixture(scope="module")
def whole(folders: Folders) -> Path:
    """A job two thirds done, some of it failed."""
    processor = BatchProcessor(folders())
    prompts = [Request(f"prompt {i} " * 8, {"custom_id": f"id-{i}"}) for i in range(ITEMS)]
    job = processor.create_job("m", prompts, config={"source": "prompts.txt"})

    def function(prompt: str) -> str:
        number = int(prompt.split()[1])
        if number % 9 == 0:
            raise ValueError(f"number {number}")
        if number == 80:
            raise KeyboardInterrupt
        return f"answer {number} " * 30

    with pytest.raises(KeyboardInterrupt):
        processor.process_batch(job, function)
    assert job.checkpoint_file is not None
    return job.checkpoint_file


def read_all(path: Path) -> tuple[int, list[BatchResult], list[str]]:
    """Everything that a listing, an export and a resumed run read."""
    with CheckpointStore(path) as store:
        job = store.job(recount=True)
        results = list(store.iter_results())
        prompts = list(job.prompts)
        done = store.done_map(job.total_prompts)
        store.requests([i for i in range(job.total_prompts) if not done[i]])
        store.ids("failed")
        store.error_counts()
        store.performance()
        return job.processed, results, prompts


@pytest.fixture(scope="module")
def good(whole: Path) -> tuple[int, list[BatchResult], list[str]]:
    return read_all(whole)


def check(path: Path, good: tuple[int, list[BatchResult], list[str]]) -> bool:
    """Whether it opened. A file that opens must hold every row, or SQLite's own check must tell on it."""
    listed = list_jobs(path.parent)
    assert len(listed) + len(listed.skipped) == 1
    try:
        found = read_all(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        return False
    rows = lambda read: (read[0], [r.prompt_index for r in read[1]], len(read[2]))  # noqa: E731
    if rows(found) != rows(good):
        with CheckpointStore(path) as store, pytest.raises(CheckpointError):
            store.verify()
        return False
    return True


def test_untouched(whole: Path) -> None:
    processed, results, prompts = read_all(whole)
    assert processed == len(results) >= 80 and len(prompts) == ITEMS
    assert results[1].custom_id == "id-1" and results[0].error_message == "ValueError: number 0"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_scratched(whole: Path, good: Any, folders: Folders, data: st.DataObject) -> None:
    path = folders() / whole.name
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        # Page heads and the file's first page matter most.
        page = data.draw(st.integers(0, len(content) // 4096 - 1))
        at = page * 4096 + data.draw(st.one_of(st.integers(0, 140), st.integers(0, 4095)))
        patch = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(patch)] = patch
    path.write_bytes(content)
    check(path, good)
    shutil.rmtree(path.parent)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 40_000))
def test_cut_short(whole: Path, good: Any, folders: Folders, cut: int) -> None:
    path = folders() / whole.name
    content = whole.read_bytes()
    path.write_bytes(content[: min(cut, len(content) - 1)])
    assert not check(path, good)
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("garbage", [b"", b"\0" * 8192, b"SQLite format 3\0", b"SQLite format 3\0" + b"\xff" * 9000,
                                     b"{}", random.Random(1).randbytes(50_000)])  # fmt: skip
def test_garbage(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "batch_00000000.db"
    path.write_bytes(garbage)
    processor = BatchProcessor(tmp_path)
    with pytest.raises(CheckpointError, match=r"batch_00000000\.db"):
        processor.load_checkpoint(path)
    listed = processor.list_checkpoints()
    assert not listed and [p for p, _ in listed.skipped] == [path]
    assert path.read_bytes() == garbage


def test_what_is_not_a_checkpoint(tmp_path: Path) -> None:
    other = tmp_path / "batch_other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE job (x)")
    connection.close()
    processor = BatchProcessor(tmp_path)
    with pytest.raises(CheckpointError, match="the file is not a checkpoint"):
        processor.load_checkpoint(other)
    with pytest.raises(CheckpointError, match="Checkpoint not found"):
        processor.load_checkpoint(tmp_path / "none.db")
    with pytest.raises(CheckpointError, match=r"folder|not found"):
        processor.load_checkpoint(tmp_path)


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM job",
        "UPDATE job SET status = 'napping'",
        "UPDATE job SET updated_at = 'yesterday'",
        "UPDATE job SET config = '{'",
        "UPDATE job SET config = '[]'",
        "UPDATE job SET config = '5'",
        "UPDATE plan SET total = 'many'",
        "UPDATE plan SET total = -1",
        "UPDATE plan SET total = 1000000000000",
        "UPDATE plan SET total = 119",
        "UPDATE job SET tokens_output = 'x'",
        "UPDATE job SET elapsed = x'00'",
        "UPDATE job SET model_id = x'ff'",
        "UPDATE job SET started_at = 5.5, completed = 'x'",
        "DELETE FROM items WHERE id = 100",
        "DELETE FROM items WHERE id = 119",
        "UPDATE items SET text = x'ff00' WHERE id = 100",
        "UPDATE items SET extra = '{' WHERE id = 100",
        "INSERT INTO results SELECT 500, 1, 1, 1, 1, 1, NULL, NULL, NULL, 0, 0, 1",
        "INSERT INTO results SELECT -1, 1, 1, 1, 1, 1, NULL, NULL, NULL, 0, 0, 1",
        "DROP TABLE results",
        "DROP TABLE control",
        "PRAGMA user_version = 7",
    ],
)
def test_damage_in_the_rows_is_said_before_anything_runs_or_when_it_is_met(
    whole: Path, tmp_path: Path, statement: str
) -> None:
    path = tmp_path / whole.name
    shutil.copy(whole, path)
    change(path, statement)
    processor = BatchProcessor(tmp_path)
    with pytest.raises(CheckpointError, match=whole.name):
        job = processor.open_job(path)
        processor.process_batch(job, str.upper)
    assert len(list_jobs(tmp_path)) + len(list_jobs(tmp_path).skipped) == 1


def test_lost_results_run_again_and_none_is_counted_twice(whole: Path, tmp_path: Path) -> None:
    """Rows that somebody removed are no damage that SQLite sees: the counts come from what there is."""
    path = tmp_path / whole.name
    shutil.copy(whole, path)
    change(path, "DELETE FROM results WHERE id IN (3, 4)", "DELETE FROM answers WHERE id IN (3, 4)")
    processor = BatchProcessor(tmp_path)
    before = processor.load_checkpoint(path)[0].processed
    ran: list[str] = []
    job = processor.open_job(path)
    processor.process_batch(job, lambda p: ran.append(p) or "x")
    assert len(ran) == ITEMS - before and job.processed == ITEMS


def test_a_log_without_its_database_and_a_foreign_log(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / whole.name
    shutil.copy(whole, path)
    good = read_all(path)
    for rubbish in (b"", b"rubbish" * 1000, b"\x37\x7f\x06\x82" + b"\0" * 5000):
        path.with_name(path.name + "-wal").write_bytes(rubbish)
        assert check(path, good)
    path.unlink()
    assert list_jobs(tmp_path) == []


def test_a_folder_with_the_name_of_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "batch_folder.db").mkdir()
    (tmp_path / "batch_folder.json").mkdir()
    listed: Any = list_jobs(tmp_path)
    assert listed == [] and len(listed.skipped) >= 1
