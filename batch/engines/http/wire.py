"""How a request is written and an answer is read: what every wire format has, and OpenAI's three.

Sources: OpenAI API reference (chat completions, completions, embeddings, server-sent events), and what llama.cpp,
vLLM, mlx-lm and transformers serve were seen to answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from batch.engines.http.server import Server
from batch.items import Request
from batch.options import SamplingOptions
from batch.prices import NANOS, Usage


class WireError(Exception):
    """The server answered with success, but with what is no answer; the text says what was missing."""


@dataclass(slots=True)
class Reply:
    """One answer as read: whole, or as far as a stream has come."""

    text: str = ""
    reasoning: str = ""
    finish: str | None = None  # finish_reason in OpenAI's words: stop, length, content_filter, tool_calls
    done: bool = False  # the server said that the answer is whole
    model: str = ""
    usage: Usage | None = None
    cost: int | None = None  # billionths of a dollar, where the server says what it charged
    extra: dict[str, Any] = field(default_factory=dict)


class Wire(Protocol):
    """One way of talking to a server."""

    path: str  # below the base address
    lines: bool  # whether a stream is JSON lines rather than server-sent events

    def body(
        self, server: Server, request: Request, options: SamplingOptions, left_out: Callable[[str], None]
    ) -> dict[str, Any]:
        """The request as JSON; `left_out` is told of each option that the server does not take."""
        ...

    def streamed(self, server: Server, body: dict[str, Any]) -> dict[str, Any]:
        """The same request, asked to be streamed."""
        ...

    def read(self, data: Mapping[str, Any]) -> Reply:
        """A whole answer; raises WireError for what is none."""
        ...

    def piece(self, data: Mapping[str, Any], reply: Reply) -> None:
        """Put the next event of a stream into the reply."""
        ...


def prompt_bytes(request: Request) -> bytes:
    """All that is sent as the prompt, for its length and to tell it from others."""
    if request.extra and "messages" in request.extra:
        return orjson.dumps(request.extra["messages"], default=str)
    return request.text.encode("utf-8", "replace")


def messages_of(request: Request, options: SamplingOptions) -> list[dict[str, Any]]:
    """The chat, under the system prompt of the options where it has none."""
    messages = request.messages
    if options.system and not any(m.get("role") in ("system", "developer") for m in messages):
        return [{"role": "system", "content": options.system}, *messages]
    return messages


_PLAIN = SamplingOptions()


def sampling(
    server: Server, options: SamplingOptions, names: Mapping[str, str], left_out: Callable[[str], None]
) -> dict[str, Any]:
    """The sampling options that differ from "as the model does", by the server's names; temperature always."""
    values: dict[str, Any] = {}
    for option in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop"):
        value = getattr(options, option)
        if option != "temperature" and value == getattr(_PLAIN, option):
            continue
        if option in server.accepts:
            values[names.get(option, option)] = value
        else:
            left_out(option)
    return values


def usage_of(data: Any) -> Usage | None:
    """Tokens from an OpenAI `usage` object, by the names of others too; None where there is none."""
    if not isinstance(data, dict) or not _count(data.get("prompt_tokens"), data.get("input_tokens")):
        return None
    if len(data) <= 3 and not _MORE_USAGE.intersection(data):  # as most servers on one's own machine have it
        return Usage(
            _count(data.get("prompt_tokens"), data.get("input_tokens")),
            _count(data.get("completion_tokens"), data.get("output_tokens")),
        )
    prompt = data.get("prompt_tokens_details") or data.get("input_tokens_details") or {}
    completion = data.get("completion_tokens_details") or data.get("output_tokens_details") or {}
    return Usage(
        _count(data.get("prompt_tokens"), data.get("input_tokens")),
        _count(data.get("completion_tokens"), data.get("output_tokens")),
        _count(prompt.get("cached_tokens"), data.get("prompt_cache_hit_tokens")),
        _count(prompt.get("cache_write_tokens")),
        _count(completion.get("reasoning_tokens")),
    )


_MORE_USAGE = frozenset(
    {
        *("prompt_tokens_details", "input_tokens_details", "completion_tokens_details", "output_tokens_details"),
        "prompt_cache_hit_tokens",
    }
)


def reported_cost(usage: Any) -> int | None:
    """What the server says it charged (OpenRouter's `usage.cost` in dollars, xAI's `cost_in_usd_ticks` of 1e-10)."""
    if not isinstance(usage, dict):
        return None
    cost, ticks = usage.get("cost"), usage.get("cost_in_usd_ticks")
    if isinstance(ticks, int) and ticks >= 0:
        return round(ticks / 10)
    if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost < 1e6:
        return round(cost * NANOS)
    return None


def _count(*values: Any) -> int:
    for value in values:
        if type(value) is int and 0 <= value < 1 << 53:
            return value
    return 0


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return ""


