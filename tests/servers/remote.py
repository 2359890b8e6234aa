"""A far-away provider that outlives every process, and an engine that hands groups of items to it.

The provider is a SQLite file. It takes groups, answers them after some looks, loses items where it is told to, and
counts what it was given. `Step` is a hook that the engine passes at every step, which is where a test kills.
"""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from batch.engines.desk import Desk, Submission, SubmissionState
from batch.engines.pull import Puller
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request

Item = BatchItem[Request]
Response = BatchResponse[Answer]
Step = Callable[[str], None]


class Remote:
    """`looks` is how often a group must be looked at until it is done; `loses` names items it gives no answer to."""

    def __init__(self, path: Path, *, looks: int = 1, loses: Sequence[int] = ()) -> None:
        self.looks, self.loses = looks, set(loses)
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        self._connection.executescript(
            "CREATE TABLE IF NOT EXISTS groups (id TEXT PRIMARY KEY, key TEXT, looks INTEGER NOT NULL DEFAULT 0);"
            "CREATE TABLE IF NOT EXISTS asked (id TEXT, item INTEGER, text TEXT)"
        )

    def create(self, key: str, texts: Mapping[int, str]) -> str:
        """Take a group. Every call makes one, as providers do: a call that is repeated is paid for twice."""
        name = uuid.uuid4().hex
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT INTO groups (id, key) VALUES (?, ?)", (name, key))
        self._connection.executemany("INSERT INTO asked VALUES (?, ?, ?)", [(name, i, t) for i, t in texts.items()])
        self._connection.execute("COMMIT")
        return name

    def find(self, key: str) -> str | None:
        """The group that was made with our key in its metadata."""
        row = self._connection.execute("SELECT id FROM groups WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def look(self, name: str) -> dict[int, str] | None:
        """The answers, when they are there."""
        self._connection.execute("UPDATE groups SET looks = looks + 1 WHERE id = ?", (name,))
        if self._connection.execute("SELECT looks FROM groups WHERE id = ?", (name,)).fetchone()[0] < self.looks:
            return None
        rows = self._connection.execute("SELECT item, text FROM asked WHERE id = ?", (name,)).fetchall()
        return {item: f"answer to {text}" for item, text in rows if item not in self.loses}

    def asked(self) -> list[tuple[str, int]]:
        """(key, item) of all that it was ever given."""
        return self._connection.execute("SELECT key, item FROM asked JOIN groups USING (id) ORDER BY 2").fetchall()

    def close(self) -> None:
        self._connection.close()


class RemoteEngine:
    """Hands over groups of `size`, in the order that the desk wants: written down, made, named, taken, settled."""

    name = "remote"
    status = "ready"
    about: Mapping[str, Any] = {}

    def __init__(self, path: Path, *, size: int = 4, step: Step = lambda what: None, **remote: Any) -> None:
        self.remote = Remote(path, **remote)
        self.size = size
        self.step = step
        self.held = 0
        self.most = 0
        self.closed = 0

    async def answer(self, items: AsyncIterator[Item], desk: Desk) -> AsyncIterator[Response]:
        for submission in desk.open_submissions():
            self.step("reconcile")
            if submission.state is SubmissionState.INTENDED:
                found = self.remote.find(submission.key)
                self.step("found")
                await (desk.submitted(submission.key, found) if found else desk.withdrawn(submission.key))
                self.step("reconciled")
        group: list[ItemId] = []
        ended = False
        failed: list[Exception] = []
        changed = asyncio.Event()

        def took(item: Item) -> None:
            group.append(item.id)
            self.held += 1
            self.most = max(self.most, self.held)
            changed.set()

        def over(error: Exception | None) -> None:
            nonlocal ended
            ended = True
            failed.extend([error] if error else [])
            changed.set()

        puller = Puller(items, took, over)
        try:
            while True:
                while len(group) >= self.size or (group and not desk.pending and not (ended and desk.stopping)):
                    part, group[: self.size] = group[: self.size], []
                    await self._hand_over(part, desk)
                if failed:
                    raise failed[0]
                waiting = desk.open_submissions()
                for submission in waiting:
                    async for response in self._collect(submission, desk):
                        yield response
                if ended and (desk.stopping or not desk.waits or not desk.open_submissions()):
                    return
                changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), 0.005)
        finally:
            puller.cancel()

    async def _hand_over(self, ids: list[ItemId], desk: Desk) -> None:
        key = uuid.uuid4().hex
        self.step("submit")
        await desk.submitting(key, ids)
        self.held -= len(ids)
        self.step("written down")
        name = self.remote.create(key, {int(i): desk.request(i).text for i in ids})
        self.step("created")
        await desk.submitted(key, name)
        self.step("submitted")

    async def _collect(self, submission: Submission, desk: Desk) -> AsyncIterator[Response]:
        assert submission.remote_id is not None
        answers = self.remote.look(submission.remote_id)
        self.step("looked")
        if answers is None:
            return
        for item, text in answers.items():
            yield BatchResponse(item, Answer(text), 1_000_000, tokens_input=2, tokens_output=3, cost=10)
            self.step("answered")
        await desk.settled(submission.key)
        self.step("settled")

    def partial_texts(self) -> Mapping[ItemId, str]:
        return {}

    async def close(self) -> None:
        self.closed += 1
        self.remote.close()
