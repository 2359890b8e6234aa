"""What each format writes, to the byte, and where it is never written."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.errors import ExportError
from batch.export import FORMATS, default_output, export, export_beside, is_checkpoint
from batch.job import BatchJob, BatchResult, JobStatus

GOLDEN = Path(__file__).parent / "golden"
FIELDS = (
    "prompt_index",
    "prompt",
    "response_text",
    "tokens_input",
    "tokens_output",
    "duration",
    "success",
    "error_message",
)


def make_job(**changes: Any) -> BatchJob:
    values: dict[str, Any] = {
        "job_id": "abc123de",
        "model_id": "demo",
        "prompts": ["a", "b", "c", "d", "e"],
        "total_prompts": 5,
        "completed": 4,
        "failed": 1,
        "status": JobStatus.COMPLETED,
        "started_at": "2026-01-02T03:04:05.000006",
        "completed_at": "2026-01-02T03:05:00",
        "created_at": "2026-01-02T03:04:05+00:00",
    }
    return BatchJob(**{**values, **changes})


def make_results() -> list[BatchResult]:
    return [
        BatchResult(0, "Explain linked lists", "A linked list is…", 10, 150, 2.5, extra={"finish_reason": "length"}),
        BatchResult(1, "=1+1", '+ "quoted", with a comma\nand a second line', 8, 200, 3.204, custom_id="mine-1"),
        BatchResult(2, "日本語 🎉", "\x1b[31mred\x1b[0m\x1b]52;c;aGk=\x07 [bold]x[/] \u202eabc \0 \ud800", 1, 2, 0.001),
        BatchResult(
            3,
            "-5 degrees",
            "",
            3,
            0,
            0.25,
            False,
            "@timed out",
            error_class="transient",
            attempts=3,
            custom_id="mine-3",
        ),
        BatchResult(4, "x" * 30, "\r\n\ttab first", 0, 0, 0.0),
    ]


CASES = [
    ("json", "batch.json", {}),
    ("csv", "batch.csv", {}),
    ("csv", "clipped.csv", {"clip": 10, "inert_csv": False}),
    ("jsonl", "batch.jsonl", {}),
    ("openai", "batch.openai.jsonl", {}),
]


@pytest.mark.parametrize(("format_", "name", "options"), CASES)
def test_golden_bytes(tmp_path: Path, format_: str, name: str, options: dict[str, Any]) -> None:
    output = tmp_path / name
    assert export(make_job(), iter(make_results()), output, format_, **options) == 5
    assert output.read_bytes() == (GOLDEN / name).read_bytes()
    assert os.listdir(tmp_path) == [name]


def document(job: BatchJob, results: list[BatchResult]) -> dict[str, Any]:
    """The reference's document, written without any of the code under test."""
    return {
        "job": {
            "job_id": job.job_id,
            "model_id": job.model_id,
            "total_prompts": job.total_prompts,
            "completed": job.completed,
            "failed": job.failed,
            "status": job.status,
            "started_at": job.started_at,
            "completed_at": job.completed_at,
        },
        "results": [{name: getattr(result, name) for name in FIELDS} for result in results],
        "summary": {
            "total": job.total_prompts,
            "completed": job.completed,
            "failed": job.failed,
            "success_rate": job.completed / job.total_prompts * 100 if job.total_prompts else 0.0,
        },
    }


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
RESULTS = st.lists(
    st.builds(
        BatchResult,
        prompt_index=st.integers(0, 10**9),
        prompt=TEXT,
        response_text=TEXT,
        tokens_input=st.integers(0, 10**6),
        tokens_output=st.integers(0, 10**6),
        duration=st.floats(0, 1e9) | st.integers(0, 10),
        success=st.booleans(),
        error_message=st.none() | TEXT,
        custom_id=st.none() | TEXT,
    ),
    max_size=4,
)
FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FAST
@given(RESULTS, TEXT, st.integers(0, 9), st.none() | TEXT)
def test_json_is_what_json_dumps_writes(
    tmp_path: Path, results: list[BatchResult], model: str, total: int, started: str | None
) -> None:
    job = make_job(model_id=model, total_prompts=total, started_at=started)
    export(job, results, tmp_path / "out.json")
    expected = json.dumps(document(job, results), indent=2, ensure_ascii=False)
    assert (tmp_path / "out.json").read_bytes() == expected.encode()


