"""A result as the objects that the formats write, in the reference's names and order."""

from __future__ import annotations

from datetime import datetime
from json.encoder import encode_basestring
from typing import Any

from batch.job import BatchJob, BatchResult
from batch.prices import NANOS
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
    if result.meant_why is not None:
        record["meant_for"] = plain(result.meant_for)
        record["reason"] = plain(result.meant_why)
    record["attempts"] = result.attempts
    if reason := said(result, "finish_reason"):
        record["finish_reason"] = plain(str(reason))
    return record | kept_beside(result)


def kept_beside(result: BatchResult) -> dict[str, Any]:
    """What a row has only where there is something to say: cost in dollars, why its model, what a server sent as
    reasoning, columns carried through.
    """
    record: dict[str, Any] = {}
    if result.cost:
        record["cost"] = result.cost / NANOS
    if result.meant_why:
        record["why"] = plain(result.meant_why)
    if isinstance(reasoning := said(result, "reasoning"), str):
        record["reasoning"] = plain(reasoning)
    if result.columns:
        record["columns"] = replace_surrogates_in(result.columns)[0]
    return record


def created_at(job: BatchJob) -> int:
    """When the job was made, in seconds since 1970; a time without zone is local."""
    try:
        return int(datetime.fromisoformat(job.created_at).timestamp())
    except (ValueError, OverflowError, OSError):
        return 0


def said(result: BatchResult, key: str) -> Any:
    """What the engine said beside the text under this name; None where it said nothing."""
    return result.extra.get(key) if result.extra else None
