"""Files of format 1, which commit f4d99c1 wrote: read as they are, brought up to date where they are written."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from batch import BatchProcessor
from batch.checkpoint import CheckpointStore, list_jobs, migrations, schema
from batch.errors import CheckpointError

OLD = Path(__file__).parent / "format1"
NAMES = ("finished", "half", "killed", "pending")
ROOT = Path(__file__).parents[2]

# Dies before the nth statement that the migration makes; prints how many there were when it lives.
KILLED = """
import os, sqlite3, sys
from pathlib import Path
from batch.checkpoint import migrations, schema

class Dying(sqlite3.Connection):
    left = int(sys.argv[2])
    def execute(self, sql, *parameters):
        if sys._getframe(1).f_globals["__name__"] == migrations.__name__:
            if Dying.left == 0:
                os._exit(9)
            Dying.left -= 1
        return super().execute(sql, *parameters)

connect = sqlite3.connect
schema.sqlite3.connect = lambda *a, **k: connect(*a, **k, factory=Dying)
schema.connect(Path(sys.argv[1]), "write").close()
print(int(sys.argv[2]) - Dying.left)
"""


def old(folder: Path, *names: str) -> list[Path]:
    """Copies of the old files."""
    for file in OLD.iterdir():
        if file.name.split(".")[0].removeprefix("batch_") in (names or NAMES):
            shutil.copy(file, folder)
    return sorted(folder.glob("batch_*.db"))


def number(path: Path) -> int:
    """The file's format."""
    with sqlite3.connect(path) as connection:
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return found


def read(path: Path) -> tuple[object, ...]:
    """All that a reader sees."""
    with CheckpointStore(path) as store:
        job = store.job(recount=True)
        shown = (job.job_id, job.model_id, job.asked_model, job.total_prompts, job.completed, job.failed, job.status)
        rest = (job.created_at, job.config, job.cost, job.cost_unknown, job.with_provider, list(job.prompts))
        done = bytes(store.done_map(job.total_prompts))
        return (*shown, *rest, done, store.results(), store.requests(range(job.total_prompts)), store.answered_by())


@pytest.mark.parametrize("name", NAMES)
def test_an_old_file_is_read_as_it_is_and_reads_the_same_when_it_is_brought_up_to_date(
    tmp_path: Path, name: str
) -> None:
    (path,) = old(tmp_path, name)
    before = read(path)
    list_jobs(tmp_path)
    assert number(path) == 1
    schema.connect(path, "write").close()
    assert number(path) == schema.FORMAT and read(path) == before
    with CheckpointStore(path) as store:
        store.verify()


def test_an_old_job_goes_on_and_its_answers_are_nobodys_else(tmp_path: Path) -> None:
    (path,) = old(tmp_path, "half")
    processor = BatchProcessor(tmp_path)
    job, before = processor.load_checkpoint(path)
    assert job.status == "failed" and len(before) == 3
    assert before[1].extra is not None and before[1].extra["big"] == 2**70
    with CheckpointStore(path) as store:
        assert store.request(1).params == {"seed": 2**70 + 1}
    job.model_id = "big-model"
    results = processor.process_batch(job, str.upper)
    assert results[:3] == before and [r.model for r in results] == [None] * 3 + ["big-model"] * 5
    with CheckpointStore(path) as store:
        again = store.job(recount=True)
        assert (again.model_id, again.asked_model, store.plan().model_id) == ("big-model", "small-model", "small-model")
        assert store.answered_by() == {"big-model": 5, None: 3} and again.cost_unknown == 8
    assert number(path) == schema.FORMAT


def test_a_new_file_and_an_old_one_brought_up_to_date_have_the_same_tables(tmp_path: Path) -> None:
    (path,) = old(tmp_path, "finished")
    schema.connect(path, "write").close()
    fresh = BatchProcessor(tmp_path).create_job("m", ["x"]).checkpoint_file
    shapes = []
    for file in (path, fresh):
        connection = sqlite3.connect(file)  # type: ignore[arg-type]
        names = [n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")]
        shapes.append({n: sorted(r[1:] for r in connection.execute(f"PRAGMA table_xinfo({n})")) for n in names})
        connection.close()
    assert shapes[0] == shapes[1]


def test_killed_at_every_statement(tmp_path: Path) -> None:
    """A kill leaves the old format or the new one, and the next opening ends what was begun."""
    (whole,) = old(tmp_path, "half")
    good = read(whole)

    def run(path: Path, after: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", KILLED, str(path), str(after)], capture_output=True, text=True, cwd=ROOT
        )

    folder = tmp_path / "all"
    folder.mkdir()
    count = int(run(Path(shutil.copy(whole, folder)), 10_000).stdout)
    assert count > 20
    for after in range(0, count, 3):
        path = Path(shutil.copy(whole, tmp_path / f"batch_{after}.db"))
        assert run(path, after).returncode == 9
        assert number(path) == 1 and read(path) == good
        schema.connect(path, "write").close()
        assert number(path) == schema.FORMAT and read(path) == good


def test_two_at_once(tmp_path: Path) -> None:
    (path,) = old(tmp_path, "half")
    good = read(path)
    errors: list[BaseException] = []
    gate = threading.Barrier(4)

    def open_it() -> None:
        try:
            gate.wait()
            schema.connect(path, "write").close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and number(path) == schema.FORMAT and read(path) == good


def test_a_reader_that_was_there_before_sees_what_comes_after(tmp_path: Path) -> None:
    (path,) = old(tmp_path, "half")
    with CheckpointStore(path) as store:
        before = store.results()
        schema.connect(path, "write").close()
        assert store.results() == before and store.job().total_prompts == 8


def test_a_newer_format_is_refused_in_words_and_a_message_to_a_runner_changes_no_format(tmp_path: Path) -> None:
    (path,) = old(tmp_path, "finished")
    with CheckpointStore(path) as store:
        store.send("pause")
    assert number(path) == 1
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    before = path.read_bytes()
    for mode in ("snapshot", "read", "write"):
        with pytest.raises(CheckpointError, match=r"has checkpoint format 3: a newer version wrote it"):
            schema.connect(path, mode)  # type: ignore[arg-type]
    assert [p for p, _ in list_jobs(tmp_path).skipped] == [path] and path.read_bytes() == before


def test_a_disk_that_is_full_in_the_middle_leaves_the_old_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = old(tmp_path, "half")
    good = read(path)

    def full(connection: sqlite3.Connection) -> None:
        migrations.answers_of_many_models(connection)
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setitem(migrations.STEPS, 1, full)
        with pytest.raises(CheckpointError, match="No space left"):
            schema.connect(path, "write")
        with pytest.raises(CheckpointError, match="No space left"):
            BatchProcessor(tmp_path).process_batch(BatchProcessor(tmp_path).open_job(path), str)
    assert number(path) == 1 and read(path) == good and not list(tmp_path.glob("*.lock"))