class ChatWire:
    """`POST /chat/completions`."""

    path = "/chat/completions"
    lines = False

    def body(
        self, server: Server, request: Request, options: SamplingOptions, left_out: Callable[[str], None]
    ) -> dict[str, Any]:
        """The request as JSON."""
        body: dict[str, Any] = {"model": server.model, "messages": messages_of(request, options)}
        body[server.max_tokens_name] = options.max_tokens
        body |= sampling(server, options, {"repetition_penalty": server.repetition_name}, left_out)
        if options.json_schema is not None:
            if server.schema == "json_schema":
                form = {"name": "answer", "schema": options.json_schema, "strict": True}
                body["response_format"] = {"type": "json_schema", "json_schema": form}
            elif server.schema == "json_object":
                body["response_format"] = {"type": "json_object"}
        return body

    def streamed(self, server: Server, body: dict[str, Any]) -> dict[str, Any]:
        """With `stream`, and usage in the last event where the server has that."""
        more: dict[str, Any] = {"stream": True}
        if server.stream_usage:
            more["stream_options"] = {"include_usage": True}
        return body | more

    def read(self, data: Mapping[str, Any]) -> Reply:
        """The first choice."""
        choice = _choice(data)
        message = choice.get("message")
        if not isinstance(message, dict):
            raise WireError("a choice without a message")
        reply = Reply(text_of(message.get("content")), _reasoning(message), choice.get("finish_reason"), True)
        if message.get("refusal") and not reply.text:
            raise WireError(f"the model refused: {text_of(message['refusal'])[:200]}")
        self._common(data, choice, reply)
        if message.get("tool_calls"):
            reply.extra["tool_calls"] = message["tool_calls"]
        return reply

    def piece(self, data: Mapping[str, Any], reply: Reply) -> None:
        """One chunk: a delta, a finish reason, or the usage at the end."""
        choices = data.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        delta = choice.get("delta")
        if isinstance(delta, dict):
            reply.text += text_of(delta.get("content"))
            reply.reasoning += _reasoning(delta)
        if choice.get("finish_reason"):
            reply.finish, reply.done = str(choice["finish_reason"]), True
        self._common(data, choice, reply)

    @staticmethod
    def _common(data: Mapping[str, Any], choice: Mapping[str, Any], reply: Reply) -> None:
        reply.model = str(data.get("model") or reply.model)
        if (usage := usage_of(data.get("usage"))) is not None:
            reply.usage, reply.cost = usage, reported_cost(data.get("usage"))
        if choice.get("logprobs"):
            reply.extra["logprobs"] = choice["logprobs"]
        if data.get("system_fingerprint"):
            reply.extra["system_fingerprint"] = data["system_fingerprint"]


class CompletionsWire(ChatWire):
    """`POST /completions`: the prompt as it is, without a chat template."""

    path = "/completions"

    def body(
        self, server: Server, request: Request, options: SamplingOptions, left_out: Callable[[str], None]
    ) -> dict[str, Any]:
        """The request as JSON."""
        prompt = request.text if not options.system else f"{options.system}\n\n{request.text}"
        body: dict[str, Any] = {"model": server.model, "prompt": prompt, "max_tokens": options.max_tokens}
        body |= sampling(server, options, {"repetition_penalty": server.repetition_name}, left_out)
        if options.json_schema is not None and server.schema == "json_schema":
            form = {"name": "answer", "schema": options.json_schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    def read(self, data: Mapping[str, Any]) -> Reply:
        """The text of the first choice."""
        choice = _choice(data)
        reply = Reply(text_of(choice.get("text")), "", choice.get("finish_reason"), True)
        self._common(data, choice, reply)
        return reply

    def piece(self, data: Mapping[str, Any], reply: Reply) -> None:
        """One chunk."""
        choices = data.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        reply.text += text_of(choice.get("text"))
        if choice.get("finish_reason"):
            reply.finish, reply.done = str(choice["finish_reason"]), True
        self._common(data, choice, reply)


class EmbeddingsWire:
    """`POST /embeddings`: the answer's text is the vector as a JSON array."""

    path = "/embeddings"
    lines = False

    def body(
        self, server: Server, request: Request, options: SamplingOptions, left_out: Callable[[str], None]
    ) -> dict[str, Any]:
        """The request as JSON."""
        return {"model": server.model, "input": request.text, "encoding_format": "float"}

    def streamed(self, server: Server, body: dict[str, Any]) -> dict[str, Any]:
        """There is nothing to stream."""
        return body

    def read(self, data: Mapping[str, Any]) -> Reply:
        """The first embedding."""
        found = data.get("data")
        vector = (
            found[0].get("embedding") if isinstance(found, list) and found and isinstance(found[0], Mapping) else None
        )
        if not isinstance(vector, list) or not vector:
            raise WireError("no embedding in the answer")
        reply = Reply(orjson.dumps(vector).decode(), "", "stop", True, str(data.get("model") or ""))
        reply.usage, reply.cost = usage_of(data.get("usage")), reported_cost(data.get("usage"))
        return reply

    def piece(self, data: Mapping[str, Any], reply: Reply) -> None:
        """There is nothing to stream."""


def _choice(data: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise WireError("no choices in the answer")
    return choices[0]


def _reasoning(message: Mapping[str, Any]) -> str:
    first, second = message.get("reasoning_content"), message.get("reasoning")
    return (text_of(first) if first else "") or (text_of(second) if second else "")
