"""A server of chats on loopback that does what it is told, for what no real server does on demand."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def completion(text: str, model: str = "m", **more: Any) -> dict[str, Any]:
    """A whole answer in OpenAI's form."""
    usage = more.pop("usage", {"prompt_tokens": 5, "completion_tokens": 2})
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": more.pop("finish", "stop"),
    }
    return {"object": "chat.completion", "model": model, "choices": [choice], "usage": usage, **more}


def said(body: dict[str, Any]) -> str:
    """The last turn of a request."""
    return str(body["messages"][-1]["content"])


async def streamed(request: web.Request, events: list[bytes], *, end: bool = True) -> web.StreamResponse:
    """These events as a stream; without `end` the connection breaks off."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        await response.write(event)
        await asyncio.sleep(0)
    if not end:
        assert request.transport is not None
        request.transport.abort()
    return response


def event(data: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def delta(text: str, **more: Any) -> bytes:
    """A piece of a streamed answer."""
    return event({"model": "m", "choices": [{"index": 0, "delta": {"content": text}, **more}]})


@asynccontextmanager
async def serving(
    handler: Handler, path: str = "/v1/chat/completions", tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """The address (up to /v1) of a server that answers with `handler`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
        except ValueError:
            return web.json_response({"error": "no JSON"}, status=400)
        return await handler(request, body)

    app = web.Application(client_max_size=64 << 20)
    app.router.add_post(path, answer)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}" + ("/v1" if path.startswith("/v1/") else "")
    finally:
        await runner.cleanup()
