"""Cheap tests of an answer, and what becomes of one that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ai_router.routing.checks import CheckedEngine, CheckError, check_of
from batch.engines.desk import MemoryDesk
from batch.engines.function import FunctionEngine
from batch.errors import Cause
from batch.items import Answer, BatchItem, BatchResponse, Request


@pytest.mark.parametrize(
    ("said", "good", "bad"),
    [
        ({"json": True}, '{"a": 1}', "no json"),
        ({"schema": {"type": "object", "required": ["a"]}}, '{"a": 1}', '{"b": 1}'),
        ({"regex": r"^\d+$"}, "42", "about 42"),
        ({"one_of": ["Yes", "No"]}, "yes.", "maybe"),
        ({"most_words": 2}, "two words", "three words here"),
    ],
)
def test_checks(said: dict[str, Any], good: str, bad: str) -> None:
    check = check_of(said)
    assert check.fails(Answer(good)) == ""
    assert check.fails(Answer(bad))


@pytest.mark.parametrize("said", [[-0.1, -0.2], {"content": [{"logprob": -0.1}, {"logprob": -0.3}]}])
def test_log_probabilities(said: Any) -> None:
    check = check_of({"logprob": -0.5})
    assert check.fails(Answer("a", {"logprobs": said})) == ""
    assert "mean log probability is -2.00" in check.fails(Answer("a", {"logprobs": [-2.0]}))
    assert "says no log probabilities" in check.fails(Answer("a"))


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({}, "must hold keys and values"),
        ({"jsn": True}, "did you mean check.json|did you mean json"),
        ({"json": "yes"}, "check.json is true or false"),
        ({"regex": "("}, "check.regex"),
        ({"logprob": 1}, "0 or less"),
        ({"schema": {"type": "what"}}, "check.schema"),
        ({"one_of": "a"}, "a list of answers"),
    ],
)
def test_checks_that_cannot_be(said: dict[str, Any], problem: str) -> None:
    with pytest.raises(CheckError, match=problem):
        check_of(said)


async def answers(engine: Any, *texts: str) -> dict[Any, BatchResponse[Answer]]:
    async def items() -> AsyncIterator[BatchItem[Request]]:
        for n, text in enumerate(texts):
            yield BatchItem(n, Request(text))

    return {response.id: response async for response in engine.answer(items(), MemoryDesk())}


async def test_an_answer_that_fails_is_a_refusal() -> None:
    engine = CheckedEngine(FunctionEngine(lambda text: text, workers=2), check_of({"json": True}), "small")
    found = await answers(engine, "[1]", "no")
    assert found[0].error is None and found[0].model == "small"
    error = found[1].error
    assert error is not None and error.cause is Cause.REFUSED and "small: the answer fails the check" in error.message
    await engine.close()


async def test_two_samples_must_agree() -> None:
    seen: list[str] = []

    def answer(text: str) -> str:
        seen.append(text)
        return f"{text} {seen.count(text)}" if text == "unsure" else f" {text.upper() if len(seen) % 2 else text}"

    engine = CheckedEngine(FunctionEngine(answer, workers=1), check_of({"agree": True}), "small")
    found = await answers(engine, "sure", "unsure")
    assert set(found) == {0, 1}
    assert found[0].error is None
    assert found[1].error is not None and "two samples differ" in found[1].error.message
    assert sorted(seen) == ["sure", "sure", "unsure", "unsure"]
    await engine.close()
