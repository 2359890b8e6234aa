"""Groq, Mistral, Together and Azure are asked as their own libraries ask them (`wire.json`, by `capture_wire.py`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines.provider.capture_wire import ANSWERS, FILE, REPLIES, Recorder, recording

from batch.engines.provider.base import Lookup, Page, Remote
from batch.engines.provider.row import open_page, settings_of
from batch.items import Request
from batch.options import SamplingOptions

WIRE: dict[str, dict[str, list[dict[str, Any]]]] = json.loads((Path(__file__).parent / "wire.json").read_text("utf-8"))
PATHS = {
    "groq": "/openai/v1",
    "azure": "/openai?api-version=2025-04-01-preview",
    "mistral": "/v1",
    "together": "/v1",
}
# What we say differently, and why that is the same.
LEFT_TO_THE_SERVER = {
    "mistral": {"visibility"},  # its library's default
    "together": {"checksum", "file_name"},  # of another file
}


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    for name in PATHS:
        variable = "AZURE_OPENAI_API_KEY" if name == "azure" else f"{name.upper()}_API_KEY"
        monkeypatch.setenv(variable, "k")
    with recording() as made:
        yield made


def page_of(name: str, recorder: Recorder) -> Page:
    return open_page(settings_of({"provider": name, "model": "m", "url": recorder.url + PATHS[name]}))


def plain(name: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Calls without what is left to the server, without the order of a query, and without empty bodies."""
    found = []
    for call in json.loads(json.dumps(calls)):
        path, _, query = call["call"].partition("?")
        said = sorted(part for part in query.split("&") if part.partition("=")[0] in ("api-version", "page"))
        form = (call["body"] or {}).get("form")
        if form is not None:
            call["body"]["form"] = {k: v for k, v in form.items() if k not in LEFT_TO_THE_SERVER.get(name, ())}
        sent = call["body"] or None
        if isinstance(sent, dict) and "bytes" in sent:
            sent = "some bytes"
        found.append({"call": path, "query": said, "body": sent, "api-key": "api-key" in call["key"]})
    return found


@pytest.mark.parametrize("name", PATHS)
def test_a_batch_is_handed_over_looked_at_found_and_read_as_its_library_does(
    name: str, recorder: Recorder, tmp_path: Path
) -> None:
    page = page_of(name, recorder)
    path = tmp_path / "x.jsonl"
    line = page.line("key-0", Request("hello"), SamplingOptions(), lambda option: None)
    assert line["body"]["messages"] == [{"role": "user", "content": "hello"}]
    assert ("model" in line["body"], "url" in line) == (name != "mistral",) * 2
    path.write_text(json.dumps(line) + "\n")
    seen: dict[str, Any] = {}
    got: dict[str, Any] = {}
    steps = {
        "upload": lambda: page.upload(path, "key"),
        "create": lambda: page.create(path, FILE, "key"),
        "check": lambda: page.check("job_1"),
        "find": lambda: page.find(Lookup("key", FILE, 0.0, 1)),
        "cancel": lambda: page.cancel("job_1"),
        "results": lambda: list(page.results(Remote("job_1", "completed", results=(ANSWERS,)))),
    }
    for step, call in steps.items():
        recorder.reply, before = REPLIES[name][step], len(recorder.seen)
        got[step] = call()
        seen[step] = recorder.seen[before:]
    page.close()
    for step in steps:
        assert plain(name, seen[step]) == plain(name, WIRE[name][step]), step
    assert got["upload"] == FILE and got["find"].remote.id == "job_1"
    assert [r.custom_id for r in got["results"]] == ["key-0"]
    for step in ("create", "check"):
        remote = got[step]
        assert (remote.id, remote.over, remote.results) == ("job_1", False, (ANSWERS,))
        assert remote.done == (None if name == "together" else 1)  # where the provider counts


@pytest.mark.parametrize(
    ("name", "reply", "over", "untried", "error"),
    [
        ("mistral", {"status": "TIMEOUT_EXCEEDED", "errors": []}, True, True, ""),
        ("mistral", {"status": "FAILED", "errors": [{"message": "bad", "count": 2}]}, True, True, "bad (2 lines)"),
        ("mistral", {"status": "SUCCESS"}, True, False, ""),
        ("mistral", {"status": "CANCELLATION_REQUESTED"}, False, False, ""),
        ("together", {"status": "FAILED", "error": "the model is not for batches"}, True, True, "the model is not for"),
        ("together", {"status": "COMPLETED"}, True, False, ""),
        ("together", {"status": "EXPIRED"}, True, True, ""),
        ("groq", {"status": "cancelling"}, False, False, ""),
        ("groq", {"status": "expired"}, True, True, ""),
        ("azure", {"status": "something_of_tomorrow"}, False, False, ""),
    ],
)
def test_states_in_every_word(
    name: str, reply: dict[str, Any], over: bool, untried: bool, error: str, recorder: Recorder
) -> None:
    page = page_of(name, recorder)
    recorder.reply = {**REPLIES[name]["check"], **reply}
    remote = page.check("job_1")
    page.close()
    assert (remote.over, remote.untried) == (over, untried) and remote.error.startswith(error)


def test_a_list_of_many_pages_is_read_to_its_end(recorder: Recorder) -> None:
    page = page_of("mistral", recorder)
    other = {**REPLIES["mistral"]["check"], "metadata": {"air": "another"}, "input_files": ["f"]}
    pages = [[{**other, "id": f"job_{number}-{i}"} for i in range(100)] for number in range(3)]
    pages[2][7]["metadata"] = {"air": "key"}
    real = recorder.answer

    def answer(handler: Any) -> None:
        recorder.reply = {"object": "list", "data": pages[int(handler.path.partition("page=")[2].partition("&")[0])]}
        real(handler)

    recorder.answer = answer  # type: ignore[method-assign]
    found = page.find(Lookup("key", None, 0.0, 1))
    page.close()
    assert found.remote is not None and found.remote.id == "job_2-7"


def test_mistral_is_told_the_window_in_hours(recorder: Recorder, tmp_path: Path) -> None:
    page = open_page(settings_of({"provider": "mistral", "model": "m", "url": f"{recorder.url}/v1", "window": "7d"}))
    recorder.reply = REPLIES["mistral"]["create"]
    page.create(tmp_path, FILE, "key")
    page.close()
    assert recorder.seen[-1]["body"]["timeout_hours"] == 168
