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
from batch.errors import FatalError
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
    assert ready.wait(90)
    try:
        yield f"http://127.0.0.1:{where[0]}/v1"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(90)


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
        ("http://", "names no host"),
        ("http://user:secret@host/v1", "holds a password"),
        ("groq", "say which: groq/NAME"),
    ],
)
def test_an_address_that_is_none_is_one_sentence(name: str, text: str) -> None:
    with pytest.raises(ServerModelError, match=text) as error:
        remote_spec(name)
    assert "secret" not in str(error.value) and "\n" not in str(error.value)


def test_a_server_that_is_not_there_is_exit_code_3(tmp_path: Path, prompts: Path, capsys: Any) -> None:
    assert cli(tmp_path, "run", str(prompts), "--model", "http://127.0.0.1:9/v1") == 3
    said = capsys.readouterr().err
    assert "127.0.0.1:9 cannot be reached" in said and "#NAME" in said and "Traceback" not in said


def test_an_address_without_an_api_is_said(tmp_path: Path) -> None:
    with a_server() as url, pytest.raises(FatalError, match=r"does not list its models \(404\)"):
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
    assert [row["response_text"] for row in rows] == ["echo one", "echo two", "echo three"]


def test_a_model_is_tried(tmp_path: Path, capsys: Any) -> None:
    with a_server() as url:
        assert cli(tmp_path, "models", "test", url, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["latency_seconds"] > 0 and data["requests_per_second"] > 0 and data["cost_nanodollars"] == 0
    assert data["answered_by"] == ["first"] and not data["failures"]


def test_a_server_that_is_added_is_ready(tmp_path: Path, capsys: Any) -> None:
    with a_server() as url:
        assert cli(tmp_path, "models", "add", url) == 2
        assert f"has first, second; name one: {url}#first" in capsys.readouterr().err
        assert cli(tmp_path, "models", "add", f"{url}#second") == 0
        assert capsys.readouterr().out == "second\n"
        spec = Registry(Workspace(tmp_path, Settings())).get("second")
        assert spec.ready and (spec.place, spec.engine_options["model"]) == (url, "second")
        assert cli(tmp_path, "ask", "hello", "--model", "second") == 0
    assert cli(tmp_path, "models", "add", "http://127.0.0.1:9/v1") == 3
    assert "http://127.0.0.1:9/v1#NAME" in capsys.readouterr().err
    assert cli(tmp_path, "models", "add", "http://127.0.0.1:9/v1#later", "--name", "other") == 0
    assert "model: later" in (tmp_path / "models.yaml").read_text()


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


# -- what it costs -------------------------------------------------------------------------------------------------


@pytest.fixture
def priced(tmp_path: Path) -> Callable[[str], None]:
    """Writes a models.yaml whose model `paid` costs $1 and $2 a million tokens at this address."""

    def write(url: str) -> None:
        (tmp_path / "models.yaml").write_text(
            f"models:\n  paid: {{url: '{url}', model: m, price: {{input: 1, output: 2}}}}\n"
            f"  unknown: {{url: 'http://192.0.2.1/v1', model: m}}\n"
        )

    return write


def test_the_cost_is_said_before_and_after(tmp_path: Path, prompts: Path, priced: Any, capsys: Any) -> None:
    with a_server() as url:
        priced(url)
        assert cli(tmp_path, "run", str(prompts), "--model", "paid", "--check") == 0
        assert "plan: 3 prompts, " in capsys.readouterr().out
        assert cli(tmp_path, "run", str(prompts), "--model", "paid") == 0
    said = capsys.readouterr().err
    assert "Plan: 3 prompts" in said and "$0.0036" in said  # 3 × (1,000 × $1 + 100 × $2) / 1e6


def test_a_price_nobody_knows_is_unknown_and_no_budget_holds_it(
    tmp_path: Path, prompts: Path, priced: Any, capsys: Any
) -> None:
    priced("http://127.0.0.1:9/v1")
    assert cli(tmp_path, "run", str(prompts), "--model", "unknown", "--check") == 0
    assert "cost unknown" in capsys.readouterr().out
    assert cli(tmp_path, "run", str(prompts), "--model", "unknown", "--budget", "1") == 2
    assert "a budget cannot be kept" in capsys.readouterr().err


def test_a_budget_stops_a_job_which_resumes_with_a_larger_one(tmp_path: Path, priced: Any, capsys: Any) -> None:
    file = tmp_path / "many.txt"
    file.write_text("\n".join(f"prompt {n}" for n in range(30)))
    with a_server() as url:
        priced(url)
        assert cli(tmp_path, "run", str(file), "--model", "paid", "--budget", "0.012") == 1
        said = capsys.readouterr().err
        assert "the budget of $0.01 is used up" in said and "Resume with: " in said
        job = said.split("Job ")[1].split(":")[0]
        assert cli(tmp_path, "resume", job, "--budget", "1") == 0
    assert "30 done" in capsys.readouterr().err


def test_the_first_ones_are_tried_and_count(tmp_path: Path, priced: Any, capsys: Any) -> None:
    asked: list[str] = []

    def noted(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked.append(said(body))
        return echo(body)

    file = tmp_path / "many.txt"
    file.write_text("\n".join(f"prompt {n}" for n in range(50)))
    with a_server(noted) as url:
        priced(url)
        assert cli(tmp_path, "run", str(file), "--model", "paid", "--try", "10") == 0
        told = capsys.readouterr().err
        assert len(asked) == 10 and "All of it by these 10: 50 prompts, 50,000 tokens in, 5,000 out, $0.06" in told
        job = told.split("Job ")[1].split(":")[0] if "Job " in told else told.rsplit(" ", 1)[1].strip()
        assert cli(tmp_path, "resume", job) == 0
    assert sorted(asked) == sorted(f"prompt {n}" for n in range(50))


def test_equal_prompts_are_paid_once(tmp_path: Path, priced: Any, capsys: Any) -> None:
    asked: list[str] = []

    def noted(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked.append(said(body))
        return echo(body)

    file = tmp_path / "same.txt"
    file.write_text("a\na\nb\na\n")
    with a_server(noted) as url:
        priced(url)
        assert cli(tmp_path, "run", str(file), "--model", "paid", "--yes") == 0
        assert sorted(asked) == ["a", "b"]
        assert "Answered again without asking: 2 equal prompts" in capsys.readouterr().err
        assert cli(tmp_path, "run", str(file), "--model", "paid", "--yes", "--reuse", "off") == 0
        assert len(asked) == 6
        for _ in range(2):
            assert cli(tmp_path, "run", str(file), "--model", "paid", "--yes", "--reuse", "jobs") == 0
        assert len(asked) == 8


@pytest.mark.parametrize(
    "words", [["--try", "0"], ["--try", "many"], ["--try", "random:0"], ["--try", "5", "--detach"], ["--budget", "-1"]]
)
def test_what_cannot_be_tried_or_spent(tmp_path: Path, prompts: Path, words: list[str], capsys: Any) -> None:
    assert cli(tmp_path, "run", str(prompts), *words) == 2
    assert capsys.readouterr().err.startswith("Error: ")
