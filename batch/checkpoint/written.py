"""What a run writes down of an item: its result, and the tries before it. What an engine says is checked here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from batch.errors import ErrorClass, Failure
from batch.items import Answer, BatchResponse
from batch.job import BatchResult
from batch.jsontext import clean, dump_json

LARGEST_COUNT = 2**48  # tokens or units of one item: more is a mistake, and sums must fit SQLite's 64 bits
LARGEST_COST = 2**60  # billionths of a dollar
LARGEST_SECONDS = 10**9
LARGEST_NS = LARGEST_SECONDS * 10**9

_COUNTS = ("tokens_input", "tokens_output", "tokens_cached", "tokens_reasoning", "units")
_counts = attrgetter(*_COUNTS)
_row: Any = tuple.__new__


def unfit(response: BatchResponse[Answer]) -> Failure | None:
    """Why an engine's response cannot be kept as it is: figures that are none, or a text that is no text."""
    if _ordinary(response):
        return None
    if (bad := _unfit_counts(response)) is not None:
        return bad
    cost: Any = response.cost
    if cost is not None and (not isinstance(cost, int) or not 0 <= cost <= LARGEST_COST):
        return _nonsense("cost", cost)
    spent: Any = response.duration_ns
    if (type(spent) is not int and not isinstance(spent, int | float)) or not 0 <= spent <= LARGEST_NS:
        return _nonsense("duration_ns", spent)
    model: Any = response.model
    if model is not None and not isinstance(model, str):
        return _nonsense("model", model)
    if response.data is None:
        return None
    text: Any = response.data.text
    if not isinstance(text, str):
        return _nonsense("text", text)
    if not response.data.extra:
        return None
    try:
        _extra_text(response.data.extra)
    except (ValueError, TypeError) as error:
        return Failure(ErrorClass.PERMANENT, f"the engine said what cannot be kept beside the answer: {error}")
    return None


def _extra_text(extra: Mapping[str, Any]) -> str | None:
    """As `dump_json`; what nearly all have, why the answer ended and nothing else, is written down once."""
    if len(extra) == 1:
        [(name, value)] = extra.items()
        if type(value) is str and type(name) is str and len(value) < 32:
            return _pair(name, value)
    return dump_json(extra)


@lru_cache(256)
def _pair(name: str, value: str) -> str | None:
    return dump_json({name: value})


def _ordinary(response: BatchResponse[Answer]) -> bool:
    """Whether it is what nearly all are: counts that are counts, a text that is one, at most a word beside it."""
    data = response.data
    spent, cost, model = response.duration_ns, response.cost, response.model
    try:  # all at once: a look at each would be a good part of what a run does for an item
        bits = response.tokens_input | response.tokens_output | response.tokens_cached
        bits |= response.tokens_reasoning | response.units
    except TypeError:
        return False
    return (
        type(bits) is int
        and 0 <= bits < LARGEST_COUNT
        and type(spent) is int
        and 0 <= spent <= LARGEST_NS
        and (cost is None or (type(cost) is int and 0 <= cost <= LARGEST_COST))
        and (model is None or type(model) is str)
        and data is not None
        and type(data.text) is str
        and (not (extra := data.extra) or (type(extra) is dict and len(extra) == 1 and _is_plain_pair(*extra.items())))
    )


def _is_plain_pair(pair: tuple[object, object]) -> bool:
    """Whether it is two texts, which can be written down whatever they are."""
    return type(pair[0]) is str and type(pair[1]) is str


def _unfit_counts(response: BatchResponse[Answer]) -> Failure | None:
    for name, found in zip(_COUNTS, _counts(response), strict=True):
        if not isinstance(found, int) or not 0 <= found <= LARGEST_COUNT:
            return _nonsense(name, found)
    return None


def _nonsense(name: str, value: object) -> Failure:
    try:
        shown = repr(value)
    except ValueError:  # an integer of too many digits to write down
        shown = "a number of thousands of digits"
    return Failure(ErrorClass.PERMANENT, f"the engine said {name} = {shown[:40]}, which cannot be kept")


