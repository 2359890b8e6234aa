"""One row of a dataset -> what to ask, and the answer that is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batch.datasets.answers import clean_answer
from batch.datasets.extract import Template, bare_input, known_input
from batch.datasets.transcripts import role_name, split_transcript
from batch.items import Request
from batch.sources.entries import text_of

Messages = list[dict[str, str]]

# Columns that belong together, the question first. The first pair of which a row has both is taken.
PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("input", "expected"),
    ("input", "output"),
    ("input", "target"),
    ("question", "answer"),
    ("source", "target"),
    ("source", "correction"),
    ("text", "expected"),
    ("text", "target"),
    ("text", "label"),
    ("prompt", "expected"),
    ("prompt", "answer"),
)
# Of these the first column is the bare input, not a prompt that has it in it.
_BARE = frozenset({"input", "source", "text"})
_IDS = ("id", "example_id", "custom_id")
_SHOWN_KEYS = 8


class BadRow(ValueError):
    """This row is no example; the text says why, without the line."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a dataset are called, where that is not plain from their names."""

    messages: str = "messages"
    text: str = "text"
    prompt: str | None = None  # both or neither
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """`messages` are sent; `expected` never is. `input` is the sentence without the words around it."""

    example_id: int  # from 1 on over the examples of the file
    line: int
    messages: Messages
    input: str
    expected: str
    error_type: str | None = None
    name: str | None = None  # the id that the data gives it
    schema: str = field(default="messages", compare=False)  # which kind of row it was

    def request(self) -> Request:
        """The item of a job. What the row is compared with is kept beside it."""
        extra: dict[str, Any] = {
            "messages": self.messages,
            "input": self.input,
            "expected": self.expected,
            "example_id": self.example_id,
        }
        if self.error_type is not None:
            extra["error_type"] = self.error_type
        if self.name is not None:
            extra["custom_id"] = self.name
        return Request(self.input, extra)


def example_of(
    row: object, line: int, example_id: int, columns: Columns | None = None, template: Template | None = None
) -> Example:
    """A row as an example; raises BadRow for one without a question or without a known answer."""
    if not isinstance(row, Mapping):
        raise BadRow(f"{_type_name(row)} instead of an object")
    columns = columns or Columns()
    turns, bare, schema = _turns(row, columns, template)
    place = max((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), default=-1)
    if place < 0:
        raise BadRow("there is no assistant turn, so no answer is known")
    expected = clean_answer(turns[place]["content"])
    if not expected:
        raise BadRow("the expected answer is empty")
    asked = turns[:place]
    question = next((turn["content"] for turn in reversed(asked) if turn["role"] == "user"), "")
    if not question.strip():
        raise BadRow("there is no user turn before the answer" if not asked else "the prompt is empty")
    return Example(
        example_id,
        line,
        asked,
        bare if bare is not None else bare_input(question, template),
        expected,
        _error_type(row),
        next((str(row[key]) for key in _IDS if isinstance(row.get(key), str | int)), None),
        schema,
    )


def _turns(row: Mapping[str, Any], columns: Columns, template: Template | None) -> tuple[Messages, str | None, str]:
    """All turns of a row with its answer as the last of the assistant; the bare input where that is plain."""
    if columns.prompt is not None and columns.expected is not None:
        bare = columns.prompt in _BARE
        return *_pair(row, columns.prompt, columns.expected, template, bare), f"{columns.prompt}/{columns.expected}"
    if columns.messages in row:
        return _chat(row[columns.messages]), None, columns.messages
    if "conversations" in row:
        return _chat(row["conversations"]), None, "conversations"
    if "instruction" in row and "output" in row:
        asked = "\n".join(filter(None, (_text(row, "instruction"), _text(row, "input") if "input" in row else "")))
        bare_text = _text(row, "input") if row.get("input") else None
        return _ask(asked, _text(row, "output")), bare_text, "instruction/output"
    for prompt, expected in PAIRS:
        if prompt in row and expected in row:
            return *_pair(row, prompt, expected, template, prompt in _BARE), f"{prompt}/{expected}"
    if columns.text in row:
        turns = split_transcript(_text(row, columns.text))
        if not turns:
            raise BadRow("the text is no chat, so its answer cannot be told from its question")
        return turns, None, columns.text
    found = ", ".join(str(key) for key in list(row)[:_SHOWN_KEYS]) or "no keys at all"
    raise BadRow(f'neither "messages" nor "prompt" and "completion" nor "text"; there is {found}')


def _pair(
    row: Mapping[str, Any], prompt: str, expected: str, template: Template | None, bare: bool
) -> tuple[Messages, str | None]:
    for key in (prompt, expected):
        if key not in row:
            raise BadRow(f'there is no "{key}"')
    if isinstance(row[prompt], list):  # a chat whose answer stands beside it
        return [*_chat(row[prompt]), {"role": "assistant", "content": _text(row, expected)}], None
    asked, answer = _text(row, prompt), _text(row, expected)
    if not asked.strip():
        raise BadRow("the prompt is empty")
    if template is not None and known_input(asked, template) is None:
        turns = _ask(template.fill(asked), answer)
        if template.system:
            turns.insert(0, {"role": "system", "content": template.system})
        return turns, asked.strip()
    return _ask(asked, answer), asked.strip() if bare and known_input(asked, template) is None else None


def _ask(question: str, answer: str) -> Messages:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _chat(value: object) -> Messages:
    """A list of messages (or that list as JSON, as tables have it) with texts alone."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise BadRow("the messages are a text that is no JSON") from None
    if not isinstance(value, list):
        raise BadRow(f"the messages are {_type_name(value)}, not a list")
    turns = []
    for number, message in enumerate(value, 1):
        if not isinstance(message, dict):
            raise BadRow(f"message {number} is {_type_name(message)}, not an object")
        role = message.get("role", message.get("from"))
        if not isinstance(role, str):
            raise BadRow(f"message {number} has no role")
        content = message.get("content", message.get("value"))
        if not isinstance(content, str | list | None):
            raise BadRow(f"the content of message {number} is {_type_name(content)}, not a text")
        turns.append({"role": role_name(role), "content": text_of({"content": content})})
    return turns


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRow(f'"{key}" is {_type_name(value)}, not a text')
    return str(value)


def _error_type(row: Mapping[str, Any]) -> str | None:
    value = row.get("error_type")
    if isinstance(value, list):
        value = ", ".join(str(part) for part in value)
    return str(value) if isinstance(value, str | int) and str(value) else None


def _type_name(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
