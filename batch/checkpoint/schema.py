"""The file format of a checkpoint: SQLite, WAL, application id `AIRB`, format 2.

`plan` holds one row that is never changed: the job as it was asked for. `job` holds one row that is updated in the same
transaction as the results it counts. `results` is kept slim, so that counting and resuming read little; texts stand in
`answers`, names of models in `models` (`model` is a number elsewhere). `attempts` are tries that are not the result:
retried or superseded. `submissions` are groups of items handed to a provider, `held` the items of the open ones.
Item ids are the prompt indexes 0 … total-1; costs are whole billionths of a dollar, NULL is unknown.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal

from batch.checkpoint import migrations
from batch.errors import CheckpointError, DiskError, checkpoint_error

APPLICATION_ID = 0x41495242  # "AIRB"
FORMAT = 2
BUSY_SECONDS = 10.0

IMMUTABLE = "mode=ro&immutable=1"

Mode = Literal["snapshot", "read", "write"]
# What reading a damaged file may raise; SQLite quotes the damage in its messages, and it may be no UTF-8.
FAULTS = (sqlite3.Error, UnicodeDecodeError)

TABLES = f"""
CREATE TABLE job (
    id INTEGER PRIMARY KEY CHECK (id = 1), model_id TEXT NOT NULL,
    completed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL, started_at TEXT, completed_at TEXT, updated_at TEXT NOT NULL,
    tokens_input INTEGER NOT NULL DEFAULT 0, tokens_output INTEGER NOT NULL DEFAULT 0,
    elapsed REAL NOT NULL DEFAULT 0, reason TEXT, config TEXT NOT NULL DEFAULT '{{}}',
    cost INTEGER NOT NULL DEFAULT 0, cost_unknown INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE items (
    id INTEGER PRIMARY KEY, text TEXT NOT NULL, extra TEXT, model INTEGER, reason TEXT, columns TEXT
);
CREATE TABLE results (
    id INTEGER PRIMARY KEY, success INTEGER NOT NULL, tokens_input INTEGER NOT NULL, tokens_output INTEGER NOT NULL,
    duration REAL NOT NULL, attempts INTEGER NOT NULL, error_class TEXT, model INTEGER, cost INTEGER,
    tokens_cached INTEGER NOT NULL DEFAULT 0, tokens_reasoning INTEGER NOT NULL DEFAULT 0,
    units INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE answers (id INTEGER PRIMARY KEY, text TEXT NOT NULL, error TEXT, extra TEXT);
CREATE INDEX failures ON results (id) WHERE success = 0;
CREATE TABLE control (id INTEGER PRIMARY KEY AUTOINCREMENT, command TEXT NOT NULL, value TEXT);
{migrations.FORMAT_2}
"""

# The names of a row to be written: those that differ from row to row, those that seldom do, and then its model comes,
# as a number.
RESULT_COLUMNS = ("id", "tokens_input", "tokens_output", "duration")
RESULT_REST = ("success", "attempts", "error_class", "cost", "cached", "reasoning", "units")
INSERT_RESULT = """
INSERT INTO results (id, tokens_input, tokens_output, duration, success, attempts, error_class, cost,
    tokens_cached, tokens_reasoning, units, model)
"""
REPLACE_RESULT = """
ON CONFLICT (id) DO UPDATE SET success = excluded.success, tokens_input = excluded.tokens_input,
    tokens_output = excluded.tokens_output, duration = excluded.duration,
    attempts = attempts + excluded.attempts, error_class = excluded.error_class, model = excluded.model,
    cost = excluded.cost, tokens_cached = excluded.tokens_cached, tokens_reasoning = excluded.tokens_reasoning,
    units = excluded.units
"""
INSERT_ANSWER = "INSERT INTO answers (id, text, error, extra)"
REPLACE_ANSWER = """
ON CONFLICT (id) DO UPDATE SET text = excluded.text, error = excluded.error, extra = excluded.extra
"""
# A result that is about to be replaced was a try too, and was paid for.
KEEP_SUPERSEDED = """
INSERT INTO attempts (item, attempt, model, error_class, error, tokens_input, tokens_output, tokens_cached, cost,
    duration, at)
SELECT r.id, r.attempts, r.model, r.error_class, a.error, r.tokens_input, r.tokens_output, r.tokens_cached, r.cost,
    r.duration, ? FROM results r LEFT JOIN answers a ON a.id = r.id WHERE r.id = ?
"""
INSERT_ATTEMPT = """
INSERT INTO attempts (item, attempt, model, error_class, error, tokens_input, tokens_output, tokens_cached, cost,
    duration, at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
UPDATE_JOB = """
UPDATE job SET completed = ?, failed = ?, status = ?, started_at = ?, completed_at = ?, updated_at = ?,
    tokens_input = ?, tokens_output = ?, elapsed = ?, reason = ?, model_id = ?, config = ?, cost = ?, cost_unknown = ?
"""


def connect(path: Path, mode: Mode = "read", *, upgrade: bool = True) -> sqlite3.Connection:
    """Open a checkpoint, checking that it is one. Autocommit; every statement says its own transaction.

    `snapshot` reads a file that nobody has open as immutable, which is fast but blind to later changes. A file of an
    older format is brought up to date where it is opened to `write` (whoever does so holds the job's lock), and is read
    as it is otherwise; without `upgrade` it is written as it is.
    """
    return opened(path, mode, upgrade=upgrade)[0]


def opened(path: Path, mode: Mode = "read", *, upgrade: bool = True) -> tuple[sqlite3.Connection, int]:
    """As `connect`, with the file's format."""
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):  # the log stands beside the file, not beside a link to it
            path = Path(os.path.realpath(path))
            found = os.lstat(path)
    except (OSError, ValueError):
        found = None
    if found is None or not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"Checkpoint not found: {path}")
    write = mode == "write"
    options = "mode=rw" if write else _reading(path, mode, alone=found.st_nlink == 1)
    head = _head(path) if options == IMMUTABLE else None
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{options}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        application, version = head or [
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        ]
        if application != APPLICATION_ID:
            raise CheckpointError(f"Damaged checkpoint {path}: the file is not a checkpoint")
        _check_format(path, version)
        if write:
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: a commit is on the disk before it is counted, a power cut takes nothing back.
            connection.execute("PRAGMA synchronous = FULL")
            if upgrade and version < FORMAT:
                migrations.migrate(connection, FORMAT)
                version = FORMAT
        elif options != IMMUTABLE:
            connection.execute("PRAGMA query_only = ON")
    except (*FAULTS, CheckpointError) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, CheckpointError):
            raise
        raise damaged(path, error) from error
    return connection, version


