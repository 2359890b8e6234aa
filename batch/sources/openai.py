"""Lines of an OpenAI batch file: each endpoint's body, as its API has it, to what a request holds.

Chats: https://platform.openai.com/docs/api-reference/chat/create, completions: …/completions/create, responses:
…/responses/create.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

CHAT, COMPLETIONS, RESPONSES = "chat", "completions", "responses"
_LOGPROBS = "message.output_text.logprobs"
# What the answer would depend on and is not in the line.
_ELSEWHERE = ("previous_response_id", "conversation", "prompt")


class MalformedEntry(ValueError):
    """This entry cannot be a request; the text says why, without the line."""


class Asked(NamedTuple):
    """What a body asks: its endpoint, the prompt or the turns of a chat, and the rest of the body."""

    endpoint: str
    key: str  # what the content is called in the body
    content: object
    rest: dict[str, Any]


class _Endpoint(NamedTuple):
    path: str  # what its URL ends with
    keys: tuple[str, ...]  # where its content may be
    read: Callable[[str, dict[str, Any]], Any]


def read_body(url: str, body: Mapping[str, Any]) -> Asked:
    """What the body of a line asks; without an URL its keys tell the endpoint. Raises MalformedEntry."""
    rest = dict(body)
    name = next((name for name, e in _ENDPOINTS.items() if url.rstrip("/").endswith(e.path)), None)
    if url.rstrip("/").endswith(("/embeddings", "/moderations")):
        raise MalformedEntry(f"{url} is not answered with text; use /v1/chat/completions")
    if name is None:
        name = CHAT if "messages" in rest else RESPONSES if "input" in rest else COMPLETIONS
        if not {"messages", "input", "prompt"} & rest.keys():
            raise MalformedEntry('the body has neither "messages" nor "prompt"')
    endpoint = _ENDPOINTS[name]
    key = next((key for key in endpoint.keys if key in rest), None)
    if key is None:
        raise MalformedEntry(f'the body of a line for {url} has no "{endpoint.keys[0]}"')
    return Asked(name, key, endpoint.read(key, rest), rest)


def _chat(key: str, rest: dict[str, Any]) -> Any:
    return rest.pop(key)


def _completion(key: str, rest: dict[str, Any]) -> Any:
    """The text to go on with; `logprobs` is a number there, of other likely tokens beside the one that was picked."""
    content = rest.pop(key)
    if isinstance(content, list):
        if any(isinstance(part, int | list) for part in content):
            raise MalformedEntry(f'"{key}" holds token ids; give it as text')
        if len(content) != 1:
            raise MalformedEntry(f'"{key}" holds {len(content):,} prompts; give each a line of its own')
        content = content[0]
    number = rest.pop("logprobs", None)
    if number is not None and number is not False:
        rest["logprobs"] = True
        if number is not True and number:
            rest["top_logprobs"] = number
    return content


def _response(key: str, rest: dict[str, Any]) -> Any:
    """The input as turns of a chat; options under the names that a chat has for them."""
    for name in _ELSEWHERE:
        if rest.pop(name, None) is not None:
            raise MalformedEntry(f'"{name}" names what is kept at OpenAI and not here')
    content = rest.pop(key)
    if isinstance(content, list):
        content = [_turn(number, item) for number, item in enumerate(content, 1)]
    instructions = rest.pop("instructions", None)
    if instructions is not None:
        if not isinstance(instructions, str):
            raise MalformedEntry('"instructions" is not a text')
        turns = content if isinstance(content, list) else [{"role": "user", "content": content}]
        content = [{"role": "system", "content": instructions}, *turns]
    _take_format(rest)
    included = rest.pop("include", None)
    if isinstance(included, list):
        if _LOGPROBS in included:
            rest["logprobs"] = True
        if others := [name for name in included if name != _LOGPROBS]:
            rest["include"] = others
    if not rest.get("background"):
        rest.pop("background", None)
    return content


def _take_format(rest: dict[str, Any]) -> None:
    """`text: {format}` is a chat's `response_format`, whose schema lies one deeper."""
    text = rest.pop("text", None)
    if not isinstance(text, dict):
        return
    form = text.get("format")
    if isinstance(form, dict) and form.get("type") == "json_schema":
        schema = {name: value for name, value in form.items() if name != "type"}
        rest["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif isinstance(form, dict) and form.get("type") != "text":
        rest["response_format"] = form
    if others := {name: value for name, value in text.items() if name != "format" and value is not None}:
        rest["text"] = others


def _turn(number: int, item: object) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise MalformedEntry(f"item {number} of the input is not an object")
    kind = item.get("type", "message")
    if kind != "message":
        raise MalformedEntry(f"item {number} of the input is of type {kind!r}, and only messages are read")
    if not isinstance(item.get("role"), str):
        raise MalformedEntry(f'item {number} of the input is not an object with a "role"')
    content = item.get("content")
    if isinstance(content, list):
        content = [_part(number, part) for part in content]
    return {"role": item["role"], "content": content}


def _part(number: int, part: object) -> dict[str, Any]:
    """A part of a response's input as the chat has it."""
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict):
        text = part.get("refusal" if kind == "refusal" else "text")
        if kind in ("input_text", "output_text", "text", "refusal") and isinstance(text, str):
            return {"type": "text", "text": text}
        if kind == "input_image" and isinstance(part.get("image_url"), str):
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    raise MalformedEntry(f"item {number} of the input has a part that cannot be read: {kind or 'no type'}")


# By the longest path first, as one ends with another.
_ENDPOINTS: dict[str, _Endpoint] = {
    CHAT: _Endpoint("/chat/completions", ("messages", "prompt", "input"), _chat),
    COMPLETIONS: _Endpoint("/completions", ("prompt",), _completion),
    RESPONSES: _Endpoint("/responses", ("input",), _response),
}
