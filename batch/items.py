"""What goes through a job: items with an id, and the responses that carry the same id back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from batch.errors import Failure
from batch.values import value

ItemId = int | str
T = TypeVar("T")

NS_PER_MS = 1_000_000
BODY_PARAMS = ("response_format", "logprobs")  # of a request in the OpenAI form, which sources leave as they are


@value(frozen=True, slots=True)
class BatchItem(Generic[T]):
    """One request and its id. Ids are unique within a job; nothing is ever matched by position."""

    id: ItemId
    data: T
    priority: int = 0  # higher first, then first come, first served
    attempt: int = 1  # 1 on the first try
    model: str | None = None  # the model it is meant for; None: the job's only one

    @classmethod
    def new(cls, id: ItemId, data: T, priority: int = 0) -> BatchItem[T]:  # noqa: A002 - the field's own name
        """An item from its parts."""
        return cls(id, data, priority)

    def get_id(self) -> ItemId:
        """The id."""
        return self.id

    def get_data(self) -> T:
        """The request."""
        return self.data


@dataclass(frozen=True, slots=True)
class Timing:
    """When things happened to one item, in nanoseconds since it was handed over."""

    queue_ns: int  # until work on it began
    first_token_ns: int | None  # None where no token came
    total_ns: int  # until its response


@value(frozen=True, slots=True)
class BatchResponse(Generic[T]):
    """What became of one item: either `data` or `error` is set. Durations are nanoseconds.

    `tokens_cached` are part of `tokens_input`, `tokens_reasoning` of `tokens_output`. `cost` is whole billionths of a
    dollar; None is unknown, never free. `units` is what a person counts in the item (rows of a block; one prompt).
    """

    id: ItemId
    data: T | None
    duration_ns: int = 0
    error: Failure | None = None
    tokens_input: int = 0
    tokens_output: int = 0
    timing: Timing | None = None  # from engines that were asked to keep time
    tokens_cached: int = 0
    tokens_reasoning: int = 0
    cost: int | None = None
    units: int = 1
    model: str | None = None  # who answered; None: the engine has but one model
    retry_in: float | None = None  # a failed try that the engine wants repeated: given out again in so many seconds

    @classmethod
    def new(cls, id: ItemId, data: T, duration_ms: int) -> BatchResponse[T]:  # noqa: A002 - the field's own name
        """A response from its parts, the duration in milliseconds."""
        return cls(id, data, round(duration_ms * NS_PER_MS))

    def get_id(self) -> ItemId:
        """The id of the item it answers."""
        return self.id

    def get_data(self) -> T | None:
        """The answer; None where the item failed."""
        return self.data

    def get_duration_ms(self) -> int:
        """Whole milliseconds."""
        return self.duration_ms

    @property
    def duration_ms(self) -> int:
        """Whole milliseconds."""
        return self.duration_ns // NS_PER_MS

    @property
    def success(self) -> bool:
        """Whether there is an answer."""
        return self.error is None


@dataclass(frozen=True, slots=True, init=False)
class BatchStats:
    """Figures of one batch: nanoseconds inside, milliseconds outside, rates from the nanoseconds.

    `total_duration_ns` is wall time where a batch was run, and whatever is given elsewhere; `item_duration_ns` is the
    sum over the items, which overlap where they run together.
    """

    total_items: int
    total_duration_ns: int
    item_duration_ns: int

    def __init__(
        self,
        total_items: int,
        total_duration_ms: float = 0,
        *,
        total_duration_ns: int | None = None,
        item_duration_ns: int | None = None,
    ) -> None:
        total = round(total_duration_ms * NS_PER_MS) if total_duration_ns is None else total_duration_ns
        object.__setattr__(self, "total_items", total_items)
        object.__setattr__(self, "total_duration_ns", total)
        object.__setattr__(self, "item_duration_ns", total if item_duration_ns is None else item_duration_ns)

    @classmethod
    def new(cls, total_items: int, total_duration_ms: float) -> BatchStats:
        """Figures from a count and milliseconds."""
        return cls(total_items, total_duration_ms)

    @property
    def total_duration_ms(self) -> int:
        """Whole milliseconds."""
        return self.total_duration_ns // NS_PER_MS

    @property
    def items_per_second(self) -> float:
        """Items over the total time; 0 where no time has passed."""
        return self.total_items * 1e9 / self.total_duration_ns if self.total_duration_ns else 0.0

    @property
    def avg_item_time_ms(self) -> float:
        """The total time over the items; 0 without items."""
        return self.total_duration_ns / NS_PER_MS / self.total_items if self.total_items else 0.0

    @property
    def overlap(self) -> float:
        """The items' own times over the total: how many ran at once on average; 1 where no time has passed."""
        return self.item_duration_ns / self.total_duration_ns if self.total_duration_ns else 1.0

    def speedup_vs_single(self, single_item_time_ms: float | None = None) -> float:
        """How many times faster than one item alone; 1 where no time has passed.

        Without the time of a single item: the average in milliseconds, at least 1 (the reference's formula).
        """
        average = self.avg_item_time_ms
        if single_item_time_ms is None:
            return max(average, 1.0)
        return single_item_time_ms / average if average else 1.0


