"""What the program remembers for a person: choices, presets, drafts, chats. One SQLite file beside the checkpoints.

Every call opens the file and closes it, so that any thread and any process may ask. Only its owner may read it, as it
holds what was asked and answered. A file that cannot be read or written is said once where it matters, and is no reason
to fail: choices come back as their defaults.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from batch.errors import CheckpointError
from batch.jsontext import clean, dump_json

NAME = "memory.db"
FORMAT = 1
BUSY_SECONDS = 2.0
LONGEST_TITLE = 80
MOST_HITS = 1000  # turns looked at for one search
UNSPACED = "\u0e00"  # from here on, scripts without spaces between words, and emoji
AROUND = 20  # characters shown before a place

_TABLES = """
CREATE TABLE chosen (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE chats (
    id INTEGER PRIMARY KEY, title TEXT NOT NULL, model TEXT NOT NULL DEFAULT '', options TEXT NOT NULL DEFAULT '{}',
    changed TEXT NOT NULL
);
CREATE TABLE turns (
    id INTEGER PRIMARY KEY, chat INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE, prompt TEXT NOT NULL,
    answer TEXT NOT NULL, model TEXT NOT NULL, error TEXT, tokens_input INTEGER, tokens_output INTEGER, seconds REAL,
    at TEXT NOT NULL
);
CREATE INDEX turns_of ON turns (chat);
CREATE VIRTUAL TABLE found USING fts5 (prompt, answer, content = 'turns', content_rowid = 'id');
CREATE TRIGGER turn_added AFTER INSERT ON turns BEGIN
    INSERT INTO found (rowid, prompt, answer) VALUES (new.id, new.prompt, new.answer);
END;
CREATE TRIGGER turn_gone AFTER DELETE ON turns BEGIN
    INSERT INTO found (found, rowid, prompt, answer) VALUES ('delete', old.id, old.prompt, old.answer);
END;
"""


class MemoryFileError(CheckpointError):
    """What is remembered cannot be read or written; the text says why."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One question of a chat and its answer, or what went wrong."""

    prompt: str
    answer: str
    model: str = ""
    error: str | None = None
    tokens_input: int = 0
    tokens_output: int = 0
    seconds: float = 0.0  # of answering
    at: str = ""


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation, as a list shows it. `options` are sampling options by name; `hit` is where words were found."""

    id: int
    title: str
    model: str
    options: Mapping[str, Any]
    changed: str
    turns: int = 0
    hit: str = ""


class Memory:
    """Reads and writes the file of a folder; made when first written to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    @contextmanager
    def _open(self, *, write: bool = False) -> Iterator[sqlite3.Connection | None]:
        """A connection in a transaction; None where nothing is there yet and nothing is to be written."""
        if not write and not self.path.is_file():
            yield None
            return
        try:
            if write and not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            with closing(connection):
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if version > FORMAT:
                    raise MemoryFileError(f"{self.path} was written by a newer version; it is left as it is")
                if not version:
                    if not write:
                        yield None
                        return
                    for statement in _statements(_TABLES):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {FORMAT}")
                yield connection
                connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise MemoryFileError(f"Cannot use {self.path}: {error}") from error

    # -- choices --------------------------------------------------------------------------------------------------

    def recall(self, key: str, default: Any = None) -> Any:
        """What was chosen last; the default where nothing was, or where it cannot be read."""
        try:
            with self._open() as connection:
                if connection is None:
                    return default
                row = connection.execute("SELECT value FROM chosen WHERE key = ?", (key,)).fetchone()
            return default if row is None else json.loads(row[0])
        except (MemoryFileError, ValueError):
            return default

    def keep(self, key: str, value: Any) -> None:
        """Remember a choice (JSON); None forgets it."""
        with self._open(write=True) as connection:
            assert connection is not None
            if value is None:
                connection.execute("DELETE FROM chosen WHERE key = ?", (key,))
            else:
                connection.execute("INSERT OR REPLACE INTO chosen VALUES (?, ?)", (key, dump_json(value) or "null"))

    def named(self, prefix: str) -> dict[str, Any]:
        """All choices whose key begins so, by the rest of their keys, in order."""
        try:
            with self._open() as connection:
                if connection is None:
                    return {}
                rows = connection.execute(
                    "SELECT key, value FROM chosen WHERE substr(key, 1, ?) = ? ORDER BY key", (len(prefix), prefix)
                ).fetchall()
            return {key[len(prefix) :]: json.loads(value) for key, value in rows}
        except (MemoryFileError, ValueError):
            return {}

    # -- chats ----------------------------------------------------------------------------------------------------

    def begin_chat(self, title: str, model: str, options: Mapping[str, Any]) -> int:
        """A new chat; returns its number."""
        title = clean(" ".join(title.split()))[:LONGEST_TITLE]
        with self._open(write=True) as connection:
            assert connection is not None
            values = (title, model, dump_json(dict(options)) or "{}", _now())
            return int(
                connection.execute(
                    "INSERT INTO chats (title, model, options, changed) VALUES (?, ?, ?, ?)", values
                ).lastrowid
                or 0
            )

    def add_turn(self, chat: int, turn: Turn, options: Mapping[str, Any]) -> None:
        """A question and its answer, at the end of a chat; the chat goes on with this turn's model and options."""
        with self._open(write=True) as connection:
            assert connection is not None
            _add(connection, chat, turn)
            connection.execute(
                "UPDATE chats SET changed = ?, model = ?, options = ? WHERE id = ?",
                (_now(), turn.model, dump_json(dict(options)) or "{}", chat),
            )

    def chats(self, words: str = "", limit: int = 200) -> list[Chat]:
        """The chats, the last one first; with words, those in a turn of which all of them occur, and where."""
        with self._open() as connection:
            if connection is None:
                return []
            hits: dict[int, str] = {}
            if wanted := clean(words).split():
                for chat, hit in _hits(connection, wanted):
                    hits.setdefault(chat, hit)
                hits = dict(list(hits.items())[:limit])
            marks = f"WHERE c.id IN ({','.join('?' * len(hits))})" if wanted else ""
            rows = connection.execute(
                "SELECT c.id, c.title, c.model, c.options, c.changed,"
                " (SELECT count(*) FROM turns t WHERE t.chat = c.id)"
                f" FROM chats c {marks} ORDER BY c.changed DESC, c.id DESC LIMIT ?",
                (*hits, limit),
            ).fetchall()
        return [Chat(a, b, c, json.loads(d), e, f, hits.get(a, "")) for a, b, c, d, e, f in rows]

    def turns(self, chat: int) -> list[Turn]:
        """A chat's questions and answers, in order."""
        with self._open() as connection:
            if connection is None:
                return []
            rows = connection.execute(
                "SELECT prompt, answer, model, error, tokens_input, tokens_output, seconds, at FROM turns"
                " WHERE chat = ? ORDER BY id",
                (chat,),
            ).fetchall()
        return [Turn(*row) for row in rows]

    def prompts(self, limit: int = 100) -> list[str]:
        """What was asked last, each once, the last one first."""
        with self._open() as connection:
            if connection is None:
                return []
            rows = connection.execute(
                "SELECT prompt FROM turns GROUP BY prompt ORDER BY max(id) DESC LIMIT ?", (limit,)
            ).fetchall()
        return [row[0] for row in rows]

    def forget_chat(self, chat: int) -> None:
        """Take a chat away, with all its turns."""
        with self._open(write=True) as connection:
            assert connection is not None
            connection.execute("DELETE FROM chats WHERE id = ?", (chat,))

    def restore_chat(self, chat: Chat, turns: Sequence[Turn]) -> None:
        """Put a chat back that was taken away."""
        with self._open(write=True) as connection:
            assert connection is not None
            options = dump_json(dict(chat.options)) or "{}"
            connection.execute(
                "INSERT INTO chats (id, title, model, options, changed) VALUES (?, ?, ?, ?, ?)",
                (chat.id, chat.title, chat.model, options, chat.changed),
            )
            for turn in turns:
                _add(connection, chat.id, turn)


def _add(connection: sqlite3.Connection, chat: int, turn: Turn) -> None:
    connection.execute(
        "INSERT INTO turns (chat, prompt, answer, model, error, tokens_input, tokens_output, seconds, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (chat, clean(turn.prompt), clean(turn.answer), turn.model, turn.error, turn.tokens_input,
         turn.tokens_output, turn.seconds, turn.at or _now()),
    )  # fmt: skip


