"""The server engine against servers that nobody here wrote: what each of them does differently, heard and said."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batch.engines.http.probe import models_of
from batch.engines.http.row import make
from batch.errors import ErrorClass, FatalError
from batch.options import RunOptions, SamplingOptions
from batch.processor import BatchProcessor
from batch.running.run import Run
from tests.engines.http.asking import asked
from tests.servers import foreign

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
LONG = "word " * 3000


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with foreign.llama_cpp(tmp_path_factory.mktemp("llama")) as url:
        yield url


@pytest.fixture(scope="module")
def mlx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with foreign.mlx_lm(tmp_path_factory.mktemp("mlx")) as url:
        yield url


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with foreign.transformers_serve(tmp_path_factory.mktemp("serve")) as url:
        yield url


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with foreign.aimock(tmp_path_factory.mktemp("aimock")) as url:
        yield url


def ask_json(url: str, body: Any = None, method: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read() or b"null")


# -- llama.cpp -----------------------------------------------------------------------------------------------------


async def test_llama_answers_with_usage_and_what_it_loaded_is_its_model(llama: str) -> None:
    listed = models_of(llama)
    assert len(listed) == 1 and listed[0].context == 512  # the context is shared by four slots
    prompts = ["What is two plus two?", "Name a colour.", "Say hello."]
    got, engine = await asked({"url": llama, "provider": "llama.cpp", "model": listed[0].name}, prompts, max_tokens=12)
    for answer in got.values():
        assert answer.error is None and answer.data is not None and answer.data.text.strip()
        assert answer.tokens_input > 5 and 0 < answer.tokens_output <= 12 and answer.cost == 0
    assert "alarms" not in engine.about


async def test_llama_answers_for_a_model_that_it_does_not_have_and_that_is_an_alarm(llama: str) -> None:
    got, engine = await asked({"url": llama, "model": "gpt-5-mini"}, ["Hi"], max_tokens=4)
    assert got[0].error is None and got[0].model is not None and "SmolLM2" in got[0].model
    assert engine.about["alarms"] == {"another model": 1}
    failed, _ = await asked({"url": llama, "model": "gpt-5-mini", "on_alarm": "fail"}, ["Hi"], max_tokens=4)
    assert failed[0].error is not None and failed[0].error.error_class is ErrorClass.PERMANENT


async def test_llama_refuses_what_its_context_cannot_hold(llama: str) -> None:
    got, _ = await asked({"url": llama, "model": "SmolLM2-135M-Instruct.Q4_1.gguf"}, [LONG, "Hi"], max_tokens=4)
    failure = got[0].error
    assert failure is not None and failure.error_class is ErrorClass.PERMANENT
    assert "does not fit into the model's context" in failure.message
    assert got[1].error is None


async def test_llama_obeys_a_schema(llama: str) -> None:
    spec = {"url": llama, "provider": "llama.cpp", "model": "SmolLM2-135M-Instruct.Q4_1.gguf"}
    got, engine = await asked(spec, ["Describe a person."], max_tokens=120, json_schema=SCHEMA)
    answer = got[0]
    assert answer.error is None and answer.data is not None
    if (answer.data.extra or {}).get("finish_reason") == "stop":
        assert set(json.loads(answer.data.text)) == {"name", "age"}
    assert "schema ignored" not in engine.about.get("alarms", {})


@pytest.mark.parametrize("stream", [True, False])
async def test_llama_streams_and_answers_whole_alike(llama: str, stream: bool) -> None:
    spec = {"url": llama, "model": "SmolLM2-135M-Instruct.Q4_1.gguf", "stream": stream}
    got, _ = await asked(spec, ["What is a stack?"], max_tokens=16)
    answer = got[0]
    assert answer.error is None and answer.data is not None and answer.tokens_output == 16
    assert answer.data.extra is not None and answer.data.extra["finish_reason"] == "length"


# -- mlx-lm --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_mlx_answers(mlx: str, stream: bool) -> None:
    spec = {"url": mlx, "model": "default_model", "provider": "mlx-lm", "stream": stream}
    got, _ = await asked(spec, ["What is a stack?", "What is a queue?"], max_tokens=24)
    for answer in got.values():
        assert answer.error is None and answer.data is not None and answer.data.text.strip()
        assert answer.tokens_input > 0 and 0 < answer.tokens_output <= 24
    assert got[0].data != got[1].data


async def test_mlx_puts_its_errors_into_a_text(mlx: str) -> None:
    spec = {"url": mlx, "model": "default_model", "provider": "mlx-lm", "body": {"max_tokens": "many"}}
    got, _ = await asked(spec, ["Hi"])
    assert got[0].error is not None and got[0].error.error_class is ErrorClass.PERMANENT
    assert "max_tokens" in got[0].error.message


async def test_mlx_does_not_have_another_model(mlx: str) -> None:
    with pytest.raises(FatalError, match=r"does not have this model|no such API"):
        await asked({"url": mlx, "model": "nobody/nothing"}, ["Hi"])


# -- transformers serve --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_transformers_answers_without_done(serve: str, stream: bool) -> None:
    spec = {"url": serve, "model": str(foreign.DEMO), "provider": "transformers", "stream": stream}
    got, _ = await asked(spec, ["What is a stack?"], max_tokens=24)
    answer = got[0]
    assert answer.error is None and answer.data is not None and answer.data.text.strip()


async def test_transformers_is_pinned_to_its_model(serve: str) -> None:
    with pytest.raises(FatalError, match=r"does not have this model.*pinned"):
        await asked({"url": serve, "model": "another", "provider": "transformers"}, ["Hi"])


async def test_transformers_ignores_a_schema_and_that_is_an_alarm(serve: str) -> None:
    spec = {"url": serve, "model": str(foreign.DEMO), "provider": "transformers"}
    got, engine = await asked(spec, ["What is a stack?"], max_tokens=40, json_schema=SCHEMA, stop=["."])
    answer = got[0]
    assert answer.error is None and answer.data is not None
    if (answer.data.extra or {}).get("finish_reason") == "stop":
        assert engine.about["alarms"]["schema ignored"] == 1


async def test_transformers_lists_what_is_wrong(serve: str) -> None:
    spec = {"url": serve, "model": str(foreign.DEMO), "provider": "transformers", "body": {"messages": "none"}}
    got, _ = await asked(spec, ["Hi"])
    assert got[0].error is not None


# -- aimock --------------------------------------------------------------------------------------------------------


async def test_chaos_loses_nothing_and_asks_nothing_twice_that_was_answered(aimock: str) -> None:
    chaos = {"rateLimitRate": 0.02, "dropRate": 0.03, "malformedRate": 0.03, "disconnectRate": 0.03}
    ask_json(f"{aimock}/__aimock/chaos", chaos)
    try:
        prompts = [f"hello {n}" for n in range(200)]
        got, engine = await asked({"url": f"{aimock}/v1", "model": "m", "concurrency": 32}, prompts)
    finally:
        ask_json(f"{aimock}/__aimock/chaos", method="DELETE")
    assert len(got) == 200
    for answer in got.values():
        if answer.error is None:
            assert answer.data is not None and answer.data.text == "Hi there!"
        else:
            assert answer.error.error_class is ErrorClass.TRANSIENT
    journal = ask_json(f"{aimock}/__aimock/journal")
    right: dict[str, int] = {}
    for entry in journal:
        if entry["response"]["status"] == 200:
            text = entry["body"]["messages"][-1]["content"]
            right[text] = right.get(text, 0) + 1
    assert right and max(right.values()) == 1
    refused = sum(entry["response"]["status"] == 429 for entry in journal)
    assert engine.about.get("rate limits met", 0) == refused


@pytest.mark.parametrize(("path", "wire"), [("/v1", "chat"), ("", "anthropic"), ("", "ollama")])
async def test_every_wire(aimock: str, path: str, wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "k")
    for stream in (True, False):
        spec = {"url": aimock + path, "model": "m", "wire": wire, "api_key_env": "TEST_KEY", "stream": stream}
        got, _ = await asked(spec, ["hello"])
        assert got[0].error is None and got[0].data is not None and got[0].data.text == "Hi there!", (wire, stream)


# -- llmock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "stream"),
    [
        (("--error-rate", "429=0.05", "--error-rate", "503=0.1"), False),
        (("--stream-fault", "truncate=0.2", "--stream-fault", "malformed=0.1"), True),
    ],
    ids=["errors", "streams"],
)
def test_the_verdict_on_the_client_is_clean(tmp_path: Path, flags: tuple[str, ...], stream: bool) -> None:
    # llmock cuts a stream after 1 to 6 chunks and says that it had no finish reason. Its shortest answer has one in the
    # sixth, and who takes that is right; the words of the model's name, which all answers hold, put it behind them.
    name = "a model of quite a few words"
    with foreign.llmock(tmp_path, *flags) as url:
        spec = {"url": f"{url}/v1", "model": name, "concurrency": 16, "stream": stream}
        job = BatchProcessor(tmp_path).create_job("m", [f"question {n}" for n in range(40)])
        engine = make(spec, SamplingOptions(), workers=None, timeout=60)
        Run(job, engine, RunOptions(retries=12)).execute()
        verdict, tried = ask_json(f"{url}/_llmock/verdict"), ask_json(f"{url}/_llmock/requests")
    assert (job.completed, job.failed) == (40, 0)
    last: dict[str, Any] = {}
    for attempt in sorted(tried["requests"], key=lambda attempt: attempt["seq"]):
        assert last.get(attempt["fingerprint"], {"fault": "none yet"})["fault"], "asked again what was answered"
        last[attempt["fingerprint"]] = attempt
    assert len(last) == 40 and len(tried["requests"]) > 40 and verdict["faults_injected"]
    left = [end for end in last.values() if end["status"] != 200 or not end["completed"] or end["fault"]]
    assert not left, json.dumps(left)[:3000]
    # llmock notes the end of a stream that it cut after its client has seen it. A second try that comes in between is
    # another call to it, and the first was never tried again; so of those findings only what stood last is one.
    ends = {end["seq"] for end in last.values()}
    wrong = [
        finding
        for finding in verdict["findings"]
        if finding["severity"] == "error"
        and not (finding["code"] == "truncated_stream_accepted" and ends.isdisjoint(finding["requests"]))
    ]
    assert not wrong, json.dumps(wrong)[:3000]
