"""Checkpoints of older formats: brought up to date step by step where they are written, read as they are elsewhere.

A step is a function that changes a file of one format into the next; each runs in one transaction together with the
file's new number, so that a kill leaves one format or the other. Steps only ever add to this file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

Step = Callable[[sqlite3.Connection], None]

OLDEST = 1
STEPS: dict[int, Step] = {}  # the format that a step begins with -> the step


def step(begins: int) -> Callable[[Step], Step]:
    """Register the step from format `begins` to the next."""
    return lambda function: STEPS.setdefault(begins, function)


# What format 2 has and format 1 has not; new files get the same text (see schema.TABLES).
FORMAT_2 = """
CREATE TABLE plan (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    job_id TEXT NOT NULL, model_id TEXT NOT NULL, total INTEGER NOT NULL, created_at TEXT NOT NULL,
    config TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, item INTEGER NOT NULL, attempt INTEGER NOT NULL, model INTEGER,
    error_class TEXT, error TEXT, tokens_input INTEGER NOT NULL, tokens_output INTEGER NOT NULL,
    tokens_cached INTEGER NOT NULL, cost INTEGER, duration REAL NOT NULL, at TEXT NOT NULL
);
CREATE INDEX attempts_of ON attempts (item);
CREATE TABLE submissions (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, state TEXT NOT NULL, count INTEGER NOT NULL,
    lane TEXT NOT NULL DEFAULT '', remote_id TEXT, details TEXT NOT NULL DEFAULT '{}',
    created_at TEXT NOT NULL, submitted_at TEXT, settled_at TEXT
);
CREATE TABLE submission_items (
    submission INTEGER NOT NULL, position INTEGER NOT NULL, item INTEGER NOT NULL, PRIMARY KEY (submission, position)
) WITHOUT ROWID;
CREATE TABLE held (item INTEGER PRIMARY KEY, submission INTEGER NOT NULL);
"""


@step(1)
def answers_of_many_models(connection: sqlite3.Connection) -> None:
    """1 → 2: who an item is meant for and who answered, costs, tries, submissions; the plan apart from the state."""
    _script(connection, FORMAT_2)
    for change in (
        "INSERT INTO plan SELECT id, job_id, model_id, total, created_at, config FROM job",
        # Adding columns touches no row: a file of any size takes a moment.
        "ALTER TABLE items ADD COLUMN model INTEGER",
        "ALTER TABLE items ADD COLUMN reason TEXT",
        "ALTER TABLE items ADD COLUMN columns TEXT",
        "ALTER TABLE results ADD COLUMN model INTEGER",
        "ALTER TABLE results ADD COLUMN cost INTEGER",
        "ALTER TABLE results ADD COLUMN tokens_cached INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE results ADD COLUMN tokens_reasoning INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE results ADD COLUMN units INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE job ADD COLUMN cost INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE job ADD COLUMN cost_unknown INTEGER NOT NULL DEFAULT 0",
        "UPDATE job SET cost_unknown = completed",
        "ALTER TABLE job DROP COLUMN job_id",
        "ALTER TABLE job DROP COLUMN total",
        "ALTER TABLE job DROP COLUMN created_at",
    ):
        connection.execute(change)


# A file of format 1 as a reader of format 2 wants to see it, for who may not or does not want to write it. Views of
# the connection alone: they hide the file's tables of the same name.
VIEWS_OF_1 = """
CREATE TEMP VIEW plan AS SELECT id, job_id, model_id, total, created_at, config FROM main.job;
CREATE TEMP VIEW job AS SELECT id, model_id, completed, failed, status, started_at, completed_at, updated_at,
    tokens_input, tokens_output, elapsed, reason, config, 0 AS cost, completed AS cost_unknown FROM main.job;
CREATE TEMP VIEW held AS SELECT NULL AS item, NULL AS submission WHERE 0;
CREATE TEMP VIEW models AS SELECT NULL AS id, NULL AS name WHERE 0;
CREATE TEMP VIEW items AS SELECT id, text, extra, NULL AS model, NULL AS reason, NULL AS columns FROM main.items;
CREATE TEMP VIEW results AS SELECT id, success, tokens_input, tokens_output, duration, attempts, error_class,
    NULL AS model, NULL AS cost, 0 AS tokens_cached, 0 AS tokens_reasoning, 1 AS units FROM main.results;
CREATE TEMP VIEW attempts AS SELECT NULL AS id, NULL AS item, NULL AS attempt, NULL AS model, NULL AS error_class,
    NULL AS error, 0 AS tokens_input, 0 AS tokens_output, 0 AS tokens_cached, NULL AS cost, 0.0 AS duration,
    NULL AS at WHERE 0;
CREATE TEMP VIEW submissions AS SELECT NULL AS id, NULL AS key, NULL AS state, 0 AS count, NULL AS lane,
    NULL AS remote_id, NULL AS details, NULL AS created_at, NULL AS submitted_at, NULL AS settled_at WHERE 0;
CREATE TEMP VIEW submission_items AS SELECT NULL AS submission, NULL AS position, NULL AS item WHERE 0;
"""
VIEWS: dict[int, str] = {1: VIEWS_OF_1}


def migrate(connection: sqlite3.Connection, wanted: int) -> None:
    """Bring an open file to format `wanted`. Of two processes that do so at once one works and one waits for it."""
    while True:
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = connection.execute("PRAGMA user_version").fetchone()[0]  # another process may have done it
            if found < wanted:
                STEPS[found](connection)
                connection.execute(f"PRAGMA user_version = {found + 1:d}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk has rolled back already
                connection.execute("ROLLBACK")
            raise
        if found >= wanted - 1:
            return


def view(connection: sqlite3.Connection, found: int) -> None:
    """Let a reader see an older file as if it were of this format."""
    _script(connection, VIEWS[found])


def _script(connection: sqlite3.Connection, statements: str) -> None:
    """Statement by statement: `executescript` would end the transaction."""
    for statement in statements.split(";"):
        if statement.strip():
            connection.execute(statement)
