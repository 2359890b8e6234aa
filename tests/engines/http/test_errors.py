"""Errors of servers: every shape of body that is known to come, and what becomes of the item and the job."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.engines.http.errors import failure_of, parse_error
from batch.errors import Cause, ErrorClass

SHAPES: list[tuple[int, Any, str]] = [
    (400, {"error": {"message": "bad thing", "type": "invalid_request_error", "code": None}}, "bad thing"),
    (400, {"error": {"code": 400, "message": "bad thing", "type": "invalid_request_error"}}, "bad thing"),
    (400, {"error": "bad thing"}, "bad thing"),
    (400, {"detail": "bad thing"}, "bad thing"),
    (422, {"detail": [{"loc": ["body", "messages"], "msg": "bad thing"}]}, "body.messages: bad thing"),
    (400, {"object": "error", "message": "bad thing", "type": "BadRequestError", "code": 400}, "bad thing"),
    (400, [{"error": {"code": 400, "message": "bad thing", "status": "INVALID_ARGUMENT"}}], "bad thing"),
    (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "bad thing"}}, "bad thing"),
    (500, "bad thing", "bad thing"),
]


@pytest.mark.parametrize(("status", "body", "message"), SHAPES)
def test_the_message_is_found(status: int, body: Any, message: str) -> None:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    assert parse_error(status, raw).message == message


def test_a_web_page_is_named_and_not_quoted() -> None:
    page = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>" + b"x" * 9999
    error = parse_error(502, page, "text/html")
    assert error.message == "a web page instead of JSON (502 Bad Gateway)"
    assert failure_of(error).error_class is ErrorClass.TRANSIENT


@given(st.binary(max_size=300), st.integers(400, 599))
def test_any_body_is_some_error(body: bytes, status: int) -> None:
    failure = failure_of(parse_error(status, body))
    assert failure.message and "\n" not in failure.message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "message", "detail", "code", "type", "param", "loc", "msg"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_some_error(body: Any) -> None:
    raw = json.dumps(body).encode("utf-8", "surrogatepass")
    assert failure_of(parse_error(400, raw)).message


def classes(status: int, message: str, code: str | None = None, **more: Any) -> tuple[ErrorClass, Cause]:
    body = json.dumps({"error": {"message": message, "code": code, **more}}).encode()
    failure = failure_of(parse_error(status, body))
    return failure.error_class, failure.cause


def test_what_stops_the_job_with_its_rows_pending() -> None:
    assert classes(401, "Incorrect API key provided")[0] is ErrorClass.FATAL
    assert classes(402, "Insufficient Balance")[0] is ErrorClass.FATAL
    assert classes(429, "You exceeded your current quota", "insufficient_quota")[0] is ErrorClass.FATAL
    assert classes(400, "Your credit balance is too low to access the API")[0] is ErrorClass.FATAL
    assert classes(404, "The model `x` does not exist", "model_not_found")[0] is ErrorClass.FATAL
    assert classes(404, "Not Found")[0] is ErrorClass.FATAL
    assert classes(302, "moved")[0] is ErrorClass.FATAL


def test_what_is_tried_again() -> None:
    assert classes(429, "Rate limit reached for requests") == (ErrorClass.TRANSIENT, Cause.RATE)
    assert classes(503, "overloaded") == (ErrorClass.TRANSIENT, Cause.SERVER)
    assert classes(529, "Overloaded") == (ErrorClass.TRANSIENT, Cause.SERVER)


def test_what_another_model_may_do() -> None:
    too_long = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens"
    assert classes(400, too_long, "context_length_exceeded") == (ErrorClass.PERMANENT, Cause.REFUSED)
    llama = "request (9031 tokens) exceeds the available context size (2048 tokens)"
    assert classes(400, llama, type="exceed_context_size_error") == (ErrorClass.PERMANENT, Cause.REFUSED)
    filtered = "The response was filtered due to the prompt triggering content management policy"
    assert classes(400, filtered, "content_filter") == (ErrorClass.PERMANENT, Cause.FILTERED)


def test_what_is_wrong_with_one_request() -> None:
    assert classes(400, "messages: at least one message is required") == (ErrorClass.PERMANENT, Cause.OTHER)


@pytest.mark.parametrize(
    ("message", "param", "name"),
    [
        ("Unsupported parameter: 'temperature' is not supported with this model.", "temperature", "temperature"),
        ("`top_p` is not supported by this model", None, "top_p"),
        ("temperature: this parameter was removed in this version and is not permitted", None, "temperature"),
        ("Unrecognized request argument supplied: 'top_k'", None, "top_k"),
        ("messages must not be empty", "messages", None),
    ],
)
def test_a_refused_option_is_named(message: str, param: str | None, name: str | None) -> None:
    body = json.dumps({"error": {"message": message, "param": param}}).encode()
    assert parse_error(400, body).rejected_parameter == name