class BatchResults(Sequence[BatchResponse[T]]):
    """The responses of a batch in the order of its requests, and the batch's figures. Ids are found in O(1)."""

    def __init__(self, responses: Iterable[BatchResponse[T]], stats: BatchStats | None = None) -> None:
        """Without `stats` they are made from the sum of the responses' durations."""
        self.responses = list(responses)
        self._by_id = {response.id: response for response in self.responses}
        if len(self._by_id) != len(self.responses):
            raise ValueError("two responses have the same id")
        spent = sum(response.duration_ns for response in self.responses) if stats is None else 0
        self.stats = stats or BatchStats(len(self.responses), total_duration_ns=spent)

    @classmethod
    def new(cls, responses: Iterable[BatchResponse[T]], stats: BatchStats | None = None) -> BatchResults[T]:
        """Results from their parts."""
        return cls(responses, stats)

    def get_by_id(self, id: ItemId) -> BatchResponse[T] | None:  # noqa: A002 - the field's own name
        """The response to an item, None where there is none."""
        return self._by_id.get(id)

    def all_succeeded(self) -> bool:
        """Whether every item has an answer."""
        return all(response.success for response in self.responses)

    def success_count(self) -> int:
        """Items with an answer."""
        return sum(response.success for response in self.responses)

    @property
    def failures(self) -> list[BatchResponse[T]]:
        """The responses without an answer."""
        return [response for response in self.responses if not response.success]

    @overload
    def __getitem__(self, index: int) -> BatchResponse[T]: ...
    @overload
    def __getitem__(self, index: slice) -> list[BatchResponse[T]]: ...
    def __getitem__(self, index: int | slice) -> BatchResponse[T] | list[BatchResponse[T]]:
        return self.responses[index]

    def __len__(self) -> int:
        return len(self.responses)

    def __iter__(self) -> Iterator[BatchResponse[T]]:
        return iter(self.responses)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.success_count()} of {len(self)} succeeded>"


@value(frozen=True, slots=True)
class Request:
    """One thing to answer: the text a person reads, and what an engine needs beside it.

    `extra` is JSON: `messages` (a chat in the OpenAI form), `params` (sampling that holds for this item alone),
    `custom_id` (the item's name in the input file), or whatever another kind of engine understands. `columns` are what
    a table's row carries through to the output, JSON.
    """

    text: str
    extra: Mapping[str, Any] | None = None
    model: str | None = None  # the model it is meant for; None: the job's
    reason: str | None = None  # why that model, a few words a person reads
    columns: Mapping[str, Any] | None = None

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The chat to answer; a bare text is one user turn."""
        if self.extra and "messages" in self.extra:
            return list(self.extra["messages"])
        return [{"role": "user", "content": self.text}]

    @property
    def params(self) -> Mapping[str, Any]:
        """Sampling parameters of this item alone; of an OpenAI body also what is no number or text."""
        if not self.extra:
            return {}
        body = self.extra.get("body") or {}
        return {**{name: body[name] for name in BODY_PARAMS if name in body}, **self.extra.get("params", {})}

    @property
    def endpoint(self) -> str:
        """The OpenAI endpoint the item is for: `chat`, `completions` (a bare text to go on with) or `responses`."""
        return str(self.extra.get("endpoint", "chat")) if self.extra else "chat"

    @property
    def custom_id(self) -> str | None:
        """The name the input gave this item, if any."""
        return self.extra.get("custom_id") if self.extra else None


@value(frozen=True, slots=True)
class Answer:
    """The text of an answer, and what an engine has to say beside it (`finish_reason`, `logprobs`, …; JSON)."""

    text: str
    extra: Mapping[str, Any] | None = None

    @property
    def cut(self) -> bool:
        """Whether the limit of tokens ended it."""
        return self.extra is not None and self.extra.get("finish_reason") == "length"
