"""What is with a provider: groups of items handed over together, kept with the job.

The reads take a store, each thread its own. `insert`, `note`, `submit`, `settle` and `withdraw` make the changes; they
are given to `ResultWriter.write`, which alone writes during a run.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from batch.checkpoint import bulk
from batch.checkpoint.store import CheckpointStore
from batch.engines.desk import Submission, SubmissionState
from batch.errors import CheckpointError
from batch.job import now_iso
from batch.jsontext import clean, dump_json, load_json

Change = Callable[[sqlite3.Connection], None]

_COLUMNS = "key, state, count, lane, remote_id, details, created_at, submitted_at, settled_at"
_OPEN = tuple(str(state) for state in SubmissionState if state.open)
_SHOWN = 3  # items named in an error


def open_submissions(store: CheckpointStore) -> list[Submission]:
    """What is with a provider now, oldest first."""
    marks = ",".join("?" * len(_OPEN))
    return _read(store, f"SELECT {_COLUMNS} FROM submissions WHERE state IN ({marks}) ORDER BY id", _OPEN)


def all_submissions(store: CheckpointStore) -> list[Submission]:
    """Every submission that the job ever made, oldest first."""
    return _read(store, f"SELECT {_COLUMNS} FROM submissions ORDER BY id")


def submission_ids(store: CheckpointStore, key: str) -> list[int]:
    """The items of a submission in the order in which they were handed over; KeyError where there is none."""
    found = store.rows("SELECT id FROM submissions WHERE key = ?", (key,))
    if not found:
        raise KeyError(key)
    # As one value: beside a thread that writes, each row would be a wait for the interpreter's lock.
    items = "SELECT item FROM submission_items WHERE submission = ? ORDER BY position"
    text = store.rows(f"SELECT group_concat(item) FROM ({items})", found[0])[0][0]
    return list(map(int, text.split(","))) if text else []


def with_provider(store: CheckpointStore) -> set[int]:
    """The items of open submissions, those among them that are answered already too."""
    return {item for (item,) in store.rows("SELECT item FROM held")}


def insert(key: str, ids: Sequence[int], lane: str = "", details: Mapping[str, Any] | None = None) -> Change:
    """These items are about to be handed over.

    The change raises ValueError for a key that was used before, and for an item that is with a provider already, is
    named twice, or is none of the job's.
    """
    text = _details(details)

    def change(connection: sqlite3.Connection) -> None:
        try:
            number = connection.execute(
                "INSERT INTO submissions (key, state, count, lane, details, created_at) VALUES (?, ?, ?, ?, ?, ?)",
                (key, SubmissionState.INTENDED, len(ids), clean(lane), text, now_iso()),
            ).lastrowid
        except sqlite3.IntegrityError:
            raise ValueError(f"submission {key!r} was made before") from None
        bulk.insert(
            connection,
            "INSERT INTO submission_items (position, item, submission)",
            list(enumerate(ids)),
            shared=(number,),
        )
        try:
            connection.execute(
                "INSERT INTO held (item, submission) SELECT item, submission FROM submission_items"
                " WHERE submission = ? ORDER BY item",
                (number,),
            )
        except sqlite3.IntegrityError:
            raise ValueError(f"{_taken(connection, ids, number)} already with a provider, or named twice") from None
        count = "SELECT count(*) FROM held h JOIN items i ON i.id = h.item WHERE h.submission = ?"
        if connection.execute(count, (number,)).fetchone()[0] != len(ids):
            raise ValueError(f"submission {key!r} names items that the job does not have")

    return change


def note(key: str, details: Mapping[str, Any]) -> Change:
    """Add to a submission's details. The change raises KeyError where there is none."""
    return lambda connection: _change(connection, key, None, details)


def submit(key: str, remote_id: str, details: Mapping[str, Any] | None = None) -> Change:
    """The other side has it, under this name."""
    return lambda connection: _change(connection, key, SubmissionState.SUBMITTED, details, remote_id)


def settle(key: str, details: Mapping[str, Any] | None = None) -> Change:
    """All it had to give is on the disk: its items without an answer are pending again."""
    return lambda connection: _change(connection, key, SubmissionState.SETTLED, details)


def withdraw(key: str, details: Mapping[str, Any] | None = None) -> Change:
    """It was never made or is given up: its items are pending again."""
    return lambda connection: _change(connection, key, SubmissionState.WITHDRAWN, details)


def _change(
    connection: sqlite3.Connection,
    key: str,
    state: SubmissionState | None,
    details: Mapping[str, Any] | None,
    remote_id: str | None = None,
) -> None:
    row = connection.execute("SELECT id, state, details FROM submissions WHERE key = ?", (key,)).fetchone()
    if row is None:
        raise KeyError(key)
    number, was, text = row
    if state is not None and not SubmissionState(was).open and state is not SubmissionState(was):
        raise ValueError(f"submission {key!r} is {was} already and cannot be {state}")
    if details:
        text = _details({**load_json(text), **details})
    now = now_iso()
    connection.execute(
        "UPDATE submissions SET state = coalesce(?, state), details = ?, remote_id = coalesce(?, remote_id),"
        " submitted_at = coalesce(submitted_at, ?), settled_at = coalesce(settled_at, ?) WHERE id = ?",
        (
            state,
            text,
            remote_id,
            now if state is SubmissionState.SUBMITTED else None,
            now if state is not None and not state.open else None,
            number,
        ),
    )
    if state is not None and not state.open:
        connection.execute(
            "DELETE FROM held WHERE submission = ?1 AND item IN"
            " (SELECT item FROM submission_items WHERE submission = ?1)",
            (number,),
        )


def _read(store: CheckpointStore, sql: str, parameters: Sequence[Any] = ()) -> list[Submission]:
    try:
        return [
            Submission(
                key, SubmissionState(state), count, lane, remote, load_json(details), created, submitted, settled
            )
            for key, state, count, lane, remote, details, created, submitted, settled in store.rows(sql, parameters)
        ]
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"Damaged checkpoint {store.path}: {error}") from error


def _details(details: Mapping[str, Any] | None) -> str:
    return dump_json(details) or "{}"


def _taken(connection: sqlite3.Connection, ids: Sequence[int], number: int | None) -> str:
    find = "SELECT 1 FROM held WHERE item = ? AND submission <> ?"
    taken = (i for i in ids if connection.execute(find, (i, number)).fetchone())
    names = ", ".join(str(i) for i in islice(taken, _SHOWN))
    return f"items {names} … are" if names else "items are"
