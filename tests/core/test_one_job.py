"""One job is one job: under all its names, while it is made, and whatever a file says that it is called."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from batch import BatchProcessor, Run
from batch.checkpoint import CheckpointStore, JobLock, list_jobs, lock_owner
from batch.engines.function import FunctionEngine
from batch.errors import CheckpointError

ROOT = Path(__file__).parents[2]


def old_json(folder: Path, count: int, job_id: str = "abc") -> Path:
    """A JSON checkpoint of the reference, all but four of its prompts answered."""
    rows = [
        {"prompt_index": i, "prompt": f"p{i}", "response_text": "old", "success": True, "error_message": None}
        for i in range(count - 4)
    ]
    head = {"job_id": job_id, "model_id": "m", "prompts": [f"p{i}" for i in range(count)], "status": "running"}
    path = folder / "batch_abc.json"
    path.write_text(json.dumps({"job": head, "results": rows, "timestamp": "2025-12-08T10:00:05"}))
    return path


RESUME = """
import sys
from batch import BatchProcessor
from batch.errors import CheckpointError
from pathlib import Path
path = Path(sys.argv[1])
processor = BatchProcessor(path.parent)
try:
    job = processor.open_job(path)
    results = processor.process_batch(job, lambda p: "new " + p)
    print("done", len(results))
except CheckpointError as error:
    print("refused", error)
"""


def test_two_that_resume_one_json_checkpoint_lose_nothing(tmp_path: Path) -> None:
    """The second is refused or goes on from what the first has; neither replaces what is there."""
    count = 3_000
    path = old_json(tmp_path, count)
    command = [sys.executable, "-c", RESUME, str(path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(3)]
    said = [process.communicate(timeout=120)[0] for process in running]
    assert any(text.startswith("done") for text in said), said
    assert all(text.startswith(f"done {count}") or "is being run by process" in text for text in said), said
    with CheckpointStore(tmp_path / "batch_abc.db") as store:
        assert store.job(recount=True).completed == count
        store.verify()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["batch_abc.db", "batch_abc.json"]


def test_a_database_that_came_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_json(tmp_path, 10)
    other = BatchProcessor(tmp_path / "other").create_job("other", ["x"]).checkpoint_file
    database = tmp_path / "batch_abc.db"
    put = sys.modules["batch.processor"]._put

    def meanwhile(*args: object) -> None:
        put(*args)
        shutil.copy(other, database)  # by somebody who knows no lock

    monkeypatch.setattr("batch.processor._put", meanwhile)
    before = other.read_bytes()  # type: ignore[union-attr]
    with pytest.raises(CheckpointError, match="exists already"):
        BatchProcessor(tmp_path).open_job(path)
    assert database.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="links")
@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("turned", [False, True])
def test_a_job_runs_once_under_all_its_names(tmp_path: Path, link: object, turned: bool) -> None:
    processor = BatchProcessor(tmp_path)
    path = processor.create_job("m", ["a", "b"]).checkpoint_file
    assert path is not None
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / "batch_other.db"
    link(path, other)  # type: ignore[operator]
    first, second = (other, path) if turned else (path, other)
    gate = threading.Event()
    run = Run(processor.open_job(first), FunctionEngine(lambda p: gate.wait(90) and p)).start()
    try:
        assert lock_owner(first) is not None and lock_owner(second) is not None
        with pytest.raises(CheckpointError, match=f"is being run by process {os.getpid()}"):
            Run(processor.open_job(second), FunctionEngine(str)).start()
    finally:
        gate.set()
        assert run.wait(90)
    assert lock_owner(first) is lock_owner(second) is None
    assert BatchProcessor(tmp_path).open_job(second).completed == 2


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_killed_run_is_resumed_under_the_name_that_has_its_log(tmp_path: Path) -> None:
    path = BatchProcessor(tmp_path).create_job("m", ["a", "b", "c"]).checkpoint_file
    assert path is not None
    other = tmp_path / "batch_other.db"
    os.link(path, other)
    assert subprocess.run([sys.executable, "-c", KILLED_RUN, str(path)], cwd=ROOT).returncode == -9
    processor = BatchProcessor(tmp_path)
    with pytest.raises(CheckpointError, match=f"was last run as {path}"):
        processor.process_batch(processor.open_job(other), str.upper)
    assert all(r.success for r in processor.process_batch(processor.open_job(path), str.upper))
    assert processor.open_job(other).completed == 3


KILLED_RUN = """
import os, sys
from batch import BatchProcessor
processor = BatchProcessor(os.path.dirname(sys.argv[1]))
processor.process_batch(processor.open_job(sys.argv[1]), str.upper, lambda job, n: os.kill(os.getpid(), 9))
"""


def test_those_who_look_do_not_take_each_other_for_a_runner(tmp_path: Path) -> None:
    path = BatchProcessor(tmp_path).create_job("m", ["a"]).checkpoint_file
    assert path is not None
    path.with_suffix(".lock").write_text('{"pid": 1, "since": "2025-01-01T00:00:00"}')  # of a dead owner
    seen: set[object] = set()

    def look() -> None:
        seen.update(lock_owner(path) for _ in range(300))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {None}


@pytest.mark.parametrize("job_id", ["../../../escape", "", "a/b", "a\\b", "a\0b", "x" * 300, "\x1b[2J", "line\nline"])
def test_an_id_that_leads_elsewhere_is_no_id(tmp_path: Path, job_id: str) -> None:
    processor = BatchProcessor(tmp_path)
    job = processor.create_job("m", ["a"])
    path = job.checkpoint_file
    assert path is not None
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE plan SET job_id = ?", (job_id,))
    connection.close()
    for attempt in (processor.open_job, processor.load_checkpoint):
        with pytest.raises(CheckpointError, match=r"Damaged checkpoint .* no job id"):
            attempt(path)
    assert [p for p, _ in list_jobs(tmp_path).skipped] == [path]
    with pytest.raises(CheckpointError, match="no job id"):
        processor.load_checkpoint(old_json(tmp_path, 5, job_id))
    job.job_id = job_id
    with pytest.raises(CheckpointError, match="no job id"):
        CheckpointStore.create(tmp_path, job, ["a"])


def test_what_the_killed_left_is_swept_and_what_the_living_make_is_not(tmp_path: Path) -> None:
    processor = BatchProcessor(tmp_path)
    left = [tmp_path / "batch_dead.tmp", tmp_path / "batch_dead.live.tmp", tmp_path / ".adopting-batch_old-x7"]
    kept = [tmp_path / "batch_alive.tmp", tmp_path / "note.tmp"]
    for path in (*left, *kept):
        if path.name.startswith("."):
            path.mkdir()
            (path / "batch_old.db").write_bytes(b"half")
        else:
            path.write_bytes(b"half")
    alive = JobLock(tmp_path / "batch_alive.db")
    alive.acquire()
    processor.create_job("m", ["a"])
    assert not any(path.exists() for path in left) and all(path.exists() for path in kept)
    alive.release()
    assert not list(tmp_path.glob("*.lock"))


KILLED = """
import os, sys
from batch import BatchProcessor
def prompts():
    for i in range(1000):
        if i == 500:
            os.kill(os.getpid(), 9)
        yield "x" * 100
BatchProcessor(sys.argv[1]).create_job("m", prompts())
"""


@pytest.mark.skipif(os.name != "posix", reason="kill")
def test_a_killed_creation_leaves_nothing_after_the_next(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT).returncode == -9
    assert list(tmp_path.glob("*.tmp"))
    BatchProcessor(tmp_path).create_job("m", ["a"])
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".db"]
