"""A server of chat completions on loopback that costs next to nothing, in a process of its own.

`python -m benchmarks.server_process PORT [--latency MS] [--faults SHARE]`: every answer is the same 0.6 KB; a share of
faults is spread evenly over 429 with Retry-After 0, 503, and answers that break off in the middle.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools

import orjson

TEXT = "The harbour of the old town is full of boats in summer. " * 6
BODY = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 80, "total_tokens": 280},
    }
)
HEAD = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n"
OK = HEAD % (b"200 OK", len(BODY), b"") + BODY
ERROR = b'{"error": {"message": "too much", "type": "server_error"}}'
LIMITED = HEAD % (b"429 Too Many Requests", len(ERROR), b"retry-after: 0\r\n") + ERROR
BROKEN = HEAD % (b"503 Service Unavailable", len(ERROR), b"") + ERROR
CUT = HEAD % (b"200 OK", len(BODY), b"") + BODY[:200]
FAULTS = (LIMITED, BROKEN, CUT)


class Answerer(asyncio.Protocol):
    """One connection: requests with a content-length, one after the other."""

    def __init__(self, latency: float, every: int) -> None:
        self._latency, self._every = latency, every
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            if self._latency:
                asyncio.get_running_loop().call_later(self._latency, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        number = next(COUNT)
        answer = FAULTS[number // self._every % 3] if self._every and number % self._every == 0 else OK
        self._transport.write(answer)  # type: ignore[attr-defined]
        if answer is CUT:
            self._transport.close()


COUNT = itertools.count(1)


async def serve(port: int, latency: float, faults: float) -> None:
    """Until the process is killed."""
    every = round(1 / faults) if faults else 0
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answerer(latency, every), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--latency", type=float, default=0.0, metavar="MS")
    parser.add_argument("--faults", type=float, default=0.0, metavar="SHARE")
    args = parser.parse_args()
    asyncio.run(serve(args.port, args.latency / 1000, args.faults))