@FAST
@given(RESULTS)
def test_csv_parses_back(tmp_path: Path, results: list[BatchResult]) -> None:
    output = tmp_path / "out.csv"
    export(make_job(), results, output, "csv", inert_csv=False)
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["prompt"], r["response"], r["error"]) for r in rows] == [
        (r.prompt, r.response_text, r.error_message or "") for r in results
    ]


@FAST
@given(RESULTS)
def test_no_cell_is_a_formula_and_no_number_is_marked(tmp_path: Path, results: list[BatchResult]) -> None:
    output = tmp_path / "out.csv"
    export(make_job(), results, output, "csv")
    with output.open(encoding="utf-8", newline="") as file:
        for row, result in zip(csv.DictReader(file), results, strict=True):
            for name in ("prompt", "response", "error"):
                assert not row[name].lstrip("\t\r\n\0").startswith(("=", "+", "-", "@"))
            assert row["index"] == str(result.prompt_index)
            assert row["duration"] == f"{result.duration:.2f}"


@FAST
@given(RESULTS)
def test_jsonl_has_one_object_a_line(tmp_path: Path, results: list[BatchResult]) -> None:
    for format_ in ("jsonl", "openai"):
        output = tmp_path / "out.jsonl"
        assert export(make_job(), results, output, format_) == len(results)
        lines = [json.loads(line) for line in output.read_bytes().split(b"\n")[:-1]]
        assert len(lines) == len(results)
    ids = [result.custom_id for result in results]
    assert [line["custom_id"] for line in lines] == [
        f"request-{r.prompt_index}" if custom_id is None else custom_id
        for r, custom_id in zip(results, ids, strict=True)
    ]


def test_openai_ids_are_the_same_every_time_and_never_shared(tmp_path: Path) -> None:
    def ids(job: BatchJob) -> list[str]:
        export(job, make_results(), tmp_path / "o", "openai")
        return [json.loads(line)["id"] for line in (tmp_path / "o").read_text().splitlines()]

    assert ids(make_job()) == ids(make_job())
    assert len({*ids(make_job()), *ids(make_job(job_id="other"))}) == 10


def test_a_long_answer_is_whole(tmp_path: Path) -> None:
    result = BatchResult(0, "p" * 1_000_000, "r" * 1_000_000)
    for format_ in FORMATS:
        export(make_job(), [result], tmp_path / "o", format_)
        assert "r" * 1_000_000 in (tmp_path / "o").read_text()


def test_results_are_streamed(tmp_path: Path) -> None:
    import tracemalloc

    def results() -> Iterator[BatchResult]:
        for index in range(3000):
            yield BatchResult(index, "p" * 1000, "r" * 1000)

    for format_ in FORMATS:
        tracemalloc.start()
        assert export(make_job(), results(), tmp_path / "o", format_) == 3000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2_000_000


