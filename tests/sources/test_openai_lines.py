"""Lines of OpenAI batch files: every endpoint's body as its API has it, and other models named before anything runs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.sources import open_source, validate
from batch.sources.entries import request_of
from batch.sources.openai import MalformedEntry

PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "responses": "/v1/responses"}
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


def line(endpoint: str, **body: Any) -> dict[str, Any]:
    return {"custom_id": "1", "method": "POST", "url": PATHS[endpoint], "body": {"model": "m", **body}}


def part(kind: str, text: str) -> dict[str, str]:
    return {"type": kind, "text": text}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["user", "assistant", "system", "developer"]),
            st.one_of(TEXT, st.lists(st.tuples(st.sampled_from(["input_text", "output_text"]), TEXT), min_size=1)),
        ),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
    st.none() | TEXT,
)
def test_a_responses_input_is_the_chat_that_it_means(turns: list[Any], typed: bool, instructions: str | None) -> None:
    items: list[dict[str, Any]] = []
    chat: list[tuple[str, str]] = [("system", instructions)] if instructions is not None else []
    for role, content in turns:
        whole = content if isinstance(content, str) else "".join(text for _, text in content)
        chat.append((role, whole))
        given_ = content if isinstance(content, str) else [part(kind, text) for kind, text in content]
        items.append({"role": role, "content": given_, **({"type": "message"} if typed else {})})
    request = request_of(line("responses", input=items, instructions=instructions))
    assert request.endpoint == "responses"
    found = []
    for message in request.messages:
        content = message["content"]
        if not isinstance(content, str):
            assert {p["type"] for p in content} == {"text"}  # what every engine reads
            content = "".join(p["text"] for p in content)
        found.append((message["role"], content))
    assert found == chat


def test_what_a_response_asks_for_has_the_names_of_a_chat() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    form = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
    asked = {"max_output_tokens": 7, "temperature": 0.5, "text": {"format": form, "verbosity": "low"}}
    request = request_of(line("responses", input="hi", include=["message.output_text.logprobs", "x"], **asked))
    assert request.params == {
        "max_tokens": 7,
        "temperature": 0.5,
        "logprobs": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}},
    }
    assert request.extra and request.extra["body"]["text"] == {"verbosity": "low"}
    assert request.extra["body"]["include"] == ["x"]
    assert "response_format" not in request_of(line("responses", input="a", text={"format": {"type": "text"}})).params


@given(TEXT)
def test_a_completion_is_a_bare_text(text: str) -> None:
    for prompt in (text, [text]):
        request = request_of(line("completions", prompt=prompt, logprobs=0))
        assert (request.text, request.endpoint) == (text, "completions")
        assert request.params == {"logprobs": True} and "messages" not in (request.extra or {})
    assert request_of(line("completions", prompt=text, logprobs=3)).extra["body"]["top_logprobs"] == 3  # type: ignore[index]
    assert request_of(line("completions", prompt=text)).params == {}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (line("completions", prompt=["a", "b"]), "2 prompts"),
        (line("completions", prompt=[1, 2]), "token ids"),
        (line("completions", prompt=[[1], [2]]), "token ids"),
        (line("completions", messages=[]), 'has no "prompt"'),
        (line("responses", input="x", prompt={"id": "p"}), "kept at OpenAI"),
        (line("responses", input="x", previous_response_id="r"), '"previous_response_id"'),
        (line("responses", input="x", conversation="c"), '"conversation"'),
        (line("responses", input=[{"type": "function_call", "name": "f"}]), "'function_call'"),
        (line("responses", input=[{"role": "user", "content": [{"type": "input_file"}]}]), "input_file"),
        (line("responses", input=[{"role": "user", "content": ["x"]}]), "no type"),
        (line("responses", input=["x"]), "not an object"),
        (line("responses", input=[]), "empty list"),
        (line("responses", input="x", instructions=[1]), '"instructions"'),
        (line("chat", input_text="x"), 'has no "messages"'),
    ],
)
def test_what_cannot_be_asked_here_is_refused_in_reading(value: dict[str, Any], says: str) -> None:
    with pytest.raises(MalformedEntry) as caught:
        request_of(value)
    assert says in str(caught.value)


def source_of(tmp_path: Path, values: list[Any]) -> Any:
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return open_source(path)


@given(st.lists(st.sampled_from(["demo", "gpt-4o", "gpt-4", "a\nb", None]), min_size=1, max_size=12))
def test_lines_for_other_models_are_counted_by_name(names: list[str | None]) -> None:
    from batch.sources.source import Source

    requests = [request_of({"custom_id": str(i), "body": {"model": n, "prompt": "x"}}) for i, n in enumerate(names)]
    assert [r.model for r in requests] == names

    class Given(Source):
        unit = "line"

        def entries(self) -> Any:
            from batch.sources import Entry

            return (Entry(i, r) for i, r in enumerate(requests, 1))

    report = validate(Given("x", "list"), model="demo")
    others = Counter(name for name in names if name not in ("demo", None))
    assert report.named.counts == others
    told = [problem for problem in report.problems if problem.code == "other_model"]
    assert sum(problem.count for problem in told) == others.total()
    for name, count in others.items():
        assert f"{name} ({count})" in told[0].text
    assert report.ok
    assert not [p for p in validate(Given("x", "list")).problems if p.code == "other_model"]


def test_names_without_end_are_counted_together(tmp_path: Path) -> None:
    values = [{"custom_id": str(i), "body": {"model": f"m{i}", "prompt": f"p{i}"}} for i in range(1500)]
    report = validate(source_of(tmp_path, values), model="demo")
    (problem,) = [p for p in report.problems if p.code == "other_model"]
    assert problem.count == 1500 and len(report.named.counts) == 1001
    assert problem.text.startswith("1,500 lines name another model, and demo answers them: m0 (1), ")
    assert problem.text.endswith(", …")


def test_parts_that_are_no_text_and_prompts_without_a_place_for_system_are_said(tmp_path: Path) -> None:
    picture = {"type": "input_image", "image_url": "https://example.org/x.png", "detail": "low"}
    values = [
        line("responses", input=[{"role": "user", "content": [part("input_text", "what?"), picture]}]),
        line("completions", prompt="x"),
    ]
    source = source_of(tmp_path, values)
    first, _ = source.requests()
    assert first.messages[0]["content"][1] == {
        "type": "image_url",
        "image_url": {"url": "https://example.org/x.png", "detail": "low"},
    }
    found = {problem.code: problem.text for problem in validate(source, system="be brief").problems}
    assert found["not_text"].endswith("image_url")
    assert "the system prompt is not in it" in found["without_system"]
    assert "without_system" not in {problem.code for problem in validate(source).problems}
