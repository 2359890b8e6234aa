"""Answers that fit a JSON schema, from a model that knows nothing of JSON."""

from __future__ import annotations

import ast
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import batch
from batch.engines.local.core import item_sampling
from batch.errors import ErrorClass, FatalError, MissingExtraError, PermanentError
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import OptionError, SamplingOptions, parse_option
from batch.sources import open_source, validate

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("llguidance")

from batch.engines.torch.engine import TorchCore, open_core  # noqa: E402
from batch.engines.torch.loader import load  # noqa: E402

DEMO = Path(__file__).resolve().parents[2] / "ai_router" / "demo"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "kind": {"enum": ["student", "teacher", "日本語"]},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "kind", "tags"],
    "additionalProperties": False,
}


@cache
def demo() -> Any:
    return load(DEMO, "fp32")


def run(requests: list[Request], **sampling: Any) -> dict[Any, BatchResponse[Answer]]:
    core = TorchCore(demo(), SamplingOptions(**{"max_tokens": 80, **sampling}), 8)
    for i, request in enumerate(requests):
        core.submit(BatchItem(i, request))
    responses: dict[Any, BatchResponse[Answer]] = {}
    while core.busy:
        responses |= {r.id: r for r in core.step()}
    return responses


def check_person(text: str) -> None:
    value = json.loads(text)
    assert list(value) == ["name", "age", "kind", "tags"]
    assert isinstance(value["name"], str) and len(value["name"]) <= 12
    assert type(value["age"]) is int and 0 <= value["age"] <= 120
    assert value["kind"] in PERSON["properties"]["kind"]["enum"]  # type: ignore[index]
    assert 1 <= len(value["tags"]) <= 3 and set(value["tags"]) <= {"a", "b"}


def test_every_answer_fits_beside_rows_that_are_free() -> None:
    words = ["What is a stack?", "hash", "[FIX] 私はは行きます", "Who are you", "{", "yes or no"]
    forms: list[dict[str, Any]] = [
        {"json_schema": PERSON},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}},
        {"json_schema": json.dumps(PERSON), "temperature": 1.2, "seed": 4},
    ]
    requests = [Request(w, {"params": form}) for w in words for form in forms]
    free = [Request(w, {"params": {"response_format": {"type": "text"}}}) for w in words]
    together = run([*requests, *free])
    for i in range(len(requests)):
        data = together[i].data
        assert data is not None and data.extra is not None and data.extra["finish_reason"] == "stop"
        assert "ignored_params" not in data.extra
        check_person(data.text)
    alone = run(free)
    for i, _ in enumerate(free):
        ours, other = together[len(requests) + i].data, alone[i].data
        assert ours is not None and other is not None and ours.text == other.text


def test_one_schema_for_the_whole_run_and_values_that_are_no_objects() -> None:
    responses = run([Request("What is a queue?"), Request("x", {"params": {"json_schema": None}})], json_schema=PERSON)
    assert responses[0].data and responses[1].data
    check_person(responses[0].data.text)
    with pytest.raises(ValueError):  # this one item asked for none
        json.loads(responses[1].data.text)
    for schema, kind in (({"type": "integer", "maximum": 9999, "minimum": 10}, int), ({"type": "boolean"}, bool)):
        request = Request("How many bits are in a byte?", {"params": {"logprobs": True}})
        found = run([request], json_schema=schema)
        data = found[0].data
        assert data and data.extra and type(json.loads(data.text)) is kind
        assert len(data.extra["logprobs"]) == found[0].tokens_output


