"""One request over HTTP: sent, read whole or as a stream, and what became of it in one of four kinds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import orjson

from batch.engines.http.direct import MOST_BODY, Direct, bounded
from batch.engines.http.headers import Limits, limits
from batch.engines.http.server import Server, is_loopback
from batch.engines.http.wire import Reply, Wire, WireError
from batch.errors import FatalError, MissingExtraError
from batch.thinking import with_thinking

if TYPE_CHECKING:
    import yarl

MOST_ERROR = 1 << 16  # bytes of an error that are looked at


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole answer."""

    reply: Reply
    limits: Limits


@dataclass(frozen=True, slots=True)
class Refused:
    """An error that the server answered with."""

    status: int
    body: bytes
    content_type: str
    limits: Limits


@dataclass(frozen=True, slots=True)
class NotSent:
    """The server could not be reached: nothing was asked, nothing can have been charged."""

    message: str
    fatal: bool = False  # another try cannot help (TLS, an unknown host)


@dataclass(frozen=True, slots=True)
class Lost:
    """The request may have arrived, and its answer did not, or not whole."""

    message: str


Outcome = Answered | Refused | NotSent | Lost


class Client:
    """Holds the connections to a server; made and used within one event loop."""

    def __init__(self, server: Server, wire: Wire, key: str | None, connections: int) -> None:
        try:
            import aiohttp
            import yarl
        except ImportError:
            raise MissingExtraError("servers", "a server") from None
        self._aiohttp = aiohttp
        self._server = server
        self._wire = wire
        self._secret = key.encode() if key else b""
        headers = {"content-type": "application/json", "accept": "application/json", **server.headers}
        if key:
            headers[server.key_header] = f"Bearer {key}" if server.key_header.lower() == "authorization" else key
        if server.wire == "anthropic":
            headers.setdefault("anthropic-version", "2023-06-01")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=_tls(server), ttl_dns_cache=300),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=server.connect_timeout),
            cookie_jar=aiohttp.DummyCookieJar(),  # what one answer sets is no part of another request
        )
        self._direct = Direct(aiohttp, self._session, server.connect_timeout)
        self._yarl = yarl
        self._places: dict[str, tuple[yarl.URL, str | None]] = {}  # found out once

    async def close(self) -> None:
        """Close the connections."""
        self._direct.close()
        await self._session.close()

    async def post(self, url: str, body: bytes, timeout: float, partial: Callable[[str], None] | None) -> Outcome:
        """Ask; with `partial` as a stream whose text so far is told, what is thought before it too.

        Never raises for what a server may do.
        """
        outcome = await self._posted(url, body, timeout, partial)
        if self._secret and isinstance(outcome, Refused) and self._secret in outcome.body:  # some say what they got
            return replace(outcome, body=outcome.body.replace(self._secret, b"[the key]"))
        return outcome

    async def _posted(self, url: str, body: bytes, timeout: float, partial: Callable[[str], None] | None) -> Outcome:
        aiohttp, first = self._aiohttp, self._server.first_timeout
        try:
            address, proxy = self._places.get(url) or self._place(url)
            if partial is None and proxy is None:
                status, headers, data = await self._direct.post(address, body, timeout, first)
                return self._whole(data, headers) if status == 200 else self._refused(status, data, headers)
            async with (
                asyncio.timeout(timeout if first is None else min(first, timeout)) as limit,
                self._session.post(address, data=body, allow_redirects=False, proxy=proxy) as response,
            ):
                limit.reschedule(asyncio.get_running_loop().time() + timeout)
                if response.status != 200:
                    return self._refused(response.status, await bounded(response.content), response.headers)
                if partial is None:
                    return self._whole(await bounded(response.content), response.headers)
                return await self._stream(response, response.headers, partial)
        except (aiohttp.ServerTimeoutError, aiohttp.ConnectionTimeoutError):
            return NotSent(f"{urlsplit(url).netloc}: no connection within {self._server.connect_timeout:g} s")
        except TimeoutError:
            begun = "" if first is None else f", or it did not begin within {first:g} s"
            return Lost(f"no answer within {timeout:g} s{begun}")
        except aiohttp.ClientConnectorCertificateError as error:
            return NotSent(
                f"the certificate of {urlsplit(url).hostname} is not trusted: {error.certificate_error}", True
            )
        except aiohttp.ClientConnectorDNSError:
            return NotSent(f"no such host: {urlsplit(url).hostname}")
        except aiohttp.ClientSSLError as error:
            return NotSent(f"no TLS with {urlsplit(url).hostname}: {getattr(error, 'os_error', error)}", True)
        except aiohttp.ClientConnectorError as error:
            return NotSent(f"{urlsplit(url).netloc}: {error.os_error.strerror or error.os_error}")
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise FatalError(f"{url!r} is no address") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Lost(f"the connection broke: {type(error).__name__}{f': {error}' if str(error) else ''}")

    def _place(self, url: str) -> tuple[yarl.URL, str | None]:
        """Where the API is below an address, and the proxy on the way there: the entry's, or the environment's."""
        proxy = self._server.proxy
        if proxy is None and not is_loopback(url):
            parts = urlsplit(url)
            proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
        self._places[url] = found = (self._yarl.URL(url + self._wire.path), proxy)
        return found

    def _refused(self, status: int, body: bytes, headers: Mapping[str, str]) -> Refused:
        if 300 <= status < 400:
            target = urlsplit(headers.get("location", ""))
            body = f"it points to {target.scheme}://{target.netloc}{target.path}".encode()
        text = body[:4096].decode("utf-8", "replace") if status == 429 else ""
        return Refused(status, body[:MOST_ERROR], headers.get("content-type", ""), limits(headers, text))

    def _whole(self, data: bytes, headers: Mapping[str, str]) -> Outcome:
        kind = headers.get("content-type", "")
        try:
            parsed = orjson.loads(data)
        except orjson.JSONDecodeError:
            if not data.strip():
                return Lost("an empty answer")
            # A page where an answer should be is no server's bad day: the address is wrong.
            return Refused(404 if "html" in kind else 502, data, kind, limits(headers))
        if isinstance(parsed, Mapping) and parsed.get("error"):  # with status 200, as some gateways do
            code = parsed["error"].get("code") if isinstance(parsed["error"], Mapping) else None
            return Refused(code if isinstance(code, int) and 400 <= code < 600 else 500, data, kind, limits(headers))
        try:
            reply = self._wire.read(parsed if isinstance(parsed, Mapping) else {})
        except WireError as error:
            return Refused(502, str(error).encode(), "text/plain", limits(headers))
        return Answered(reply, limits(headers))

    async def _stream(self, response: Any, headers: Mapping[str, str], partial: Callable[[str], None]) -> Outcome:
        kind = headers.get("content-type", "")
        if "event-stream" not in kind and not (self._wire.lines and "html" not in kind):
            return self._whole(await bounded(response.content), headers)  # it does not stream
        reply = Reply()
        try:
            async for event in _events(response.content, self._wire.lines, self._server.idle_timeout):
                if event == b"[DONE]":
                    reply.done = True
                    break
                data = orjson.loads(event)
                if isinstance(data, Mapping):
                    if data.get("error") and not self._wire.lines and data.get("type") != "error":
                        return Refused(500, event, "application/json", limits(headers))
                    self._wire.piece(data, reply)
                    partial(with_thinking(reply.reasoning, reply.text))
        except (WireError, orjson.JSONDecodeError) as error:
            return Lost(f"the stream broke: {error}")
        except TimeoutError:
            return Lost(f"the stream stood still for {self._server.idle_timeout:g} s")
        if not reply.done:
            return Lost("the stream ended before the answer did")
        return Answered(reply, limits(headers))


async def _events(content: Any, lines: bool, idle: float) -> AsyncIterator[bytes]:
    """The data of server-sent events (HTML standard, 9.2), or JSON lines, as they come."""
    data: list[bytes] = []
    buffer = b""
    while True:
        async with asyncio.timeout(idle):
            chunk = await content.readany()
        buffer += chunk
        if len(buffer) > MOST_BODY:
            raise WireError("a line without end")
        *whole, buffer = buffer.replace(b"\r\n", b"\n").split(b"\n") if chunk else (*buffer.split(b"\n"), b"")
        for line in whole:
            line = line.rstrip(b"\r")
            if lines:
                if line.strip():
                    yield line
            elif line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []
        if not chunk:
            if data:
                yield b"\n".join(data)
            return


def _tls(server: Server) -> ssl.SSLContext | bool:
    if server.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=server.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise FatalError(f"the certificates in {server.ca_file} cannot be read: {error}") from None
