"""A result as the objects that the formats write, in the reference's names and order."""

from __future__ import annotations

import hashlib
from datetime import datetime
from json.encoder import encode_basestring
from typing import Any

from batch.job import BatchJob, BatchResult
from batch.sources.text import replace_surrogates, replace_surrogates_in


def plain(text: str | None) -> str:
    """A text that UTF-8 can hold."""
    return replace_surrogates(text)[0] if text else ""


def quoted(text: str | None) -> str:
    """A text as json.dumps(ensure_ascii=False) writes it, or null."""
    return "null" if text is None else encode_basestring(plain(text))


def job_record(job: BatchJob) -> dict[str, Any]:
    """The head of a JSON export: the job without its prompts."""
    return {
        "job_id": job.job_id,
        "model_id": job.model_id,
        "total_prompts": job.total_prompts,
        "completed": job.completed,
        "failed": job.failed,
        "status": str(job.status),
        "started_at": job.started_at,
        "completed_at": job.completed_at,
    }


def summary_record(job: BatchJob) -> dict[str, Any]:
    """The foot of a JSON export."""
    return {
        "total": job.total_prompts,
        "completed": job.completed,
        "failed": job.failed,
        "success_rate": job.success_rate,
    }


def result_record(result: BatchResult) -> dict[str, Any]:
    """The eight fields of a result."""
    return {
        "prompt_index": result.prompt_index,
        "prompt": plain(result.prompt),
        "response_text": plain(result.response_text),
        "tokens_input": result.tokens_input,
        "tokens_output": result.tokens_output,
        "duration": result.duration,
        "success": result.success,
        "error_message": None if result.error_message is None else plain(result.error_message),
    }


def line_record(result: BatchResult) -> dict[str, Any]:
    """A JSONL line: the eight fields, and then what there is beside them."""
    record = result_record(result)
    if result.custom_id is not None:
        record["custom_id"] = plain(result.custom_id)
    if result.error_class is not None:
        record["error_class"] = str(result.error_class)
    if result.model is not None:
        record["model"] = plain(result.model)
    record["attempts"] = result.attempts
    if reason := _said(result, "finish_reason"):
        record["finish_reason"] = plain(str(reason))
    return record


def openai_record(job: BatchJob, result: BatchResult, created: int) -> dict[str, Any]:
    """A line of an OpenAI batch's output file (https://platform.openai.com/docs/api-reference/batch).

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
    body = {
        "id": f"chatcmpl-{digest[20:40]}",
        "object": "chat.completion",
        "created": created,
        "model": plain(str(_said(result, "model") or result.model or job.asked_model or job.model_id)),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": plain(result.response_text), "refusal": None},
                "logprobs": replace_surrogates_in(_said(result, "logprobs"))[0],
                "finish_reason": plain(str(_said(result, "finish_reason") or "stop")),
            }
        ],
        "usage": {
            "prompt_tokens": result.tokens_input,
            "completion_tokens": result.tokens_output,
            "total_tokens": result.tokens_input + result.tokens_output,
        },
    }
    record["response"] = {"status_code": 200, "request_id": f"req_{digest[40:60]}", "body": body}
    return record


def created_at(job: BatchJob) -> int:
    """When the job was made, in seconds since 1970; a time without zone is local."""
    try:
        return int(datetime.fromisoformat(job.created_at).timestamp())
    except (ValueError, OverflowError, OSError):
        return 0


def _said(result: BatchResult, key: str) -> Any:
    return result.extra.get(key) if result.extra else None