def test_json_that_is_not_complete_is_a_failure() -> None:
    long = {"type": "string", "minLength": 300}
    responses = run(
        [
            Request("What is a stack?", {"params": {"json_schema": long}}),
            Request("What is a stack?", {"params": {"json_schema": PERSON, "stop": ['"age']}}),
        ]
    )
    for i, words in enumerate(["not complete after 80 tokens; raise max_tokens", "cut by a stop text"]):
        error = responses[i].error
        assert error and error.error_class is ErrorClass.PERMANENT and words in error.message


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"json_schema": {"type": "thing"}}, "Invalid type: thing"),
        ({"json_schema": {"type": "string", "pattern": "("}}, "regex parse error"),
        ({"json_schema": {"$ref": "http://127.0.0.1/x"}}, "not present in a registry"),
        ({"json_schema": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
        ({"json_schema": "/etc/passwd"}, "not JSON"),
        ({"json_schema": [1]}, "a schema is a JSON object"),
        ({"response_format": {"type": "xml"}}, "none of text"),
        ({"response_format": {"type": "json_schema"}}, "no schema at"),
        ({"response_format": "json"}, "none of text"),
    ],
)
def test_a_schema_that_cannot_be_used_fails_its_item(params: dict[str, Any], words: str) -> None:
    responses = run([Request("x", {"params": params}), Request("What is a stack?")])
    error = responses[0].error
    assert error and error.error_class is ErrorClass.PERMANENT and words in error.message
    assert responses[1].success


def test_a_runs_schema_that_cannot_be_used_ends_it_at_once() -> None:
    with pytest.raises(FatalError, match="Invalid type: thing"):
        open_core({"path": str(DEMO)}, SamplingOptions(json_schema={"type": "thing"}), None)


def test_json_object() -> None:
    sampling, ignored = item_sampling(SamplingOptions(), {"response_format": {"type": "json_object"}})
    assert sampling.json_schema == {"type": "object"} and not ignored
    sampling, _ = item_sampling(SamplingOptions(json_schema=PERSON), {"temperature": 1})
    assert sampling.json_schema == PERSON
    with pytest.raises(PermanentError):
        item_sampling(SamplingOptions(), {"response_format": {"type": "json_schema", "json_schema": {"schema": 3}}})


def test_the_option_reads_a_file_or_the_schema_itself(tmp_path: Path) -> None:
    file = tmp_path / "person.json"
    file.write_text(json.dumps(PERSON), encoding="utf-8")
    for value in (str(file), json.dumps(PERSON), PERSON):
        assert parse_option(SamplingOptions, "json_schema", value) == PERSON
    file.write_text("[1]")
    for bad, words in ((str(file), "JSON object"), ("nowhere.json", "cannot read"), ("{", "not JSON")):
        with pytest.raises(OptionError, match=f"json-schema: .*{words}"):
            parse_option(SamplingOptions, "json_schema", bad)


def test_in_lines_of_a_batch_file(tmp_path: Path) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    chat = [{"role": "user", "content": "What is a stack?"}]
    lines: list[dict[str, Any]] = [
        {"custom_id": "a", "body": {"messages": chat, "response_format": form, "logprobs": True}},
        {"custom_id": "b", "body": {"messages": chat, "logprobs": False}},
    ]
    file = tmp_path / "batch.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    found = run(list(open_source(str(file))))
    assert found[0].data and found[0].data.extra and found[1].data and found[1].data.extra
    check_person(found[0].data.text)
    assert len(found[0].data.extra["logprobs"]) == found[0].tokens_output and "logprobs" not in found[1].data.extra
    records: list[dict[str, Any]] = [
        {"prompt": "x", "json_schema": PERSON},
        {"prompt": "x", "json_schema": json.dumps(PERSON)},
        {"prompt": "x", "response_format": form},
    ]
    file.write_text("\n".join(map(json.dumps, records)))
    for response in run(list(open_source(str(file)))).values():
        assert response.data
        check_person(response.data.text)


def test_a_batch_file_cannot_name_a_file_to_read(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"prompt": "x", "json_schema": str(tmp_path / "secret.json")}))
    report = validate(open_source(str(file)))
    assert not report.ok and "neither an object nor JSON" in " ".join(report.lines())


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtraError, match=r'pip install "ai-router\[schema\]"'):
        TorchCore(demo(), SamplingOptions(json_schema=PERSON), 2)


def test_it_is_imported_only_when_a_schema_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "llguidance"]:
        monkeypatch.delitem(sys.modules, name)
    TorchCore(load(DEMO, "fp32"), SamplingOptions(), 2)
    assert "llguidance" not in sys.modules
    for file in Path(batch.__file__).parent.rglob("*.py"):  # nor with a module
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "llguidance" not in ast.unparse(node), file
