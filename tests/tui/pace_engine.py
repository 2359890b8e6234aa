"""An engine whose pace a test sets: it writes its answers word by word, fails where it is told to, or waits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping

from batch.engines.base import closing_answers
from batch.engines.desk import Desk
from batch.engines.pull import side_by_side
from batch.errors import ErrorClass, Failure
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request

Fails = Callable[[BatchItem[Request]], Failure | None]


class PaceEngine:
    """`word_seconds` between two words of an answer; nothing is finished while `held` or after `most` answers."""

    name = "pace"

    def __init__(
        self,
        *,
        word_seconds: float = 0.0,
        answer: Callable[[str], str] = lambda text: f"An answer to: {text}",
        fails: Fails = lambda item: None,
        room: int = 64,
        loading: bool = False,
        held: bool = False,
        most: float = math.inf,
    ) -> None:
        self.word_seconds = word_seconds
        self.answer_text = answer
        self.fails = fails
        self.room = room
        self.loading = loading
        self.held = held
        self.most = most
        self.status = "stopped"
        self.about: Mapping[str, object] = {}
        self.answered: list[ItemId] = []
        self.closed = False
        self._partials: dict[ItemId, str] = {}

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        """Several at once, each at its pace."""
        while self.loading:
            self.status = "loading model…"
            await asyncio.sleep(0.01)
        self.status = "ready"
        self.about = {"device": "cpu", "precision": "fp32"}
        try:
            async with closing_answers(side_by_side(items, self._write, self.room)) as responses:
                async for response in responses:
                    yield response
        finally:
            self._partials.clear()

    async def _write(self, item: BatchItem[Request]) -> BatchResponse[Answer]:
        began = asyncio.get_running_loop().time()
        words = self.answer_text(item.data.text).split(" ")
        text = ""
        for word in words:
            if self.word_seconds:
                await asyncio.sleep(self.word_seconds)
            text = f"{text} {word}" if text else word
            self._partials[item.id] = text
        while self.held or len(self.answered) >= self.most:
            await asyncio.sleep(0.01)
        self._partials.pop(item.id, None)
        self.answered.append(item.id)
        spent = int((asyncio.get_running_loop().time() - began) * 1e9)
        failure = self.fails(item)
        if failure is not None:
            return BatchResponse(item.id, None, spent, failure)
        return BatchResponse(item.id, Answer(text), spent, None, len(item.data.text.split()), len(words))

    def partial_texts(self) -> Mapping[ItemId, str]:
        """The words so far."""
        return dict(self._partials)

    async def close(self) -> None:
        """Remember it."""
        self.closed = True
        self.status = "stopped"


def failing(message: str, error_class: ErrorClass = ErrorClass.PERMANENT, *, every: int = 1) -> Fails:
    """Fails each `every`th item."""
    return lambda item: Failure(error_class, message) if int(item.id) % every == 0 else None
