"""The server engine against a server that does what it is told: faults, limits, streams, pools, keys."""

from __future__ import annotations

import asyncio
import sys
import types
from typing import Any

import pytest
from aiohttp import web

from batch.engines.desk import MemoryDesk
from batch.engines.http.engine import HttpEngine
from batch.engines.http.server import Server
from batch.errors import ErrorClass, FatalError
from batch.options import SamplingOptions
from batch.prices import price_of
from tests.engines.http.asking import ask, given
from tests.servers.chat_server import completion, delta, event, said, serving, streamed


async def echo(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response(completion(f"echo {said(body)}"))


async def test_answers_tokens_cost_and_model() -> None:
    price = price_of({"input": 1, "output": 2}, "m", "test")
    async with serving(echo) as url:
        got = await ask(Server("m", (url,), price=price), ["one", "two"])
    answer = got[1]
    assert answer.data is not None and answer.data.text == "echo two"
    assert (answer.tokens_input, answer.tokens_output, answer.model) == (5, 2, "m")
    assert answer.cost == 5 * 1000 + 2 * 2000
    assert answer.duration_ns > 0


async def test_a_price_nobody_knows_is_unknown_and_this_machine_is_free() -> None:
    async with serving(echo) as url:
        assert (await ask(Server("m", (url,)), ["x"]))[0].cost == 0
    assert not Server("m", ("https://example.org/v1",)).free


async def test_what_the_provider_charged_goes_before_the_estimate() -> None:
    async def charged(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "cost": 0.00002}
        return web.json_response(completion("x", usage=usage))

    price = price_of({"input": 1, "output": 2}, "m", "test")
    async with serving(charged) as url:
        answer = (await ask(Server("m", (url,), price=price), ["x"]))[0]
    assert answer.cost == 20_000
    assert answer.data is not None and answer.data.extra is not None
    assert answer.data.extra["cost_estimated"] == 9000


async def test_streams_grow_and_end() -> None:
    async def slow(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert body["stream"] and body["stream_options"] == {"include_usage": True}
        usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
        pieces = [
            b": comment\n\n",
            delta("a"),
            delta("b"),
            delta("c", finish_reason="stop"),
            event(usage),
            event(b"[DONE]"),
        ]
        return await streamed(request, pieces)

    async with serving(slow) as url:
        answer = (await ask(Server("m", (url,), stream=True), ["x"]))[0]
    assert answer.data is not None and answer.data.text == "abc"
    assert (answer.tokens_input, answer.tokens_output) == (7, 3)


@pytest.mark.parametrize("end", [True, False])
async def test_a_stream_that_ends_early_is_no_answer(end: bool) -> None:
    async def cut(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await streamed(request, [delta("half an ans")], end=end)

    async with serving(cut) as url:
        answer = (await ask(Server("m", (url,), stream=True), ["x"]))[0]
    assert answer.error is not None and answer.error.error_class is ErrorClass.TRANSIENT
    assert answer.data is None


async def test_a_lost_answer_that_may_cost_is_not_asked_again() -> None:
    async def cut(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    price = price_of({"input": 1, "output": 2}, "m", "test")
    async with serving(cut) as url:
        priced = (await ask(Server("m", (url,), price=price), ["x"]))[0]
        free = (await ask(Server("m", (url,)), ["x"]))[0]
        asked = (await ask(Server("m", (url,), price=price, retry_lost=True), ["x"]))[0]
    assert priced.error is not None and priced.error.error_class is ErrorClass.EXHAUSTED
    assert "may have been charged" in priced.error.message
    assert free.error is not None and free.error.error_class is ErrorClass.TRANSIENT
    assert asked.error is not None and asked.error.error_class is ErrorClass.TRANSIENT


@pytest.mark.parametrize(
    ("status", "body", "said_so"),
    [
        (401, {"error": {"message": "Incorrect API key"}}, "refuses the key .401.: Incorrect API key"),
        (402, {"error": {"message": "Insufficient Balance"}}, "no money or quota left"),
        (
            404,
            {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}},
            "does not have this model",
        ),
        (404, "nothing here", "no such API at this address"),
    ],
)
async def test_what_stops_the_run(status: int, body: Any, said_so: str) -> None:
    async def refuse(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(body, status=status)

    async with serving(refuse) as url:
        with pytest.raises(FatalError, match=said_so):
            await ask(Server("m", (url,)), ["x"])


async def test_a_redirect_is_not_followed_and_the_key_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "secret-key-1234")
    seen: list[str] = []

    async def elsewhere(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        seen.append(request.headers["Authorization"])
        return web.Response(status=307, headers={"Location": "http://example.org/v1/chat/completions"})

    async with serving(elsewhere) as url:
        with pytest.raises(FatalError, match=r"sends to another address \(307\).*example\.org") as error:
            await ask(Server("m", (url,), api_key_env="TEST_KEY"), ["x"])
    assert seen == ["Bearer secret-key-1234"]
    assert "secret-key" not in str(error.value)


async def test_a_key_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "  ")
    with pytest.raises(FatalError, match="set the environment variable TEST_KEY"):
        await ask(Server("m", ("http://127.0.0.1:9/v1",), api_key_env="TEST_KEY"), ["x"])


async def test_a_key_from_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {("service", "me"): "secret-1"}
    ring = types.ModuleType("keyring")
    ring.get_password = lambda service, user: kept.get((service, user))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", ring)
    seen: list[str] = []

    async def note(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        seen.append(request.headers["Authorization"])
        return web.json_response(completion("x"))

    async with serving(note) as url:
        await ask(Server("m", (url,), api_key_keyring="service/me"), ["x"])
        with pytest.raises(FatalError, match="no key for other; store it with: keyring set other api_key"):
            await ask(Server("m", (url,), api_key_keyring="other"), ["x"])
        monkeypatch.setitem(sys.modules, "keyring", None)
        with pytest.raises(FatalError, match="needs the package keyring"):
            await ask(Server("m", (url,), api_key_keyring="service/me"), ["x"])
    assert seen == ["Bearer secret-1"]


async def test_a_server_that_stays_away_stops_the_run_with_its_items_pending() -> None:
    with pytest.raises(FatalError, match="cannot be reached"):
        await ask(Server("m", ("http://127.0.0.1:9/v1",), patience=0.2), ["x"])


async def test_a_server_that_comes_back_is_waited_for() -> None:
    waiting = asyncio.Event()

    async with serving(echo) as url:
        port = int(url.rsplit(":", 1)[1].split("/")[0])
    task = asyncio.create_task(ask(Server("m", (url,), patience=20), ["x"]))
    await asyncio.sleep(0.3)
    app = web.Application()

    async def answer(request: web.Request) -> web.StreamResponse:
        waiting.set()
        return web.json_response(completion("back"))

    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        got = await task
    finally:
        await runner.cleanup()
    assert waiting.is_set() and got[0].data is not None and got[0].data.text == "back"


async def test_a_pool_shares_and_fails_over() -> None:
    counts = [0, 0]

    def counting(n: int) -> Any:
        async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
            counts[n] += 1
            await asyncio.sleep(0.005)
            return web.json_response(completion("x"))

        return answer

    async with serving(counting(0)) as one, serving(counting(1)) as two:
        urls = (one, two, "http://127.0.0.1:9/v1")
        got = await ask(Server("m", urls, concurrency=4), ["x"] * 40)
    assert all(r.error is None for r in got.values())
    assert min(counts) >= 10 and sum(counts) == 40


async def test_an_option_that_is_refused_is_left_out_and_said() -> None:
    async def picky(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if "temperature" in body:
            message = "Unsupported parameter: 'temperature' is not supported with this model."
            return web.json_response({"error": {"message": message, "param": "temperature"}}, status=400)
        return web.json_response(completion("x"))

    async with serving(picky) as url:
        engine = HttpEngine(Server("m", (url,), concurrency=1))
        got = [r async for r in engine.answer(given(["a", "b"]), MemoryDesk())]
        await engine.close()
    assert all(r.error is None for r in got)
    assert engine.about["not sent"] == "temperature"


async def test_an_option_that_the_server_does_not_take_is_not_sent() -> None:
    bodies: list[dict[str, Any]] = []

    async def note(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        bodies.append(body)
        return web.json_response(completion("x"))

    async with serving(note) as url:
        server = Server("m", (url,), accepts=frozenset({"temperature"}), max_tokens_name="max_completion_tokens")
        engine = HttpEngine(server, SamplingOptions(top_k=5, temperature=0.5, system="Be short."))
        async for _ in engine.answer(given(["a"]), MemoryDesk()):
            pass
        await engine.close()
    assert "top_k" not in bodies[0] and bodies[0]["temperature"] == 0.5 and bodies[0]["max_completion_tokens"] == 256
    assert bodies[0]["messages"][0] == {"role": "system", "content": "Be short."}
    assert engine.about["not sent"] == "top_k"


@pytest.mark.parametrize(
    ("answer", "said_so"),
    [
        ({"object": "chat.completion", "choices": []}, "no choices"),
        ({"choices": [{"index": 0}]}, "without a message"),
        ([1, 2], "no choices"),
        ({"error": {"message": "out of memory", "code": 500}}, "out of memory"),
    ],
)
async def test_success_that_is_none(answer: Any, said_so: str) -> None:
    async def odd(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(answer)

    async with serving(odd) as url:
        got = (await ask(Server("m", (url,), stream=False), ["x"]))[0]
    assert got.error is not None and said_so in got.error.message


async def test_a_web_page_is_no_answer() -> None:
    async def page(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(text="<!doctype html><title>Welcome</title>", content_type="text/html")

    async with serving(page) as url:
        for stream in (True, False):
            with pytest.raises(
                FatalError, match=r"no such API at this address.*a web page instead of JSON \(Welcome\)"
            ):
                await ask(Server("m", (url,), stream=stream), ["x"])


async def test_a_filter_and_an_alarm_by_policy() -> None:
    async def odd(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(
            completion("x", model="other", finish="content_filter" if said(body) == "f" else "stop")
        )

    async with serving(odd) as url:
        noted = await ask(Server("m", (url,), stream=False), ["f", "a"])
        failed = await ask(Server("m", (url,), stream=False, on_alarm="fail"), ["a"])
    assert noted[0].error is not None and "content filter" in noted[0].error.message
    assert noted[1].error is None and noted[1].model == "other"
    assert noted[1].data is not None and noted[1].data.extra is not None
    assert noted[1].data.extra["alarms"] == ["asked for m, answered by other"]
    assert failed[0].error is not None and "answered by other" in failed[0].error.message


async def test_a_time_out() -> None:
    async def slow(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.json_response(completion("x"))

    async with serving(slow) as url:
        got = (await ask(Server("m", (url,), timeout=0.1), ["x"]))[0]
    assert got.error is not None and got.error.error_class is ErrorClass.TRANSIENT
    assert "within 0.1 s" in got.error.message


async def test_closing_abandons_what_is_in_flight() -> None:
    async def slow(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if said(body) != "quick":
            await asyncio.sleep(5)
        return web.json_response(completion("x"))

    async with serving(slow) as url:
        engine = HttpEngine(Server("m", (url,)))
        answers: Any = engine.answer(given(["slow", "quick", "slow"]), MemoryDesk())
        first = await anext(answers)
        await answers.aclose()
        await engine.close()
    assert first.id == 1
    assert not engine.partial_texts()


@pytest.mark.parametrize(
    "url", ["localhost:8080/v1", "ftp://host/v1", "http://", "http://user:pw@host/v1", "http://[::1/v1"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(FatalError):
        Server("m", (url,))


async def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(FatalError, match="cannot be reached"):
        await ask(Server("m", ("http://no-such-host.invalid/v1",), patience=0.1), ["x"])