def test_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdout:
        buffer = io.BytesIO()

    monkeypatch.setattr("sys.stdout", Stdout)
    assert export(make_job(), make_results(), "-", "jsonl") == 5
    assert Stdout.buffer.getvalue() == (GOLDEN / "batch.jsonl").read_bytes()


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "hint"), [("xyz", ""), ("jsn", " (did you mean json?)"), ("CSV2", "")])
def test_unknown_format(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(ValueError) as caught:
        export(make_job(), [], tmp_path / "o", name)
    assert str(caught.value) == f"Unsupported format: {name}; use one of json, csv, jsonl, openai, html{hint}"
    assert not list(tmp_path.iterdir())


def test_clip_must_leave_something(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="clip"):
        export(make_job(), [], tmp_path / "o", "csv", clip=0)


def refused(output: Path, **options: Any) -> str:
    before = output.read_bytes() if output.is_file() else None
    with pytest.raises(ExportError) as caught:
        export(make_job(**options.pop("job", {})), make_results(), output, **options)
    assert (output.read_bytes() if output.is_file() else None) == before
    assert not list(output.parent.glob(".*.tmp")) if output.parent.is_dir() else True
    return str(caught.value)


def test_never_onto_a_checkpoint(tmp_path: Path) -> None:
    database = tmp_path / "whatever.bin"
    connection = sqlite3.connect(database)
    connection.execute("create table t (x)")
    connection.commit()
    connection.close()
    assert "is a checkpoint" in refused(database)

    old = tmp_path / "batch_abc123de.json"
    job = {"job_id": "abc123de", "prompts": ["a"], "total_prompts": 1}
    old.write_text(json.dumps({"job": job, "results": [], "timestamp": "2026-01-01"}, indent=2))
    assert "is a checkpoint" in refused(old)

    link = tmp_path / "link.json"
    link.symlink_to(old)
    assert "is a checkpoint" in refused(link)

    for name in ("batch_x.db", "batch_x.db-wal", "batch_x.db-shm", "batch_x.lock", "batch_x.db.lock"):
        assert "is a checkpoint" in refused(tmp_path / name)
    mine = tmp_path / "other.json"
    mine.write_text("{}")
    assert "in use by this job" in refused(mine, forbidden=[mine])
    assert "in use by this job" in refused(tmp_path / "new.json", job={"checkpoint_file": tmp_path / "new.json"})


def test_an_export_that_talks_of_checkpoints_is_no_checkpoint(tmp_path: Path) -> None:
    output = tmp_path / "o.json"
    trap = '{"job": {"prompts": []}, "results": [], "timestamp": 1}'
    for _ in range(2):  # the second time onto the first
        assert export(make_job(), [BatchResult(0, trap, trap)], output) == 1


def test_folders_and_files_in_the_way(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)
    (tmp_path / "file").write_text("x")
    assert "is a file, not a folder" in refused(tmp_path / "file" / "deep" / "o.json")
    assert export(make_job(), make_results(), tmp_path / "new" / "deep" / "o.json") == 5
    assert "no name for a file" in refused(Path("a\0b"))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "No permission to write"),
        (OSError(errno.EROFS, "Read-only file system"), "read-only"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, says: str
) -> None:
    output = tmp_path / "o.json"
    output.write_text("before")

    def refuse(*args: object) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", refuse)
    assert says in refused(output)
    assert os.listdir(tmp_path) == ["o.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_failure_halfway_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    output = tmp_path / "o.json"
    output.write_text("before")

    def results() -> Iterator[BatchResult]:
        yield from make_results() * 1000
        raise error

    with pytest.raises(error):
        export(make_job(), results(), output)
    assert output.read_text() == "before"
    assert os.listdir(tmp_path) == ["o.json"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions and devices")
def test_permissions_links_and_devices(tmp_path: Path) -> None:
    old_mask = os.umask(0o022)
    try:
        export(make_job(), [], tmp_path / "new.json")
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE((tmp_path / "new.json").stat().st_mode) == 0o644
    (tmp_path / "new.json").chmod(0o640)
    (tmp_path / "link.json").symlink_to(tmp_path / "new.json")
    export(make_job(), make_results(), tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert stat.S_IMODE((tmp_path / "new.json").stat().st_mode) == 0o640
    assert export(make_job(), make_results(), Path("/dev/null")) == 5
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_default_output_never_hides_a_file(tmp_path: Path) -> None:
    job = make_job()
    assert default_output(job, "openai", tmp_path) == tmp_path / "batch_abc123de.openai.jsonl"
    for name in ("batch_abc123de.json", "batch_abc123de-2.json", "batch_abc123de-3.json"):
        path = default_output(job, "json", tmp_path)
        assert path == tmp_path / name
        export(job, [], path)
    job.checkpoint_file = tmp_path / "batch_abc123de.csv"
    assert default_output(job, "csv", tmp_path) == tmp_path / "batch_abc123de-2.csv"


@pytest.mark.parametrize("links", [True, False])
def test_exports_that_choose_the_same_name_at_the_same_moment_each_get_a_file(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", none)
    job, ready = make_job(), threading.Barrier(4)

    def write(number: int) -> tuple[Path, int]:
        first = True

        def results() -> Iterator[BatchResult]:
            nonlocal first
            if first:  # all have chosen a name, none has written
                first = False
                ready.wait(90)
            return iter(make_results()[: number + 1])

        return export_beside(job, results, "jsonl", tmp_path)

    with ThreadPoolExecutor(4) as pool:
        done = dict(pool.map(write, range(4)))
    assert len(done) == 4 and {len(path.read_text().splitlines()) for path in done} == {1, 2, 3, 4}
    assert sorted(tmp_path.iterdir()) == sorted(done)
    assert all(len(path.read_text().splitlines()) == count for path, count in done.items())


def test_a_checkpoint_is_known_wherever_its_keys_lie(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    for padding in (0, 1_048_560, 3_000_000):
        job = {"job_id": "x" * padding, "prompts": ["p" * padding]}
        path.write_text(json.dumps({"job": job, "results": [], "timestamp": "t"}))
        assert is_checkpoint(path)
        path.write_text(json.dumps({"job": job, "results": []}))
        assert not is_checkpoint(path)
