"""What a person says of a job, and jobs thrown away and taken back."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.checkpoint import JobLock, list_jobs
from batch.checkpoint.about import About, about_path, read_about, tags_of, write_about
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
