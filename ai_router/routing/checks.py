"""Cheap tests of an answer: where it fails one, the next model of the chain answers instead."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import regex

from batch.engines.base import Engine, closing_answers
from batch.engines.desk import Desk
from batch.errors import BatchError, Cause, ErrorClass, Failure
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.yamlfile import plain, unknown_key

KEYS = ("json", "schema", "regex", "one_of", "most_words", "logprob", "agree")
_SECONDS = 0.25


class CheckError(BatchError):
    """A check that cannot be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Check:
    """What an answer must be: JSON, of a schema, matching a regex, one of some texts, short, sure, repeatable."""

    json: bool = False
    schema: Any = None
    pattern: Any = None
    one_of: tuple[str, ...] = ()
    most_words: int | None = None
    logprob: float | None = None  # the least mean log probability of a token
    agree: bool = False  # two samples must be the same
    said: str = ""  # as JSON, to be kept with a job

    @property
    def text(self) -> str:
        """A few words for a lane's name."""
        names = [name for name in KEYS if name in json.loads(self.said)]
        return "checked: " + ", ".join(names)

    def fails(self, answer: Answer) -> str:
        """Why an answer does not pass, "" where it does."""
        text = answer.text.strip()
        if self.json or self.schema is not None:
            try:
                value = json.loads(text)
            except ValueError:
                return "it is not JSON"
            if self.schema is not None and (problem := _off_schema(value, self.schema)):
                return f"it is not as the schema has it: {problem}"
        if self.pattern is not None:
            try:
                if not self.pattern.search(text, timeout=_SECONDS):
                    return "the regex does not match it"
            except TimeoutError:
                return f"the regex takes over {_SECONDS:g} s on it"
        if self.one_of and text.rstrip(".").lower() not in self.one_of:
            return f"it is none of {', '.join(self.one_of)}"
        if self.most_words is not None and (count := len(text.split())) > self.most_words:
            return f"it has {count:,} words"
        return self._unsure(answer)

    def _unsure(self, answer: Answer) -> str:
        if self.logprob is None:
            return ""
        scores = _logprobs((answer.extra or {}).get("logprobs"))
        if not scores:
            return "its model says no log probabilities"
        mean = sum(scores) / len(scores)
        return f"its mean log probability is {mean:.2f}" if mean < self.logprob else ""


def _off_schema(value: Any, schema: Any) -> str:
    import jsonschema

    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(value))
    return "" if error is None else str(error.message)[:200]


def _logprobs(said: Any) -> list[float]:
    """Of a list of numbers, or as OpenAI has it: {"content": [{"logprob": …}]}."""
    if isinstance(said, Mapping):
        said = said.get("content")
    found = [one.get("logprob") if isinstance(one, Mapping) else one for one in said] if isinstance(said, list) else []
    return [float(one) for one in found if isinstance(one, int | float) and math.isfinite(one)]


def check_of(said: Any) -> Check:
    """A check from keys and values; raises CheckError."""
    if not isinstance(said, Mapping) or not said:
        raise CheckError(f"check must hold keys and values; known: {', '.join(KEYS)}")
    for key in said:
        if key not in KEYS:
            raise CheckError(unknown_key(key, KEYS, "check."))
    values = plain(dict(said))
    for key in ("json", "agree"):
        if not isinstance(values.get(key, False), bool):
            raise CheckError(f"check.{key} is true or false")
    pattern = None
    if values.get("regex") is not None:
        try:
            pattern = regex.compile(str(values["regex"]))
        except regex.error as error:
            raise CheckError(f"check.regex: {error}") from None
    one_of = values.get("one_of") or []
    if not isinstance(one_of, list):
        raise CheckError("check.one_of is a list of answers")
    schema = values.get("schema")
    if schema is not None:
        _check_schema(schema)
    logprob = _number(values, "logprob")
    if logprob is not None and logprob > 0:
        raise CheckError("check.logprob is the least mean log probability, a number of 0 or less")
    words = _number(values, "most_words")
    return Check(
        values.get("json", False), schema, pattern, tuple(str(one).strip().rstrip(".").lower() for one in one_of),
        None if words is None else int(words), logprob, values.get("agree", False),
        json.dumps(values, ensure_ascii=False),
    )  # fmt: skip


