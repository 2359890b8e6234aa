"""Results as the lines of an OpenAI batch's output file, each in the shape that its endpoint's API has.

https://platform.openai.com/docs/api-reference/batch; the SDK's own types are the oracle of the tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from batch.export.records import plain, said
from batch.job import BatchJob, BatchResult
from batch.sources.text import replace_surrogates_in


class _Body(NamedTuple):
    """What every body is made of."""

    result: BatchResult
    name: str  # twenty digits, for its ids
    model: str
    created: int  # seconds since 1970


def openai_record(job: BatchJob, result: BatchResult, created: int) -> dict[str, Any]:
    """A line of an OpenAI batch's output file.

    A line is asked for again by its custom_id, so every one has one; ids are made from the job's and the index, so
    that a second export is the same.
    """
    digest = hashlib.sha256(f"{job.job_id}:{result.prompt_index}".encode("utf-8", "replace")).hexdigest()
    custom_id = f"request-{result.prompt_index}" if result.custom_id is None else plain(result.custom_id)
    record: dict[str, Any] = {
        "id": f"batch_req_{digest[:20]}",
        "custom_id": custom_id,
        "response": None,
        "error": None,
    }
    if not result.success:
        record["error"] = {"code": str(result.error_class or "error"), "message": plain(result.error_message)}
        return record
    model = plain(str(result.model or said(result, "model") or job.model_id))
    body = _BODIES.get(result.endpoint or "chat", _chat)(_Body(result, digest[20:40], model, created))
    record["response"] = {"status_code": 200, "request_id": f"req_{digest[40:60]}", "body": body}
    return record


def _chat(body: _Body) -> dict[str, Any]:
    result = body.result
    return {
        "id": f"chatcmpl-{body.name}",
        "object": "chat.completion",
        "created": body.created,
        "model": body.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": plain(result.response_text), "refusal": None},
                "logprobs": _chat_logprobs(result),
                "finish_reason": plain(str(said(result, "finish_reason") or "stop")),
            }
        ],
        "usage": _usage(result),
    }


def _completion(body: _Body) -> dict[str, Any]:
    result = body.result
    return {
        "id": f"cmpl-{body.name}",
        "object": "text_completion",
        "created": body.created,
        "model": body.model,
        "choices": [
            {
                "text": plain(result.response_text),
                "index": 0,
                "logprobs": _completion_logprobs(result),
                "finish_reason": plain(str(said(result, "finish_reason") or "stop")),
            }
        ],
        "usage": _usage(result),
    }


def _response(body: _Body) -> dict[str, Any]:
    result = body.result
    cut = said(result, "finish_reason") == "length"
    status = "incomplete" if cut else "completed"
    part: dict[str, Any] = {"type": "output_text", "text": plain(result.response_text), "annotations": []}
    if (pairs := _pairs(result)) is not None:
        part["logprobs"] = [
            {"token": token, "bytes": _bytes(token) or [], "logprob": value, "top_logprobs": []}
            for token, value in pairs
        ]
    return {
        "id": f"resp_{body.name}",
        "object": "response",
        "created_at": body.created,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": None,
        "metadata": {},
        "model": body.model,
        "output": [
            {"type": "message", "id": f"msg_{body.name}", "status": status, "role": "assistant", "content": [part]}
        ],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": {
            "input_tokens": result.tokens_input,
            "input_tokens_details": {"cached_tokens": result.tokens_cached, "cache_write_tokens": 0},
            "output_tokens": result.tokens_output,
            "output_tokens_details": {"reasoning_tokens": result.tokens_reasoning},
            "total_tokens": result.tokens_input + result.tokens_output,
        },
    }


_BODIES: dict[str, Callable[[_Body], dict[str, Any]]] = {
    "chat": _chat,
    "completions": _completion,
    "responses": _response,
}


def _usage(result: BatchResult) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "prompt_tokens": result.tokens_input,
        "completion_tokens": result.tokens_output,
        "total_tokens": result.tokens_input + result.tokens_output,
    }
    if result.tokens_cached:
        usage["prompt_tokens_details"] = {"cached_tokens": result.tokens_cached}
    if result.tokens_reasoning:
        usage["completion_tokens_details"] = {"reasoning_tokens": result.tokens_reasoning}
    return usage


def _pairs(result: BatchResult) -> list[tuple[str, float]] | None:
    """Each token's text and log probability, where a local engine was asked; older answers have no texts."""
    values = said(result, "logprobs")
    if not isinstance(values, list):
        return None
    if all(isinstance(value, int | float) for value in values):
        tokens = said(result, "logprob_tokens")
        texts = tokens if isinstance(tokens, list) and len(tokens) == len(values) else [""] * len(values)
        return [(plain(str(text)), float(value)) for text, value in zip(texts, values, strict=True)]
    return None


def _chat_logprobs(result: BatchResult) -> Any:
    pairs = _pairs(result)
    if pairs is None:  # a server's own are in its API's form already
        return replace_surrogates_in(said(result, "logprobs"))[0]
    content = [{"token": token, "bytes": _bytes(token), "logprob": value, "top_logprobs": []} for token, value in pairs]
    return {"content": content, "refusal": None}


def _completion_logprobs(result: BatchResult) -> Any:
    pairs = _pairs(result)
    if pairs is None:
        return replace_surrogates_in(said(result, "logprobs"))[0]
    offsets, at = [], 0
    for token, _ in pairs:
        offsets.append(at)
        at += len(token)
    return {
        "tokens": [token for token, _ in pairs],
        "token_logprobs": [value for _, value in pairs],
        "top_logprobs": None,
        "text_offset": offsets,
    }


def _bytes(token: str) -> list[int] | None:
    """The token's bytes; None where its text is only a part of a character, whose bytes are not known here."""
    return None if not token or "\ufffd" in token else list(token.encode("utf-8"))
