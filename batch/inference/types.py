"""Requests and responses of the batch inference API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batch.inference.limits import BatchRequestError
from batch.items import Request

MAX_TEMPERATURE = 2.0


@dataclass(frozen=True, slots=True)
class TokenizeBatchRequest:
    """A text to tokenize."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenizeBatchResponse:
    """Token ids, and how many."""

    tokens: list[int]
    count: int


@dataclass(frozen=True, slots=True)
class DetokenizeBatchRequest:
    """Token ids to decode."""

    tokens: Sequence[int]


@dataclass(frozen=True, slots=True)
class DetokenizeBatchResponse:
    """The text of the tokens."""

    text: str


@dataclass(frozen=True, slots=True)
class InferenceBatchRequest:
    """A prompt, and how it is to be answered. Raises BatchRequestError for what is out of range.

    `params` are further sampling options of this request, as `batch.options.SamplingOptions` names them (`top_p`,
    `seed`, `stop`, …). With `messages`, a chat in the OpenAI form, the prompt is only its name for people.
    """

    prompt: str
    max_tokens: int = 256
    temperature: float = 0.0  # 0.0–2.0
    params: Mapping[str, Any] = field(default_factory=dict)
    messages: Sequence[Mapping[str, Any]] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str):
            raise BatchRequestError(f"prompt: {self.prompt!r} is not a text")
        if isinstance(self.max_tokens, bool) or not isinstance(self.max_tokens, int) or self.max_tokens < 1:
            raise BatchRequestError(f"max_tokens: {self.max_tokens!r} is not a whole number of at least 1")
        number = isinstance(self.temperature, int | float) and not isinstance(self.temperature, bool)
        if not number or not 0.0 <= self.temperature <= MAX_TEMPERATURE:  # also where it is not a number (NaN)
            raise BatchRequestError(f"temperature: {self.temperature!r} is not between 0.0 and {MAX_TEMPERATURE}")

    def request(self) -> Request:
        """What an engine is given."""
        params = {**self.params, "max_tokens": self.max_tokens, "temperature": self.temperature}
        extra: dict[str, Any] = {"params": params}
        if self.messages is not None:
            extra["messages"] = [dict(message) for message in self.messages]
        return Request(self.prompt, extra)


@dataclass(frozen=True, slots=True)
class InferenceBatchResponse:
    """A generated text. `extra` is what the engine says beside it (`finish_reason`, …)."""

    text: str
    tokens_generated: int
    extra: Mapping[str, Any] = field(default_factory=dict)
