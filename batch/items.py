"""What goes through a job: items with an id, and the responses that carry the same id back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from batch.errors import Failure

ItemId = int | str
T = TypeVar("T")

NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class BatchItem(Generic[T]):
    """One request and its id. Ids are unique within a job; nothing is ever matched by position."""

    id: ItemId
    data: T
    priority: int = 0  # higher first, then first come, first served
    attempt: int = 1  # 1 on the first try


@dataclass(frozen=True, slots=True)
class BatchResponse(Generic[T]):
    """What became of one item: either `data` or `error` is set. Durations are nanoseconds."""

    id: ItemId
    data: T | None
    duration_ns: int = 0
    error: Failure | None = None
    tokens_input: int = 0
    tokens_output: int = 0

    @property
    def duration_ms(self) -> int:
        """Whole milliseconds."""
        return self.duration_ns // NS_PER_MS

    @property
    def success(self) -> bool:
        """Whether there is an answer."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to answer: the text a person reads, and what an engine needs beside it.

    `extra` is JSON: `messages` (a chat in the OpenAI form), `params` (sampling that holds for this item alone),
    `custom_id` (the item's name in the input file), or whatever another kind of engine understands.
    """

    text: str
    extra: Mapping[str, Any] | None = None

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The chat to answer; a bare text is one user turn."""
        if self.extra and "messages" in self.extra:
            return list(self.extra["messages"])
        return [{"role": "user", "content": self.text}]

    @property
    def params(self) -> Mapping[str, Any]:
        """Sampling parameters of this item alone."""
        return self.extra.get("params", {}) if self.extra else {}

    @property
    def custom_id(self) -> str | None:
        """The name the input gave this item, if any."""
        return self.extra.get("custom_id") if self.extra else None


@dataclass(frozen=True, slots=True)
class Answer:
    """The text of an answer, and what an engine has to say beside it (`finish_reason`, `logprobs`, …; JSON)."""

    text: str
    extra: Mapping[str, Any] | None = None
