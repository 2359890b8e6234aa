"""The file format of a checkpoint: SQLite, WAL, application id `AIRB`, format 1.

`job` holds one row that is updated in the same transaction as the results it counts. `results` is kept slim, so that
counting and resuming read little; texts stand in `answers`. Item ids are the prompt indexes 0 … total-1.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from batch.errors import CheckpointError

APPLICATION_ID = 0x41495242  # "AIRB"
FORMAT = 1
BUSY_SECONDS = 10.0

Mode = Literal["snapshot", "read", "write"]
# What reading a damaged file may raise; SQLite quotes the damage in its messages, and it may be no UTF-8.
FAULTS = (sqlite3.Error, UnicodeDecodeError)

TABLES = """
CREATE TABLE job (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    job_id TEXT NOT NULL, model_id TEXT NOT NULL, total INTEGER NOT NULL,
    completed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL, created_at TEXT NOT NULL, started_at TEXT, completed_at TEXT, updated_at TEXT NOT NULL,
    tokens_input INTEGER NOT NULL DEFAULT 0, tokens_output INTEGER NOT NULL DEFAULT 0,
    elapsed REAL NOT NULL DEFAULT 0, reason TEXT, config TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE items (id INTEGER PRIMARY KEY, text TEXT NOT NULL, extra TEXT);
CREATE TABLE results (
    id INTEGER PRIMARY KEY, success INTEGER NOT NULL, tokens_input INTEGER NOT NULL, tokens_output INTEGER NOT NULL,
    duration REAL NOT NULL, attempts INTEGER NOT NULL, error_class TEXT
);
CREATE TABLE answers (id INTEGER PRIMARY KEY, text TEXT NOT NULL, error TEXT, extra TEXT);
CREATE INDEX failures ON results (id) WHERE success = 0;
CREATE TABLE control (id INTEGER PRIMARY KEY AUTOINCREMENT, command TEXT NOT NULL, value TEXT);
"""

UPSERT_RESULT = """
INSERT INTO results (id, success, tokens_input, tokens_output, duration, attempts, error_class)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET success = excluded.success, tokens_input = excluded.tokens_input,
    tokens_output = excluded.tokens_output, duration = excluded.duration,
    attempts = attempts + excluded.attempts, error_class = excluded.error_class
"""
UPSERT_ANSWER = """
INSERT INTO answers (id, text, error, extra) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET text = excluded.text, error = excluded.error, extra = excluded.extra
"""
UPDATE_JOB = """
UPDATE job SET completed = ?, failed = ?, status = ?, started_at = ?, completed_at = ?, updated_at = ?,
    tokens_input = ?, tokens_output = ?, elapsed = ?, reason = ?, model_id = ?, config = ?
"""


def connect(path: Path, mode: Mode = "read") -> sqlite3.Connection:
    """Open a checkpoint, checking that it is one. Autocommit; every statement says its own transaction.

    `snapshot` reads a file that nobody has open as immutable, which is fast but blind to later changes.
    """
    if not path.is_file():
        raise CheckpointError(f"Checkpoint not found: {path}")
    write = mode == "write"
    options = "mode=rw"
    if not write:
        logged = _has_log(path)
        # Without the right to make a log beside it, WAL mode can only be read as immutable.
        if (mode == "snapshot" and not logged) or not os.access(path.parent, os.W_OK):
            options = "mode=ro" if logged else "mode=ro&immutable=1"
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{options}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID:
            raise CheckpointError(f"Damaged checkpoint {path}: the file is not a checkpoint")
        if version != FORMAT:
            raise CheckpointError(f"{path} has checkpoint format {version}; this version reads format {FORMAT}")
        if write:
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: a commit is on the disk before it is counted, a power cut takes nothing back.
            connection.execute("PRAGMA synchronous = FULL")
        else:
            connection.execute("PRAGMA query_only = ON")
    except (*FAULTS, CheckpointError) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, CheckpointError):
            raise
        raise damaged(path, error) from error
    return connection


def _has_log(path: Path) -> bool:
    return any(os.path.exists(f"{path}{suffix}") for suffix in ("-wal", "-shm"))


def damaged(path: Path, error: Exception) -> CheckpointError:
    """An error of SQLite, or in what it is given, as one sentence."""
    if isinstance(error, UnicodeDecodeError):
        return CheckpointError(f"Damaged checkpoint {path}: {error}")
    if not isinstance(error, sqlite3.Error):
        return CheckpointError(f"Cannot write checkpoint {path}: {type(error).__name__}: {error}")
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return CheckpointError(f"Checkpoint {path} is busy: another program holds it")
    if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
        return CheckpointError(f"No space left on the disk of {path}; free some and resume")
    if isinstance(error, sqlite3.OperationalError) and "readonly" in str(error):
        return CheckpointError(f"Checkpoint {path} cannot be written: no permission")
    if isinstance(error, sqlite3.OperationalError) and ("disk I/O" in str(error) or "unable to open" in str(error)):
        return CheckpointError(f"The disk failed on checkpoint {path}: {error}")
    return CheckpointError(f"Damaged checkpoint {path}: {error}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def create_file(path: Path) -> closing[sqlite3.Connection]:
    """A new, empty checkpoint file for bulk loading: no journal, as it is renamed into place when whole."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(TABLES)
    return closing(connection)
