"""Limits that a server names, that its entry names, and that nobody names: all wait, and nothing fails."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web

from batch.engines.desk import MemoryDesk
from batch.engines.http import engine as engine_module
from batch.engines.http.engine import HttpEngine
from batch.engines.http.server import Server
from batch.errors import FatalError
from batch.running.policy import RateLimit
from tests.engines.http.asking import ask, given
from tests.servers.chat_server import completion, said, serving


async def test_rate_limits_fail_nothing_and_everybody_waits() -> None:
    arrived: list[float] = []

    async def limited(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        arrived.append(time.monotonic())
        if len(arrived) == 3:
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "1"})
        return web.json_response(completion("x"))

    async with serving(limited) as url:
        got = await ask(Server("m", (url,), concurrency=1), [str(n) for n in range(6)])
    assert all(r.error is None for r in got.values())
    assert len(arrived) == 7
    assert arrived[3] - arrived[2] >= 1.0  # nothing is sent meanwhile


async def test_a_limit_that_is_far_away_stops_the_run() -> None:
    async def limited(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": "no more today"}, status=429, headers={"Retry-After": "7200"})

    async with serving(limited) as url:
        with pytest.raises(FatalError, match="120 minutes"):
            await ask(Server("m", (url,)), ["x"])


async def test_the_limits_of_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """In no minute more requests or tokens than it says; what is reserved too much comes back with the answer."""
    now, sent = 1000.0, []

    class Limit(RateLimit):
        def take(self, characters: int) -> float:
            wait = super().take(characters)
            if not wait:
                sent.append(now)
            return wait

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(completion("x", usage={"prompt_tokens": 90, "completion_tokens": 10}))

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += max(seconds, 1e-3)
        await asyncio.sleep(0)

    async with serving(answer) as url:
        for server, most in ((Server("m", (url,), rpm=3), 3), (Server("m", (url,), tpm=250), 2)):
            sent.clear()
            engine = HttpEngine(server)
            engine._limit = Limit(server.rpm, server.tpm, lambda: now)
            monkeypatch.setattr(engine_module, "_pause", sleep)
            got = [r async for r in engine.answer(given([str(n) for n in range(8)]), MemoryDesk())]
            await engine.close()
            assert len(got) == 8 and all(r.error is None for r in got)
            assert max(sum(1 for other in sent if at <= other < at + 60) for at in sent) <= most
            assert sent[-1] - sent[0] <= 60 * (8 // most + 1)


async def test_the_requests_of_a_day() -> None:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(completion("x"))

    async with serving(answer) as url:
        engine = HttpEngine(Server("m", (url,), rpd=2, concurrency=1))
        got = []
        with pytest.raises(FatalError, match=r"the 2 requests of today \(rpd\) are used up; resume tomorrow"):
            async for response in engine.answer(given(["a", "b", "c"]), MemoryDesk()):
                got.append(response)
        await engine.close()
    assert len(got) == 2 and all(r.error is None for r in got)


async def test_no_more_than_the_concurrency() -> None:
    now = most = 0

    async def counted(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return web.json_response(completion("x"))

    async with serving(counted) as url:
        await ask(Server("m", (url,), concurrency=3), ["x"] * 20)
    assert most == 3


def test_holds_are_bounded() -> None:
    assert engine_module.LONGEST_HOLD <= engine_module.LONGEST_RESET


async def test_one_refusal_among_many_answers_makes_nobody_else_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a time named, only the item that was refused waits, where that is rare."""
    asked: list[str] = []
    waited: list[float] = []

    async def rarely(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        asked.append(said(body))
        if len(asked) == 80:
            return web.json_response({"error": {"message": "slow down"}}, status=429)
        return web.json_response(completion("x"))

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(engine_module, "_pause", pause)
    async with serving(rarely) as url:
        engine = HttpEngine(Server("m", (url,), concurrency=4, stream=False))
        got = [r async for r in engine.answer(given([str(n) for n in range(120)]), MemoryDesk())]
        await engine.close()
    assert len(got) == 120 and all(r.error is None for r in got) and len(asked) == 121
    assert len(waited) == 1 and 0.5 <= waited[0] <= 1.0 and engine._held_until == 0.0
    assert engine.about["rate limits met"] == 1 and engine._adaptive.limit == 4