def _reading(path: Path, mode: Mode, *, alone: bool) -> str:
    """How a file is opened to be read; `alone` says that it has no other name."""
    logged = _has_log(path)
    # Without the right to make a log beside it, WAL mode can only be read as immutable; and a file that is written
    # under another of its names has its log there.
    if (not logged and (mode == "snapshot" or not alone)) or not os.access(path.parent, os.W_OK):
        return "mode=ro" if logged else IMMUTABLE
    return "mode=rw"


def _head(path: Path) -> tuple[int, int] | None:
    """Application id and format as the first bytes of a file say, which has no log that knows better.

    None where it is no database. To ask SQLite for them takes as long as to read the job's row, in a listing of many.
    """
    with suppress(OSError), open(path, "rb") as file:
        head = file.read(100)
        if len(head) == 100 and head.startswith(b"SQLite format 3\0"):
            return int.from_bytes(head[68:72], "big", signed=True), int.from_bytes(head[60:64], "big", signed=True)
    return None


def _check_format(path: Path, version: int) -> None:
    if version > FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {version}: a newer version wrote it; this version reads format {FORMAT}"
        )
    if version < migrations.OLDEST:
        raise CheckpointError(f"Damaged checkpoint {path}: there is no checkpoint format {version}")


def _has_log(path: Path) -> bool:
    return any(os.path.exists(f"{path}{suffix}") for suffix in ("-wal", "-shm"))


def damaged(path: Path, error: Exception) -> CheckpointError:
    """An error of SQLite, or in what it is given, as one sentence."""
    if isinstance(error, UnicodeDecodeError):
        return CheckpointError(f"Damaged checkpoint {path}: {error}")
    if isinstance(error, OSError):
        return checkpoint_error(f"Cannot write checkpoint {path}", error)
    if not isinstance(error, sqlite3.Error):
        return CheckpointError(f"Cannot write checkpoint {path}: {type(error).__name__}: {error}")
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return CheckpointError(f"Checkpoint {path} is busy: another program holds it")
    if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
        return DiskError(f"No space left on the disk of {path}; free some and resume")
    if isinstance(error, sqlite3.OperationalError) and "readonly" in str(error):
        return CheckpointError(f"Checkpoint {path} cannot be written: no permission")
    if isinstance(error, sqlite3.OperationalError) and ("disk I/O" in str(error) or "unable to open" in str(error)):
        return DiskError(f"The disk failed on checkpoint {path}: {error}")
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
