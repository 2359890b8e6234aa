"""Output lines of an OpenAI batch, each endpoint's read by the official SDK's own types."""

from __future__ import annotations

from typing import Any

import pytest

from batch.export.openai import openai_record
from batch.job import BatchJob, BatchResult

openai = pytest.importorskip("openai")
from openai.types import Completion  # noqa: E402
from openai.types.chat import ChatCompletion  # noqa: E402
from openai.types.responses import Response  # noqa: E402

TYPES = {"chat": ChatCompletion, "completions": Completion, "responses": Response}
SAID = {"logprobs": [-0.5, -1.0, -2.0], "logprob_tokens": ["Hé", "\ufffd", " you"]}


def body(endpoint: str, **changes: Any) -> Any:
    values: dict[str, Any] = {"extra": {"finish_reason": "stop"}, "model": "big", "tokens_cached": 2, **changes}
    result = BatchResult(3, "p", "Hé? you", 5, 3, endpoint=endpoint, **values)
    record = openai_record(BatchJob("j", "small", [], 9), result, 1_700_000_000)
    assert record["error"] is None and record["response"]["status_code"] == 200
    return TYPES[endpoint].model_validate(record["response"]["body"], strict=True)


@pytest.mark.parametrize("endpoint", TYPES)
@pytest.mark.parametrize("finish", ["stop", "length"])
@pytest.mark.parametrize("logprobs", [{}, SAID, {"logprobs": [-0.5]}])
def test_the_sdk_reads_every_body(endpoint: str, finish: str, logprobs: dict[str, Any]) -> None:
    read = body(endpoint, extra={"finish_reason": finish, **logprobs})
    assert read.model == "big"  # who answered, not the job's model
    if endpoint == "responses":
        assert read.output_text == "Hé? you"
        assert (read.status, read.usage.total_tokens) == ("completed" if finish == "stop" else "incomplete", 8)
        assert read.usage.input_tokens_details.cached_tokens == 2
        assert bool(read.output[0].content[0].logprobs) == bool(logprobs)
        return
    (choice,) = read.choices
    assert choice.finish_reason == finish
    assert (read.usage.prompt_tokens, read.usage.completion_tokens, read.usage.total_tokens) == (5, 3, 8)
    assert read.usage.prompt_tokens_details.cached_tokens == 2
    assert (choice.text if endpoint == "completions" else choice.message.content) == "Hé? you"
    assert bool(choice.logprobs) == bool(logprobs)


def test_logprobs_have_the_tokens_they_are_of() -> None:
    chat = body("chat", extra=SAID).choices[0].logprobs.content
    assert [(c.token, c.logprob) for c in chat] == list(zip(SAID["logprob_tokens"], SAID["logprobs"], strict=True))
    assert [c.bytes for c in chat] == [list("Hé".encode()), None, list(b" you")]
    bare = body("completions", extra=SAID).choices[0].logprobs
    assert (bare.tokens, bare.token_logprobs) == (SAID["logprob_tokens"], SAID["logprobs"])
    assert bare.text_offset == [0, 2, 3]


def test_what_a_server_said_of_logprobs_stays() -> None:
    said = {"content": [{"token": "a", "bytes": [97], "logprob": -1.0, "top_logprobs": []}], "refusal": None}
    assert body("chat", extra={"logprobs": said}).choices[0].logprobs.content[0].token == "a"


@pytest.mark.parametrize("endpoint", [None, *TYPES])
def test_a_failure_is_an_error_line(endpoint: str | None) -> None:
    result = BatchResult(3, "p", "", success=False, error_message="no", error_class="permanent", endpoint=endpoint)
    record = openai_record(BatchJob("j", "small", [], 9), result, 0)
    assert record["response"] is None and record["error"] == {"code": "permanent", "message": "no"}
