"""What a person says of a job, and jobs thrown away and taken back."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.checkpoint import JobLock, list_jobs
from batch.checkpoint.about import About, about_path, read_about, tags_of, write_about
from batch.checkpoint.schema import connect
from batch.checkpoint.trash import FOLDER, KEPT_DAYS, in_trash, take_back, throw_away
from batch.errors import CheckpointError
from batch.processor import BatchProcessor


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A job."""
    made = BatchProcessor(tmp_path).create_job("demo", ["a", "b"]).checkpoint_file
    assert made is not None
    return made


def test_what_is_said_is_kept_beside_the_job(path: Path) -> None:
    assert read_about(path) == About()
    write_about(path, About("日本語 \x1b[31m", ("b", "a"), "line\nline"))
    assert read_about(path).tags == ("a", "b") and read_about(path).note == "line\nline"
    (info,) = list_jobs(path.parent)
    assert info.about == read_about(path)
    write_about(path, About())
    assert not about_path(path).exists()


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"name": 1, "tags": 3, "note": ""}', b"9" * 5000])
def test_a_file_that_is_none_of_ours_says_nothing(path: Path, data: bytes) -> None:
    about_path(path).write_bytes(data)
    assert read_about(path) == About()


@given(st.text())
def test_tags_are_words(text: str) -> None:
    try:
        tags = tags_of(text)
    except ValueError:
        return
    assert list(tags) == sorted(set(tags)) and all(tag and not set(tag) & set(" ,\n\t") for tag in tags)
    assert tags_of(" ".join(tags)) == tags


def test_a_job_goes_to_the_trash_whole_and_comes_back(path: Path) -> None:
    write_about(path, About("mine"))
    path.with_suffix(".log").write_text("log")
    before = {file.name: file.read_bytes() for file in path.parent.iterdir() if file.suffix != ".lock"}
    there = throw_away(path)
    assert not list_jobs(path.parent) and in_trash(path.parent) == [there]
    assert {file.name for file in path.parent.iterdir()} == {FOLDER}
    assert take_back(there) == path and not in_trash(path.parent)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file()} == before
    with pytest.raises(CheckpointError, match="not in the trash"):
        take_back(there)


def test_a_job_of_a_json_file_goes_to_the_trash_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "batch_old.json"
    path.write_text("{}")
    there = throw_away(path)
    assert in_trash(tmp_path) == [there] and not path.exists()
    assert take_back(there) == path and path.read_text() == "{}"


def test_never_onto_another_job_and_not_while_it_runs(path: Path) -> None:
    lock = JobLock(path)
    lock.acquire()
    with pytest.raises(CheckpointError, match="is being run"):
        throw_away(path)
    lock.release()
    there = throw_away(path)
    path.write_bytes(b"another")
    with pytest.raises(CheckpointError, match="is there already"):
        take_back(there)
    assert path.read_bytes() == b"another" and there.exists()


def test_what_was_thrown_away_long_ago_goes_for_good(path: Path) -> None:
    other = BatchProcessor(path.parent).create_job("demo", ["c"]).checkpoint_file
    assert other is not None
    write_about(path, About("old"))
    there = throw_away(path)
    then = time.time() - (KEPT_DAYS + 1) * 86400
    os.utime(there, (then, then))
    kept = throw_away(other)
    assert in_trash(path.parent) == [kept]


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("form", ["db", "json"])
@pytest.mark.parametrize("way", [throw_away, take_back])
def test_killed_at_any_step_of_a_move_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path], Path], form: str
) -> None:
    step = 0
    whole = False
    while not whole:
        folder = tmp_path / str(step)
        path = _killed_run(folder, form)
        start = throw_away(path) if way is take_back else path
        whole = _moved(monkeypatch, way, start, dies_after=step)
        found = [*list_jobs(folder), *list_jobs(folder / FOLDER)] if (folder / FOLDER).exists() else list_jobs(folder)
        assert {info.completed for info in found} == {2}, f"killed after {step} renames"
        if start.exists():
            way(start)
        there = in_trash(folder)
        if there:
            take_back(there[0])
        assert list_jobs(folder)[0].completed == 2 and not in_trash(folder)
        assert path.with_suffix(".log").read_text() == "log" and read_about(path).name == "mine"
        step += 1
    assert step > 2


def _killed_run(folder: Path, form: str) -> Path:
    """A job with two answers, which stand in the log of a process that was killed."""
    folder.mkdir()
    made = BatchProcessor(folder / "made").create_job("demo", ["a", "b", "c"]).checkpoint_file
    assert made is not None
    with closing(connect(made, "write")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("UPDATE job SET completed = 2")
        for file in made.parent.iterdir():
            if file.suffix in (".db", ".db-wal"):
                shutil.copy(file, folder)  # as it stands on the disk now
    path = folder / made.name
    if form == "json":  # it began as one
        path.with_suffix(".json").write_text("{}")
    path.with_suffix(".log").write_text("log")
    write_about(path, About("mine"))
    old = time.time() - (KEPT_DAYS + 1) * 86400
    os.utime(path, (old, old))
    return path


def _moved(monkeypatch: pytest.MonkeyPatch, way: Callable[[Path], Path], path: Path, *, dies_after: int) -> bool:
    """Whether it came to its end before it was killed."""
    real, done = Path.replace, 0

    def replace(self: Path, target: Path) -> Path:
        nonlocal done
        if done == dies_after:
            raise Killed
        done += 1
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        try:
            way(path)
        except Killed:
            return False
    return True
