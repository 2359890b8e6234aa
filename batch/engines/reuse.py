"""Equal requests at temperature 0 are asked once: the others get the same answer, free, marked as what it is."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import orjson

from batch.engines.base import Engine, closing_answers
from batch.engines.desk import Desk
from batch.engines.local.core import item_sampling
from batch.errors import ErrorClass, PermanentError
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions, options_dict

KEPT_BYTES = 32 << 20  # of answers that are remembered in memory; beyond, the oldest are forgotten

Response = BatchResponse[Answer]


class Answers:
    """Answers by key: the latest of this job in memory, and with a `file` those of other jobs.

    The file is a cache: one that cannot be read or written is done without. An answer is in it before anybody else has
    it, so that a process that is killed pays for none of them again, and jobs side by side never wait for each other.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._known: OrderedDict[bytes, tuple[Answer, str | None, object]] = OrderedDict()
        self._bytes = 0
        self._file = file
        self._db: sqlite3.Connection | None = None

    def get(self, key: bytes) -> tuple[Answer, str | None, object] | None:
        """The answer, the model that gave it, and whose it is (an item's id, or "another job")."""
        if (found := self._known.get(key)) is not None:
            return found
        if (db := self._open()) is None:
            return None
        try:
            row = db.execute("SELECT text, extra, model FROM answers WHERE key = ?", [key]).fetchone()
        except sqlite3.Error:
            return None
        return None if row is None else (Answer(row[0], row[1] and orjson.loads(row[1])), row[2], "another job")

    def put(self, key: bytes, response: Response) -> None:
        """Remember a good answer."""
        answer = cast(Answer, response.data)
        self._known[key] = (answer, response.model, response.id)
        self._bytes += len(answer.text) + 400
        while self._bytes > KEPT_BYTES and len(self._known) > 1:
            _, (old, _, _) = self._known.popitem(last=False)
            self._bytes -= len(old.text) + 400
        if (db := self._open()) is None:
            return
        with suppress(sqlite3.Error):
            extra = orjson.dumps(answer.extra, default=str).decode() if answer.extra else None
            db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", [key, answer.text, extra, response.model])

    def close(self) -> None:
        """Let go of the file."""
        db, self._db, self._file = self._db, None, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()

    def _open(self) -> sqlite3.Connection | None:
        if self._db is None and self._file is not None:
            try:
                self._db = sqlite3.connect(self._file, timeout=1.0, isolation_level=None)
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = OFF")
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, text TEXT, extra TEXT, model TEXT)"
                )
            except sqlite3.Error:
                self._db, self._file = None, None
        return self._db


class ReuseEngine:
    """An engine over another that sends it only the first of equal requests whose answer is determined.

    `identity` is all beside the request and its sampling that shapes an answer: model, weights, address. The others
    wait for the first one's answer, and share its refusal; where it failed by accident they are tried again.
    """

    def __init__(
        self, engine: Engine[Request, Answer], sampling: SamplingOptions, identity: Mapping[str, Any], answers: Answers
    ) -> None:
        self._engine, self._sampling, self._answers = engine, sampling, answers
        self._identity = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS, default=str)
        self._first: dict[bytes, list[ItemId]] = {}  # key of what is being asked -> who waits for it
        self._keys: dict[ItemId, bytes] = {}  # of what is being asked
        self.name = engine.name
        self.reused = 0

    @property
    def status(self) -> str:
        """The engine's."""
        return self._engine.status

    @property
    def about(self) -> Mapping[str, Any]:
        """The engine's, and how many answers were used again."""
        about = self._engine.about
        return {**about, "answers used again": self.reused} if self.reused else about

    def partial_texts(self) -> Mapping[ItemId, str]:
        """The engine's."""
        return self._engine.partial_texts()

    def most_cost(self, request: Request) -> int | None:
        """The engine's, where it knows."""
        most = getattr(self._engine, "most_cost", None)
        return most(request) if most is not None else None

    async def close(self) -> None:
        """Close the engine and what is remembered."""
        self._answers.close()
        await self._engine.close()

    async def answer(self, items: AsyncIterator[BatchItem[Request]], desk: Desk) -> AsyncIterator[Response]:
        """Yield one response for every item pulled."""
        out: asyncio.Queue[Response | BaseException | None] = asyncio.Queue()

        async def run() -> None:
            try:
                async with closing_answers(self._engine.answer(self._fresh(items, out), desk)) as answers:
                    async for response in answers:
                        for each in self._shared(response):
                            out.put_nowait(each)
                out.put_nowait(None)
            except BaseException as error:
                out.put_nowait(error)
                raise

        task = asyncio.create_task(run())
        try:
            while (response := await out.get()) is not None:
                if isinstance(response, BaseException):
                    raise response
                yield response
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._first.clear()
            self._keys.clear()

    async def _fresh(
        self, items: AsyncIterator[BatchItem[Request]], out: asyncio.Queue[Response | BaseException | None]
    ) -> AsyncIterator[BatchItem[Request]]:
        """The items that have to be asked; others are answered, or wait."""
        async for item in items:
            key = self._key(item.data)
            if key is None:
                yield item
            elif (waiting := self._first.get(key)) is not None:
                waiting.append(item.id)
            elif (known := self._answers.get(key)) is not None:
                answer, model, whose = known
                out.put_nowait(self._repeated(item.id, answer, model, whose))
            else:
                self._first[key] = []
                self._keys[item.id] = key
                yield item

    def _shared(self, response: Response) -> list[Response]:
        """A response, and what it means for those who wait for it."""
        key = self._keys.pop(response.id, None)
        if key is None:
            return [response]
        waiting = self._first.pop(key, [])
        error, answer = response.error, response.data
        if error is None and answer is not None and answer.text.strip():
            self._answers.put(key, response)
            return [response, *(self._repeated(one, answer, response.model, response.id) for one in waiting)]
        shared = error is not None and error.error_class is ErrorClass.PERMANENT
        again = replace(response, data=None, tokens_input=0, tokens_output=0, cost=0, retry_in=None if shared else 0.0)
        return [response, *(replace(again, id=one) for one in waiting)]

    def _repeated(self, item_id: ItemId, answer: Answer, model: str | None, whose: object) -> Response:
        self.reused += 1
        return BatchResponse(
            item_id, Answer(answer.text, {**(answer.extra or {}), "reused": whose}), cost=0, model=model
        )

    def _key(self, request: Request) -> bytes | None:
        """What shapes the answer; None where chance does."""
        try:
            options, ignored = item_sampling(self._sampling, request.params)
        except PermanentError:
            return None
        if options.temperature > 0 or ignored:
            return None
        asked = {"options": options_dict(options), "messages": request.messages, "text": request.text}
        digest = hashlib.blake2b(self._identity, digest_size=16)
        digest.update(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS, default=str))
        return digest.digest()
