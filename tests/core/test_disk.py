"""Disks that are full, folders that cannot be written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch import BatchProcessor
from batch.checkpoint import CheckpointStore, list_jobs
from batch.errors import CheckpointError

LIMITED = """
import resource, sys
from pathlib import Path
from batch import BatchProcessor
from batch.errors import CheckpointError
processor = BatchProcessor(Path(sys.argv[1]).parent)
job = processor.open_job(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
done = []
try:
    processor.process_batch(job, lambda p: "x" * 2000, lambda j, n: done.append(n))
except CheckpointError as error:
    print(len(done), error)
"""


def mounted(path: Path, *options: str) -> bool:
    """Whether this process may mount a small disk here."""
    mount = shutil.which("mount")
    if mount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    return subprocess.run([mount, *options, str(path)], capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    if not mounted(path, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        pytest.skip("no right to mount a disk")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_stops_the_run_with_a_sentence_and_room_lets_it_go_on(small_disk: Path) -> None:
    processor = BatchProcessor(small_disk)
    job = processor.create_job("m", [f"prompt {i}" for i in range(200)])
    ballast = small_disk / "ballast"
    done: list[int] = []

    def callback(_: object, count: int) -> None:
        done.append(count)
        if count == 10:
            ballast.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 120_000))

    with pytest.raises(CheckpointError, match=r"No space left|disk failed"):
        processor.process_batch(job, lambda p: time.sleep(0.003) or p * 400, callback)
    assert 10 <= len(done) < 200
    (line,) = list_jobs(small_disk)
    assert (line.status, line.completed, line.owner) == ("running", len(done), None)
    with pytest.raises(CheckpointError, match=r"No space left|disk failed"):  # still full
        processor.create_job("m", ["y" * 1000] * 300)
    ballast.unlink()
    kept = {r.prompt_index: r for r in processor.load_checkpoint(line.file)[1]}
    assert sorted(kept) == list(range(len(done)))
    ran: list[str] = []
    job = processor.open_job(line.file)
    results = processor.process_batch(job, lambda p: ran.append(p) or "small")
    assert len(results) == 200 and job.status == "completed" and len(ran) == 200 - len(done)
    assert {r.prompt_index: r for r in results if r.prompt_index in kept} == kept
    with CheckpointStore(line.file) as store:
        store.verify()
    assert sorted(p.suffix for p in small_disk.iterdir()) == [".db"]


def test_results_and_their_count_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    """The disk fails between a group's results and the job's row: none of the group is there."""
    processor = BatchProcessor(tmp_path)
    job = processor.create_job("m", [f"prompt {i}" for i in range(60)])
    connection = sqlite3.connect(job.checkpoint_file)  # type: ignore[arg-type]
    connection.execute(
        "CREATE TRIGGER fault BEFORE UPDATE ON job WHEN new.completed > 5 BEGIN SELECT raise(FAIL, 'fault'); END"
    )
    with pytest.raises(CheckpointError, match="fault"):
        processor.process_batch(job, lambda p: time.sleep(0.005) or p)
    rows = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("results", "answers")]
    (line,) = list_jobs(tmp_path)
    assert rows == [line.completed] * 2 and line.completed <= 5
    connection.execute("DROP TRIGGER fault")
    connection.close()
    assert len(processor.process_batch(processor.open_job(line.file), str.upper)) == 60


@pytest.mark.skipif(os.name != "posix", reason="file size limits")
@pytest.mark.parametrize("limit", [30_000, 60_000, 200_000])
def test_a_file_that_may_not_grow(tmp_path: Path, limit: int) -> None:
    processor = BatchProcessor(tmp_path)
    job = processor.create_job("m", [f"prompt {i}" for i in range(200)])
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(job.checkpoint_file), str(limit)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    count, sentence = done.stdout.strip().split(" ", 1)
    assert "No space left" in sentence or "The disk failed" in sentence
    found, results = processor.load_checkpoint(job.checkpoint_file)  # type: ignore[arg-type]
    assert int(count) <= len(results) < 200 and found.status in ("pending", "running")
    final = processor.process_batch(found, str.upper)
    assert len(final) == 200 and final[: len(results)] == results


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[tuple[BatchProcessor, Path]]:
    """A folder with a half done job, a fresh one and a killed one's log, and no right to write there."""
    processor = BatchProcessor(tmp_path / "checkpoints")
    job = processor.create_job("m", ["a", "b", "c"])
    processor.process_batch(job, lambda p: p if p == "a" else 1 / 0, None, "stop")
    folder = processor.checkpoint_dir
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root:
        if not mounted(folder, "--bind", str(folder)) or not mounted(folder, "-o", "remount,bind,ro"):
            subprocess.run(["umount", "-l", str(folder)], capture_output=True)
            pytest.skip("root writes everywhere, and may not mount here")
    elif os.name != "posix":
        pytest.skip("folder rights")
    else:
        folder.chmod(0o500)
    try:
        yield processor, folder
    finally:
        if root:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        else:
            folder.chmod(0o700)


def test_a_read_only_folder_is_read_and_not_run(read_only: tuple[BatchProcessor, Path]) -> None:
    processor, folder = read_only
    (line,) = processor.list_checkpoints()
    assert (line["completed"], line["failed"], line["status"]) == (1, 1, "failed")
    job, results = processor.load_checkpoint(line["file"])
    assert len(results) == 2 and list(job.prompts) == ["a", "b", "c"]
    with pytest.raises(CheckpointError, match="Cannot write"):
        processor.process_batch(job, str, retry_failed=True)
    with pytest.raises(CheckpointError, match="Cannot write"):
        processor.create_job("m", ["c"])
    assert len(list(folder.iterdir())) == 1
