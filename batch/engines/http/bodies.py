"""The bodies of requests as bytes: written once for all that differ in nothing but their text."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson

from batch.engines.forms import TEXT, Form, inner
from batch.engines.http.server import Server
from batch.engines.http.wire import Wire
from batch.items import Request
from batch.options import SamplingOptions

# What may be left out of a request that is refused for it: the answer is the model's own then, and that is said.
_DROPPABLE = {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stream_options"}


class Bodies:
    """What one server is sent, and which of the options that were asked for it is not sent."""

    def __init__(self, server: Server, wire: Wire, usual: SamplingOptions) -> None:
        self.left_out: Counter[str] = Counter()  # options that were asked for and not sent
        self._server, self._wire, self._usual = server, wire, usual
        self._refused: set[str] = set()  # what the server itself refused, by its own names
        self._forms: dict[bool, Form] = {}  # streamed or not

    def of(self, request: Request, options: SamplingOptions, *, streamed: bool) -> bytes:
        """The body of a request."""
        if request.extra or options is not self._usual:
            return orjson.dumps(self._whole(request, options, streamed))
        if streamed not in self._forms:
            self._forms[streamed] = Form(orjson.dumps(self._whole(Request(TEXT), options, streamed)), TEXT)
        parts = self._forms[streamed].parts
        if parts is None:
            return orjson.dumps(self._whole(request, options, streamed))
        return b"%b%b%b" % (parts[0], inner(request.text), parts[1])

    def drop(self, name: str) -> bool:
        """Leave a refused option out from now on, and say so; whether there was one to leave out."""
        own = {"stop_sequences": "stop", self._server.repetition_name: "repetition_penalty"}.get(name, name)
        if own not in _DROPPABLE or name in self._refused:
            return False
        self._refused.add(name)
        self.left_out[own] += 1
        self._forms.clear()
        return True

    def _whole(self, request: Request, options: SamplingOptions, streamed: bool) -> dict[str, Any]:
        body = self._wire.body(self._server, request, options, self._leave_out)
        body = {name: value for name, value in body.items() if name not in self._refused} | dict(self._server.body)
        if streamed:
            body = self._wire.streamed(self._server, body)
            for name in self._refused & {"stream_options"}:
                body.pop(name, None)
        return body

    def _leave_out(self, option: str) -> None:
        self.left_out[option] += 1