def _hits(connection: sqlite3.Connection, words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Turns in which all words occur, the last one first: the chat, and the place of one of them.

    The index knows whole words and their beginnings. What is written without spaces between words (Japanese, Thai), and
    signs and emoji, which it does not hold, are looked for in the texts themselves.
    """
    within = [word for word in words if max(word) >= UNSPACED or not any(map(str.isalnum, word))]
    terms = " ".join('"' + word.replace('"', '""') + '"*' for word in words if word not in within)
    texts = "SELECT t.chat, t.prompt || char(10) || t.answer FROM turns t ORDER BY t.id DESC"
    if terms:
        texts = (
            "SELECT t.chat, snippet(found, -1, '', '', '…', 12), t.prompt || char(10) || t.answer"
            " FROM found JOIN turns t ON t.id = found.rowid WHERE found MATCH ? ORDER BY found.rowid DESC LIMIT ?"
        )
    for chat, *said in connection.execute(texts, (terms, MOST_HITS) if terms else ()):
        if all(word in said[-1] for word in within):
            yield chat, said[0] if terms else _around(said[-1], within[0])


def _around(text: str, word: str) -> str:
    at = text.index(word)
    start = max(0, at - AROUND)
    return ("…" if start else "") + " ".join(text[start : at + 2 * AROUND].split())


def _now() -> str:
    return datetime.now().isoformat()


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one, as a transaction is to hold them all."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