def _number(values: Mapping[str, Any], key: str) -> float | None:
    value = values.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise CheckError(f"check.{key} is a number")
    return value


def _check_schema(schema: Any) -> None:
    try:
        import jsonschema
    except ImportError:
        raise CheckError('check.schema needs jsonschema: pip install "ai-router[servers]"') from None
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise CheckError(f"check.schema: {error.message}") from None


_TWIN = "\x00again:"  # before the id of an item's second asking


async def _twice(items: AsyncIterator[BatchItem[Request]]) -> AsyncIterator[BatchItem[Request]]:
    async for item in items:
        yield item
        kind = "i" if isinstance(item.id, int) else "s"
        yield replace(item, id=f"{_TWIN}{kind}{item.id}")


def _own_id(item_id: ItemId) -> ItemId:
    """The id of the item that a twin stands for."""
    if not (isinstance(item_id, str) and item_id.startswith(_TWIN)):
        return item_id
    kind, name = item_id[len(_TWIN)], item_id[len(_TWIN) + 1 :]
    return int(name) if kind == "i" else name


def _both(first: BatchResponse[Answer], second: BatchResponse[Answer]) -> BatchResponse[Answer]:
    """Two answers to one item as one, at the price of both: a refusal where they differ, a failure where one failed."""
    costs = (first.cost, second.cost)
    made = replace(
        first,
        tokens_input=first.tokens_input + second.tokens_input,
        tokens_output=first.tokens_output + second.tokens_output,
        tokens_cached=first.tokens_cached + second.tokens_cached,
        tokens_reasoning=first.tokens_reasoning + second.tokens_reasoning,
        cost=None if costs[0] is None or costs[1] is None else costs[0] + costs[1],
        duration_ns=max(first.duration_ns, second.duration_ns),
    )
    if (error := first.error or second.error) is not None:
        return replace(made, data=None, error=error, retry_in=first.retry_in or second.retry_in)
    assert first.data is not None and second.data is not None
    if " ".join(first.data.text.lower().split()) == " ".join(second.data.text.lower().split()):
        return made
    failure = Failure(ErrorClass.PERMANENT, "the answer fails the check, two samples differ", cause=Cause.REFUSED)
    return replace(made, data=None, error=failure)


class CheckedEngine:
    """An engine whose answers must pass a check. One that does not is a refusal, so that a lane's next model answers.

    With `agree` every item is asked twice, and both answers must be the same but for case and spaces; what both cost is
    the answer's.
    """

    def __init__(self, inner: Engine[Request, Answer], check: Check, model: str) -> None:
        self.inner = inner
        self.name = inner.name
        self._check = check
        self._model = model

    @property
    def status(self) -> str:
        """The engine's."""
        return self.inner.status

    @property
    def about(self) -> Mapping[str, Any]:
        """The engine's."""
        return self.inner.about

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        """Yield the answers that pass, and failures for those that do not."""
        asked = _twice(items) if self._check.agree else items
        answers: AsyncIterator[BatchResponse[Answer]] = self.inner.answer(asked, desk)
        firsts: dict[ItemId, BatchResponse[Answer]] = {}
        async with closing_answers(answers) as responses:
            async for response in responses:
                if not self._check.agree:
                    yield self._judged(response)
                    continue
                own = _own_id(response.id)
                if (first := firsts.pop(own, None)) is None:
                    firsts[own] = replace(response, id=own)
                else:
                    yield self._judged(_both(first, response))

    def _judged(self, response: BatchResponse[Answer]) -> BatchResponse[Answer]:
        response = replace(response, model=response.model or self._model)
        if response.data is None or not (why := self._check.fails(response.data)):
            return response
        failure = Failure(
            ErrorClass.PERMANENT, f"{self._model}: the answer fails the check, {why}", cause=Cause.REFUSED
        )
        return replace(response, data=None, error=failure)

    def partial_texts(self) -> Mapping[ItemId, str]:
        """The engine's."""
        return self.inner.partial_texts()

    async def close(self) -> None:
        """Close the engine."""
        await self.inner.close()
