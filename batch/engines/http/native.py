"""Two wire formats beside OpenAI's: Anthropic's messages, and Ollama's own chat.

Sources: Anthropic's API reference and the types of its SDK (2.14); Ollama's docs/api.md. Ollama's OpenAI endpoint
ignores `num_ctx` and cuts longer prompts in silence, so its own chat is used, with the context said in each request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from batch.engines.http.server import Server
from batch.engines.http.wire import Reply, WireError, _count, messages_of, sampling, text_of
from batch.items import Request
from batch.options import SamplingOptions
from batch.prices import Usage

ANTHROPIC_VERSION = "2023-06-01"

_ANTHROPIC_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class AnthropicWire:
    """`POST /v1/messages`."""

    path = "/v1/messages"
    lines = False

    def body(
        self, server: Server, request: Request, options: SamplingOptions, left_out: Callable[[str], None]
    ) -> dict[str, Any]:
        """The request as JSON: system turns apart, the rest in turns."""
        messages = messages_of(request, options)
        system = "\n\n".join(text_of(m.get("content")) for m in messages if m.get("role") in ("system", "developer"))
        turns = [m for m in messages if m.get("role") not in ("system", "developer")]
        body: dict[str, Any] = {"model": server.model, "max_tokens": options.max_tokens, "messages": turns}
        if system:
            body["system"] = system
        body |= sampling(server, options, {"stop": "stop_sequences"}, left_out)
        if options.json_schema is not None and server.schema == "native":
            body["output_config"] = {"format": {"type": "json_schema", "schema": options.json_schema}}
        return body

    def streamed(self, server: Server, body: dict[str, Any]) -> dict[str, Any]:
        """With `stream`."""
        return body | {"stream": True}

    def read(self, data: Mapping[str, Any]) -> Reply:
        """The text blocks together; thinking apart."""
        blocks = data.get("content")
        if not isinstance(blocks, list):
            raise WireError("no content in the answer")
        reply = Reply(done=True, model=str(data.get("model") or ""), finish=_anthropic_finish(data.get("stop_reason")))
        for block in blocks:
            if isinstance(block, Mapping):
                reply.text += text_of(block.get("text")) if block.get("type") == "text" else ""
                reply.reasoning += text_of(block.get("thinking"))
        reply.usage = _anthropic_usage(data.get("usage"), None)
        return reply

    def piece(self, data: Mapping[str, Any], reply: Reply) -> None:
        """One event of the stream, by its type."""
        kind = data.get("type")
        if kind == "message_start" and isinstance(data.get("message"), Mapping):
            message = data["message"]
            reply.model = str(message.get("model") or "")
            reply.usage = _anthropic_usage(message.get("usage"), None)
        elif kind == "content_block_delta" and isinstance(data.get("delta"), Mapping):
            reply.text += text_of(data["delta"].get("text"))
            reply.reasoning += text_of(data["delta"].get("thinking"))
        elif kind == "message_delta":
            delta = data.get("delta")
            if isinstance(delta, Mapping) and delta.get("stop_reason"):
                reply.finish = _anthropic_finish(delta["stop_reason"])
            reply.usage = _anthropic_usage(data.get("usage"), reply.usage)
        elif kind == "message_stop":
            reply.done = True
        elif kind == "error":
            error = data.get("error")
            raise WireError(text_of(error.get("message")) if isinstance(error, Mapping) else "an error in the stream")


def _anthropic_finish(reason: Any) -> str | None:
    return _ANTHROPIC_FINISH.get(reason, str(reason)) if reason else None


def _anthropic_usage(data: Any, before: Usage | None) -> Usage | None:
    """Anthropic counts cache reads and writes beside `input_tokens`; ours are parts of the input."""
    if not isinstance(data, Mapping):
        return before
    cached, written = _count(data.get("cache_read_input_tokens")), _count(data.get("cache_creation_input_tokens"))
    tokens = _count(data.get("input_tokens"))
    details = data.get("output_tokens_details")
    thinking = _count(details.get("thinking_tokens")) if isinstance(details, Mapping) else 0
    if before is not None and not tokens:  # a delta that counts the output alone
        return Usage(before.input, _count(data.get("output_tokens")), before.cached, before.cache_write, thinking)
    return Usage(tokens + cached + written, _count(data.get("output_tokens")), cached, written, thinking)


class OllamaWire:
    """`POST /api/chat`."""

    path = "/api/chat"
    lines = True

    def body(
        self, server: Server, request: Request, options: SamplingOptions, left_out: Callable[[str], None]
    ) -> dict[str, Any]:
        """The request as JSON, with the length of the context, which else is 4,096 whatever the model can."""
        chosen: dict[str, Any] = {"num_predict": options.max_tokens}
        if server.context:
            chosen["num_ctx"] = server.context
        chosen |= sampling(server, options, {"repetition_penalty": "repeat_penalty"}, left_out)
        messages = [{**m, "content": text_of(m.get("content"))} for m in messages_of(request, options)]
        body: dict[str, Any] = {"model": server.model, "messages": messages, "stream": False, "options": chosen}
        if options.json_schema is not None and server.schema == "native":
            body["format"] = options.json_schema
        return body

    def streamed(self, server: Server, body: dict[str, Any]) -> dict[str, Any]:
        """As JSON lines."""
        return body | {"stream": True}

    def read(self, data: Mapping[str, Any]) -> Reply:
        """The message of a whole answer."""
        reply = Reply()
        self.piece(data, reply)
        if not isinstance(data.get("message"), Mapping):
            raise WireError("no message in the answer")
        return reply

    def piece(self, data: Mapping[str, Any], reply: Reply) -> None:
        """One line of the stream; the last one has the counts."""
        if data.get("error"):
            raise WireError(text_of(data["error"]) or "an error in the stream")
        message = data.get("message")
        if isinstance(message, Mapping):
            reply.text += text_of(message.get("content"))
            reply.reasoning += text_of(message.get("thinking"))
        reply.model = str(data.get("model") or reply.model)
        if data.get("done"):
            reply.done, reply.finish = True, str(data.get("done_reason") or "stop")
            reply.usage = Usage(_count(data.get("prompt_eval_count")), _count(data.get("eval_count")))
