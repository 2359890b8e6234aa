"""Models on servers, from the command line: by address, by provider, by entry; found, tried, run and asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ai_router.cli.main import main
from ai_router.models import Registry
from ai_router.models.discovery.servers import find_servers
from ai_router.models.remote import ServerModelError, remote_spec
from ai_router.settings import Settings, Workspace
from tests.servers.chat_server import completion, said

Answerer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


def echo(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    return 200, completion(f"echo {said(body)}", model=body["model"], usage=usage)


@contextmanager
def a_server(answer: Answerer = echo, models: tuple[str, ...] = ("first", "second")) -> Iterator[str]:
    """A server in a thread of its own; its address up to /v1."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    where: list[int] = []

    async def listed(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name, "max_model_len": 4096} for name in models]})

    async def answered(request: web.Request) -> web.Response:
        status, data = answer(await request.json())
        return web.json_response(data, status=status)

    async def begin() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/v1/models", listed)
        app.router.add_post("/v1/chat/completions", answered)
        runner = web.AppRunner(app, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        where.append(runner.addresses[0][1])
        return runner

    def run() -> None:
        runner = loop.run_until_complete(begin())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{where[0]}/v1"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def cli(folder: Path, *words: str) -> int:
    return main(["--workspace", str(folder), *words])


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("one\ntwo\nthree\n")
    return file


def test_the_first_model_of_an_address_and_one_by_name(tmp_path: Path) -> None:
    registry = Registry(Workspace(tmp_path, Settings()))
    with a_server() as url:
        spec = registry.get(url)
        assert spec.id == f"{url}#first" and spec.engine == "server" and spec.context == 4096 and spec.ready
        assert registry.get(url.removesuffix("/v1")).id == spec.id
    # An id is found again without asking anybody.
    assert registry.get(f"{url}#second").engine_options["model"] == "second"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("http://127.0.0.1:9/v1", "cannot be reached.*#NAME"),
        ("http://", "names no host"),
        ("http://user:secret@host/v1", "holds a password"),
        ("groq", "say which: groq/NAME"),
    ],
)
def test_an_address_that_is_none_is_one_sentence(name: str, text: str) -> None:
    with pytest.raises(ServerModelError, match=text) as error:
        remote_spec(name)
    assert "secret" not in str(error.value) and "\n" not in str(error.value)


def test_an_address_without_an_api_is_said(tmp_path: Path) -> None:
    with a_server() as url, pytest.raises(ServerModelError, match="does not list its models .404."):
        remote_spec(f"{url}/elsewhere")


def test_a_provider_needs_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompts: Path, capsys: Any) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    assert cli(tmp_path, "run", str(prompts), "--model", "groq/openai/gpt-oss-20b") == 2
    assert "set the environment variable GROQ_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("GROQ_API_KEY", "secret")
    spec = remote_spec("groq/openai/gpt-oss-20b")
    assert spec is not None and spec.ready and spec.is_remote and "secret" not in repr(spec)


def test_a_job_on_a_server_from_the_command_line(tmp_path: Path, prompts: Path, capsys: Any) -> None:
    with a_server() as url:
        assert cli(tmp_path, "run", str(prompts), "--model", url, "--output", str(tmp_path / "out.jsonl")) == 0
        assert cli(tmp_path, "ask", "hello", "--model", f"{url}#second") == 0
        assert "echo hello" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["response"] for row in rows] == ["echo one", "echo two", "echo three"]


def test_a_model_is_tried(tmp_path: Path, capsys: Any) -> None:
    with a_server() as url:
        assert cli(tmp_path, "models", "test", url, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["latency_seconds"] > 0 and data["requests_per_second"] > 0 and data["cost_nanodollars"] == 0
    assert data["answered_by"] == ["first"] and not data["failures"]


def test_servers_of_this_machine_are_found_where_they_are() -> None:
    with a_server() as url:
        port = int(url.rsplit(":", 1)[1].split("/")[0])
        found = find_servers({port: "", 9: "ollama"})
    assert [spec.id for spec in found] == [f"{url}#first", f"{url}#second"]
    assert find_servers() == []  # switched off in tests


def test_what_is_found_later_is_added_once(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("models:\n  mine: {url: http://127.0.0.1:1/v1, model: first}\n")
    registry = Registry(Workspace(tmp_path, Settings()))
    spec = remote_spec("http://127.0.0.1:1/v1#first")
    other = remote_spec("http://127.0.0.1:1/v1#second")
    assert spec is not None and other is not None
    registry.add([spec, other])
    assert [one.id for one in registry.all()] == ["demo", "mine", other.id]
