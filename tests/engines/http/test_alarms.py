"""Alarms: another model, a prompt cut short, a schema ignored, an answer repeated; and none where nothing is wrong."""

from __future__ import annotations

import pytest

from batch.engines.http.alarms import Alarms, same_model, schema_problem
from batch.engines.http.wire import Reply
from batch.prices import Usage

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def reply(text: str = "fine", tokens: int = 100, output: int = 10, finish: str = "stop", model: str = "m") -> Reply:
    return Reply(text, "", finish, True, model, Usage(tokens, output))


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("gpt-5.4", "gpt-5.4-2026-03-05"),
        ("llama3", "llama3:latest"),
        ("SmolLM2.gguf", "/models/SmolLM2.gguf"),
        ("org/model", "model"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
    ],
)
def test_names_of_the_same_model(asked: str, answered: str) -> None:
    assert same_model(asked, answered)


@pytest.mark.parametrize(("asked", "answered"), [("gpt-5.4", "gpt-5.4-mini"), ("qwen3-8b", "qwen3-4b"), ("a", "b")])
def test_names_of_another(asked: str, answered: str) -> None:
    assert not same_model(asked, answered)


def test_another_model() -> None:
    alarms = Alarms("big")
    assert alarms.look(b"x", reply(model="small"), None) == ["asked for big, answered by small"]
    assert alarms.look(b"x", reply(model="big"), None) == []
    assert alarms.counts == {"another model": 1}


def test_a_prompt_cut_short() -> None:
    alarms = Alarms("m")
    for n in range(6):
        assert alarms.look(b"word " * (800 + n), reply(tokens=1000 + n), None) == []
    assert (
        "counted 1,000 tokens in a prompt of 20,000 bytes" in alarms.look(b"word " * 4000, reply(tokens=1000), None)[0]
    )
    assert alarms.look("漢字".encode() * 500, reply(tokens=1500), None) == []


def test_a_prompt_cut_from_the_first() -> None:
    assert Alarms("m").look(b"word " * 40_000, reply(tokens=4000), None)


def test_a_total_that_sits_on_the_limit() -> None:
    alarms = Alarms("m", context=4096)
    assert alarms.look(b"word " * 3200, reply(tokens=4000, output=96, finish="length"), None)
    assert not alarms.look(b"word " * 3200, reply(tokens=4000, output=95, finish="stop"), None)


def test_a_prompt_that_is_longer_than_the_context_and_answered_all_the_same() -> None:
    """As `transformers serve` was seen to do: 6,011 tokens into a model of 2,048."""
    alarms = Alarms("m", context=2048)
    assert "6,027 tokens of prompt and answer" in alarms.look(b"word " * 4800, reply(tokens=6011, output=16), None)[0]
    assert alarms.counts == {"past the context": 1}


def test_a_schema_ignored() -> None:
    alarms = Alarms("m")
    assert not alarms.look(b"x", reply('{"age": 3}'), SCHEMA)
    assert "it is not JSON" in alarms.look(b"x", reply("He is three."), SCHEMA)[0]
    assert "'three' is not of type 'integer'" in alarms.look(b"x", reply('{"age": "three"}'), SCHEMA)[0]
    assert schema_problem("{}", {"type": "nonsense"}) is not None


def test_an_answer_repeated() -> None:
    alarms = Alarms("m")
    text = "I am sorry, but as a language model I cannot do that for you."
    seen = [alarms.look(f"prompt {n}".encode(), reply(text), None) for n in range(4)]
    assert [bool(found) for found in seen] == [False, False, True, True]
    assert not any(alarms.look(b"the same prompt", reply("x" * 50), None) for _ in range(5))
    assert not any(alarms.look(f"q{n}".encode(), reply("yes"), None) for n in range(50))