class ResultRow(NamedTuple):
    """One result on its way to the disk."""

    id: int
    prompt: str | None  # not written; for whoever hears of the commit. None: as the store has it
    text: str
    success: bool
    tokens_input: int
    tokens_output: int
    duration: float
    attempts: int
    error_class: str | None
    error: str | None
    extra: str | None  # JSON
    old: int  # 0 new, 1 replaces a failure
    model: str | None = None  # None: the job's
    cost: int | None = None  # billionths of a dollar, of this try; None is unknown
    cached: int = 0
    reasoning: int = 0
    units: int = 1

    @classmethod
    def of(
        cls,
        response: BatchResponse[Answer],
        prompt: str | None,
        error: Failure | None,
        attempt: int,
        *,
        replaces: bool,
        checked: bool = False,
    ) -> ResultRow:
        """The row of an engine's response; `error` is what the run made of it. What cannot be kept is a failure.

        `checked` says that `unfit` has found nothing.
        """
        if not checked and (bad := unfit(response)) is not None:
            response, error = BatchResponse(response.id, None), error or bad
        answer = response.data
        if error is None and answer is not None:
            return answered_row(response, prompt, answer, attempt, replaces)
        values = (
            int(response.id),
            prompt,
            "",
            error is None,
            response.tokens_input,
            response.tokens_output,
            response.duration_ns / 1e9,
            attempt,
            None if error is None else error.error_class,
            None if error is None else str(error.message),
            _extra_text(answer.extra) if answer is not None and answer.extra else None,
            int(replaces),
            response.model,
            response.cost,
            response.tokens_cached,
            response.tokens_reasoning,
            response.units,
        )
        return tuple.__new__(cls, values)

    @property
    def charged(self) -> bool:
        """Whether it may have cost something: an answer, or tokens."""
        return self.success or self.tokens_input + self.tokens_output > 0

    def result(self) -> BatchResult:
        """The same as the library hands it out; attempts and cost are those of this run."""
        return BatchResult(
            self.id,
            self.prompt or "",
            self.text,
            self.tokens_input,
            self.tokens_output,
            self.duration,
            self.success,
            self.error,
            self.error_class,
            self.attempts,
            model=self.model,
            cost=self.cost,
            tokens_cached=self.cached,
            tokens_reasoning=self.reasoning,
            units=self.units,
        )


def answered_row(
    response: BatchResponse[Answer], prompt: str | None, answer: Answer, attempt: int, replaces: bool
) -> ResultRow:
    """The row of a response that `unfit` found nothing about and that is no failure, as nearly all are."""
    # As a tuple: to call the class is twice the work, and there is one for every item.
    made: ResultRow = _row(
        ResultRow,
        (
            response.id,
            prompt,
            answer.text,
            True,
            response.tokens_input,
            response.tokens_output,
            response.duration_ns / 1e9,
            attempt,
            None,
            None,
            _extra_text(answer.extra) if answer.extra else None,
            1 if replaces else 0,
            response.model,
            response.cost,
            response.tokens_cached,
            response.tokens_reasoning,
            response.units,
        ),
    )
    return made


def fields_of(*names: str) -> Callable[[ResultRow], Any]:
    """What takes these fields out of a row: one alone, or several as a tuple; quicker than their names in a loop."""
    return itemgetter(*map(ResultRow._fields.index, names))


class AttemptRow(NamedTuple):
    """A try that is not an item's result, on its way to the disk: it cost time, and perhaps money."""

    id: int  # the item's
    attempt: int  # 1 for the first try of this run
    model: str | None  # None: the job's
    error_class: str | None
    error: str | None
    tokens_input: int
    tokens_output: int
    cached: int
    cost: int | None
    duration: float  # seconds

    @classmethod
    def of(cls, response: BatchResponse[Answer], error: Failure | None, attempt: int) -> AttemptRow:
        """The row of a response that the run tries again, or passes over."""
        if (bad := unfit(response)) is not None:
            response, error = BatchResponse(response.id, None), error or bad
        return cls(
            int(response.id),
            attempt,
            response.model,
            error.error_class if error else None,
            str(error.message) if error else None,
            response.tokens_input,
            response.tokens_output,
            response.tokens_cached,
            response.cost,
            response.duration_ns / 1e9,
        )

    @property
    def charged(self) -> bool:
        """Whether it may have cost something: tokens went through a model."""
        return self.tokens_input + self.tokens_output > 0

    def columns(self, model: int, at: str) -> tuple[object, ...]:
        """As `schema.INSERT_ATTEMPT` wants them."""
        return (
            *(self.id, self.attempt, model, self.error_class, self.error and clean(self.error)),
            *(self.tokens_input, self.tokens_output, self.cached, self.cost, self.duration, at),
        )
