"""Answers over a bare connection are those of aiohttp's session, whatever a server sends; and one timer ends them."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
import yarl

from batch.engines.http.client import Answered, Client, Lost, NotSent
from batch.engines.http.direct import Deadlines, Direct
from batch.engines.http.server import Server
from batch.engines.http.wires import WIRES

BODY = b'{"a": 1}'
SAYS = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = SAYS + b"transfer-encoding: chunked\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
PACKED = gzip.compress(BODY)

# What a server sends for one request, and whether it hangs up then.
SENT: dict[str, tuple[bytes, bool]] = {
    "a length": (SAYS + b"content-length: 8\r\n\r\n" + BODY, False),
    "chunks": (CHUNKED + b"3\r\n" + BODY[:3] + b"\r\n5\r\n" + BODY[3:] + b"\r\n0\r\n\r\n", False),
    "the end of the connection": (SAYS + b"\r\n" + BODY, True),
    "the end of it, said": (SAYS + b"connection: close\r\n\r\n" + BODY, True),
    "an older server": (b"HTTP/1.0 200 OK\r\ncontent-length: 8\r\n\r\n" + BODY, True),
    "packed": (SAYS + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(PACKED) + PACKED, False),
    "wait, then an answer": (HINTS + SAYS + b"content-length: 8\r\n\r\n" + BODY, False),
    "nothing": (b"HTTP/1.1 204 No Content\r\n\r\n", False),
    "no body": (SAYS + b"content-length: 0\r\n\r\n", False),
    "an error": (b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 8\r\n\r\n" + BODY, False),
    "a redirect": (b"HTTP/1.1 307 There\r\nlocation: http://example.org/\r\ncontent-length: 0\r\n\r\n", False),
    "cut in the body": (SAYS + b"content-length: 80\r\n\r\n" + BODY, True),
    "cut in a chunk": (CHUNKED + b"80\r\n" + BODY, True),
    "cut in the head": (SAYS[:30], True),
    "hung up": (b"", True),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", True),
    "two lengths": (SAYS + b"content-length: 8\r\ncontent-length: 9\r\n\r\n" + BODY, True),
    "packed badly": (SAYS + b"content-encoding: gzip\r\ncontent-length: 8\r\n\r\n" + BODY, False),
}


@asynccontextmanager
async def scripted(piece: int) -> AsyncIterator[tuple[str, list[bytes]]]:
    """The address of a server that sends what a request's body names, so many bytes at once; and the heads it got."""
    heads: list[bytes] = []
    tasks: set[asyncio.Task[Any] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                data, end = SENT[(await reader.readexactly(length)).decode()]
                heads.append(head)
                for at in range(0, len(data), piece):
                    writer.write(data[at : at + piece])
                    await asyncio.sleep(0)
                if end:
                    break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions", heads
    finally:
        server.close()
        for task in tasks - {None}:
            assert task is not None
            task.cancel()


def outcome(error: Exception) -> str:
    """What becomes of a request that broke: our client makes one kind of all of aiohttp's errors."""
    assert isinstance(error, aiohttp.ClientError), error
    return "broke"


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
async def test_as_a_session_has_it(piece: int) -> None:
    async with scripted(piece) as (url, heads), aiohttp.ClientSession(headers={"content-type": "x/y"}) as session:
        direct = Direct(aiohttp, session, 5.0)
        for name in [*SENT, *SENT]:  # twice, as connections are used again
            theirs: Any
            ours: Any
            try:
                async with session.post(url, data=name.encode(), allow_redirects=False) as response:
                    theirs = (response.status, dict(response.headers), await response.read())
            except Exception as error:
                theirs = outcome(error)
            try:
                status, headers, data = await direct.post(yarl.URL(url), name.encode(), 20)
                ours = (status, dict(headers), data)
            except Exception as error:
                ours = outcome(error)
            assert ours == theirs, name
        assert heads[0].lower().splitlines()[0] == heads[1].lower().splitlines()[0]
        assert sorted(heads[0].lower().splitlines()) == sorted(heads[1].lower().splitlines())
        direct.close()


async def test_connections_are_used_again() -> None:
    made = 0

    class Counted(aiohttp.TCPConnector):
        async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
            nonlocal made
            made += 1
            return await super()._create_connection(*args, **kwargs)

    async with scripted(1 << 20) as (url, _), aiohttp.ClientSession(connector=Counted()) as session:
        direct = Direct(aiohttp, session, 5.0)
        for name in ("a length", "chunks", "packed", "an error", "nothing", "a length"):
            await direct.post(yarl.URL(url), name.encode(), 20)
        assert made == 1
        await direct.post(yarl.URL(url), b"the end of the connection", 20)
        await direct.post(yarl.URL(url), b"a length", 20)
        assert made == 2
        direct.close()


async def test_one_timer_ends_what_is_late_and_nothing_else() -> None:
    ended: list[str] = []
    deadlines = Deadlines(asyncio.get_running_loop())
    late = deadlines.begin(0.02, lambda: ended.append("late"))
    timely = deadlines.begin(0.01, lambda: ended.append("timely"))
    never = deadlines.begin(3600, lambda: ended.append("never"))
    assert deadlines.over(timely)
    async with asyncio.timeout(60):
        while not ended:
            await asyncio.sleep(0.01)
    assert ended == ["late"] and not deadlines.over(late) and deadlines.over(never)
    deadlines.close()
    assert deadlines._timer is None


async def test_a_server_that_takes_no_connection_was_not_asked() -> None:
    """Nothing can have been charged, so the request may go elsewhere or be tried again."""

    class Stuck(aiohttp.TCPConnector):
        async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
            raise aiohttp.ConnectionTimeoutError("x")

    client = Client(Server("m", ("http://127.0.0.1:9/v1",)), WIRES["chat"](), None, 1)
    await client.close()
    client._session._connector = Stuck()
    for partial in (None, lambda text: None):
        found = await client.post("http://127.0.0.1:9/v1", b"{}", 5, partial)
        assert isinstance(found, NotSent) and "no connection within 10 s" in found.message
    await client.close()


async def test_by_way_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry's, or the environment's for an address that is not of this machine; with the whole address in it."""
    lines: list[bytes] = []
    data = b'{"choices":[{"message":{"content":"far"},"finish_reason":"stop"}]}'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        writer.write(SAYS + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", proxy)
    url = "http://far.invalid/v1"
    for entry in (Server("m", (url,)), Server("m", (url,), proxy=proxy)):
        client = Client(entry, WIRES["chat"](), None, 1)
        found = await client.post(url, b"{}", 20, None)
        assert isinstance(found, Answered) and found.reply.text == "far"
        await client.close()
    server.close()
    assert lines == [b"POST http://far.invalid/v1/chat/completions HTTP/1.1"] * 2


async def test_a_late_answer_is_lost_and_a_cancelled_one_is_cancelled() -> None:
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    client = Client(Server("m", (url,)), WIRES["chat"](), None, 4)
    found = await client.post(url, b"{}", 0.05, None)
    assert found == Lost("no answer within 0.05 s")
    asked.clear()
    task = asyncio.create_task(client.post(url, b"{}", 60, None))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await client.close()
    server.close()


@pytest.mark.parametrize("partial", [None, lambda text: None])
async def test_an_answer_that_does_not_begin_and_one_that_stands_still(partial: Any) -> None:
    """Each has a time of its own, of which the one for the whole answer knows nothing."""
    begins = False
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if begins:
            writer.write(head + b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n')
        with suppress(ConnectionError):
            await reader.read()
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    client = Client(Server("m", (url,), first_timeout=0.05, idle_timeout=0.05), WIRES["chat"](), None, 4)
    found = await client.post(url, b"{}", 60, partial)
    assert found == Lost("no answer within 60 s, or it did not begin within 0.05 s")
    if partial is not None:
        begins = True
        client._server = Server("m", (url,), idle_timeout=0.05)
        assert await client.post(url, b"{}", 60, partial) == Lost("the stream stood still for 0.05 s")
    await client.close()
    server.close()
