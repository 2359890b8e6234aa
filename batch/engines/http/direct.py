"""A whole answer over a connection of aiohttp's, without what its session does beside for every request.

A session takes a request apart and puts it together, makes a task that writes it, three timers, cookies and a history
of redirects: more work than all the rest of a request. Here its connector opens, secures and keeps the connections and
its parser reads what comes, while the head of the request is written once an address and one timer serves all requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from batch.errors import FatalError

if TYPE_CHECKING:
    import yarl

MOST_BODY = 64 << 20  # bytes of an answer that are read


class Whole(NamedTuple):
    """A response: its header names are looked up in any case."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class Deadlines:
    """Calls what ends a request whose time is over; one timer for all of them, which hardly ever rings."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[int, tuple[float, Callable[[], None]]] = {}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float, end: Callable[[], None]) -> int:
        """Call `end` in so many seconds, unless the number that is returned is given to `over` before."""
        self._count += 1
        due = self._loop.time() + seconds
        self._due[self._count] = (due, end)
        if self._timer is None or due < self._timer.when():
            self._set(due)
        return self._count

    def over(self, number: int) -> bool:
        """It needs no more watching; whether it was in time."""
        return self._due.pop(number, None) is not None

    def close(self) -> None:
        """Watch nothing any more."""
        self._due.clear()
        self._look()

    def _set(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        for number in [number for number, (due, _) in self._due.items() if due <= now]:
            _, end = self._due.pop(number)
            end()
        if self._due:
            self._set(min(due for due, _ in self._due.values()))


class _Address(NamedTuple):
    """What all requests to one address share."""

    request: Any  # aiohttp's, which the connector asks where to connect to
    head: bytes  # of the request, up to the length of its body


class Direct:
    """Posts over the connections of a session, which has to live as long."""

    def __init__(self, aiohttp: ModuleType, session: Any, connect_timeout: float) -> None:
        self._aiohttp = aiohttp
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout)
        self._addresses: dict[yarl.URL, _Address] = {}
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(self._loop)

    async def post(self, url: yarl.URL, body: bytes, timeout: float, first: float | None = None) -> Whole:
        """What the server answers, whatever it is.

        Raises TimeoutError where that takes more than `timeout` seconds once connected, or does not begin within
        `first`; and aiohttp's errors.
        """
        address = self._addresses.get(url) or self._address(url)
        try:
            connection = await self._session.connector.connect(address.request, [], self._timeout)
        except TimeoutError as error:
            raise self._aiohttp.ConnectionTimeoutError(f"no connection to {url.host}") from error
        abort = connection.transport.abort
        number = self._deadlines.begin(timeout if first is None else min(first, timeout), abort)
        try:
            connection.protocol.set_response_params(read_until_eof=True)
            connection.transport.write(b"%b%d\r\n\r\n%b" % (address.head, len(body), body))
            status, headers, payload = await _head(connection.protocol)
            if first is not None:
                self._deadlines.over(number)
                number = self._deadlines.begin(timeout, abort)
            # A small answer is there by now, at one go.
            data = payload.read_nowait() if payload.is_eof() else await bounded(payload)
        except BaseException as error:
            connection.close()
            in_time = self._deadlines.over(number)
            if not in_time and isinstance(error, Exception):
                raise TimeoutError from None
            if isinstance(error, self._aiohttp.http.HttpProcessingError):
                raise self._aiohttp.ClientPayloadError(error.message) from None
            raise
        if payload.is_eof():
            connection.release()
        else:  # longer than what is read
            connection.close()
        self._deadlines.over(number)
        return Whole(status, headers, data)

    def close(self) -> None:
        """Forget the timer."""
        self._deadlines.close()

    def _address(self, url: yarl.URL) -> _Address:
        request = self._aiohttp.ClientRequest(
            "POST", url, headers=self._session.headers, loop=self._loop, session=self._session
        )
        lines = [f"POST {url.raw_path_qs} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.headers.items() if name.lower() != "content-length"]
        if any("\r" in line or "\n" in line or "\0" in line for line in lines):
            raise FatalError("a header of the model's entry holds a line break")
        head = "\r\n".join([*lines, "Content-Length: "]).encode()
        address = self._addresses[url] = _Address(request, head)
        return address


async def _head(protocol: Any) -> tuple[int, Mapping[str, str], Any]:
    """Status, headers and body of the next response that is one (1xx only says that it is still to come)."""
    while True:
        message, payload = await protocol.read()
        if not 100 <= message.code < 200 or message.code == 101:
            return message.code, message.headers, payload


async def bounded(stream: Any, most: int = MOST_BODY) -> bytes:
    """What is left of a body, up to so many bytes."""
    parts, size = [], 0
    while size <= most and (part := await stream.readany()):
        parts.append(part)
        size += len(part)
    return b"".join(parts)[:most]
