"""One JSON value of an input file -> the request it stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache, lru_cache, partial
from typing import Any

from batch.items import Request
from batch.options import OptionError, SamplingOptions, parse_option
from batch.sources.openai import CHAT, MalformedEntry, read_body

_ALIASES = {"max_completion_tokens": "max_tokens", "max_output_tokens": "max_tokens"}
_SHOWN_KEYS = 8


@cache
def _sampling_names() -> frozenset[str]:
    return frozenset(f.name for f in fields(SamplingOptions))


@lru_cache(maxsize=1024, typed=True)  # a file's lines mostly ask for the same
def _parsed(name: str, value: str | float) -> Any:
    return parse_option(SamplingOptions, name, value)


def request_of(value: object, column: str | None = None) -> Request:
    """A string, `{"prompt"}`, `{"messages"}`, a list of messages, or a line of an OpenAI batch file as a request.

    `column` names the key to take instead of `prompt`. Raises MalformedEntry.
    """
    if isinstance(value, str):
        return Request(value)
    if isinstance(value, dict):
        if column is None and isinstance(value.get("body"), dict):
            return _batch_line(value)
        return _record(value, column)
    if isinstance(value, list):
        return _request(value, {})
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Request(str(value))
    raise MalformedEntry(f"{json.dumps(value)} is not a prompt")


def text_of(message: Mapping[str, Any]) -> str:
    """The text of one chat message; of a list of parts, the text parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (part.get("text") if isinstance(part, dict) else part for part in content)
        return "\n".join(text for text in texts if isinstance(text, str))
    return ""


def is_empty(request: Request) -> bool:
    """Whether there is nothing to answer: no text, and in a chat no message but the system's with any content."""
    if request.text.strip():
        return False
    if not request.extra or "messages" not in request.extra:
        return True
    turns = [m for m in request.extra["messages"] if m["role"] not in ("system", "developer")]
    return not any(text_of(m).strip() or _has_other_parts(m) for m in turns)


def other_parts(messages: list[Any]) -> set[str]:
    """The types of a chat's parts that are no text."""
    found: set[str] = set()
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            found |= {str(p.get("type")) if isinstance(p, dict) else type(p).__name__ for p in content} - {"text"}
    return found


def _has_other_parts(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return bool(message.get("tool_calls")) or any(isinstance(p, dict) and p.get("type") != "text" for p in parts)


def _record(value: dict[str, Any], column: str | None) -> Request:
    rest = dict(value)
    key = column or ("messages" if "messages" in rest else "prompt")
    if key not in rest:
        found = ", ".join(list(rest)[:_SHOWN_KEYS]) or "no keys at all"
        wanted = f'no "{column}"' if column else 'neither "prompt" nor "messages"'
        raise MalformedEntry(f"the object has {wanted}; it has {found}")
    content = rest.pop(key)
    extra: dict[str, Any] = {}
    _take_id(rest, extra, "custom_id")
    if "custom_id" not in extra and _is_id(rest.get("id")):
        _take_id(rest, extra, "id")
    _take_params(rest, extra, _sampling_names())
    if isinstance(rest.get("response_format"), dict):
        extra.setdefault("params", {})["response_format"] = rest.pop("response_format")
    request = _request(content, extra, key)
    return replace(request, columns=rest) if rest else request


def _batch_line(value: dict[str, Any]) -> Request:
    """`{"custom_id", "method", "url", "body"}` as OpenAI's batch API takes it; body: chat, completion or response."""
    extra: dict[str, Any] = {"openai_batch": True}
    _take_id(dict(value), extra, "custom_id")
    asked = read_body(str(value.get("url", "")), value["body"])
    body = asked.rest
    if asked.endpoint != CHAT:
        extra["endpoint"] = asked.endpoint
    _take_params(body, extra, _sampling_names() - {"system"})
    model = body.pop("model", None)
    if model is not None:
        extra["model"] = str(model)
    body.pop("stream", None)
    rest = {name: item for name, item in body.items() if item is not None}
    if rest:
        extra["body"] = rest  # what an engine that speaks this protocol may still pass on
    return replace(_request(asked.content, extra, asked.key), model=extra.get("model"))


def _request(content: object, extra: dict[str, Any], key: str = "messages") -> Request:
    if isinstance(content, list):
        _check_messages(content, key)
        extra["messages"] = content
        users = [m for m in content if m["role"] == "user"]
        return Request(text_of((users or content)[-1]), extra)
    if isinstance(content, int | float) and not isinstance(content, bool):
        content = str(content)
    if not isinstance(content, str) or key == "messages":
        kind = "null" if content is None else type(content).__name__
        wanted = "a list of messages" if key == "messages" else "a text"
        raise MalformedEntry(f'"{key}" is {kind}, not {wanted}')
    return Request(content, extra or None)


def _check_messages(messages: list[Any], key: str) -> None:
    if not messages:
        raise MalformedEntry(f'"{key}" is an empty list')
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise MalformedEntry(f'message {number} is not an object with a "role"')
        if not isinstance(message.get("content"), str | list | None):
            raise MalformedEntry(f'the "content" of message {number} is not a text')


def _is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _take_id(rest: dict[str, Any], extra: dict[str, Any], key: str) -> None:
    value = rest.pop(key, None)
    if value is None:
        return
    if not _is_id(value):
        raise MalformedEntry(f'"{key}" is {type(value).__name__}, not a text')
    extra["custom_id"] = str(value)


def _take_params(rest: dict[str, Any], extra: dict[str, Any], names: frozenset[str]) -> None:
    params: dict[str, Any] = {}
    for key in list(rest):
        name = _ALIASES.get(key, key)
        if name not in names:
            continue
        value = rest.pop(key)
        if value is None:
            continue
        if name == "json_schema":
            params[name] = _schema(value)
            continue
        if isinstance(value, dict) or (isinstance(value, list) and name != "stop"):
            raise MalformedEntry(f'"{key}" is not one value')
        try:
            parse = _parsed if isinstance(value, str | float | int) else partial(parse_option, SamplingOptions)
            params[name] = parse(name, value)
        except OptionError as error:
            raise MalformedEntry(str(error)) from None
    if params:
        extra["params"] = params


def _schema(value: object) -> dict[str, Any]:
    """An item's schema: an object, or one as JSON. Never the name of a file, which only who starts a job may name."""
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        raise MalformedEntry('"json_schema" is neither an object nor JSON that holds one')
    try:
        schema: dict[str, Any] = parse_option(SamplingOptions, "json_schema", value)
    except OptionError as error:
        raise MalformedEntry(str(error)) from None
    return schema
