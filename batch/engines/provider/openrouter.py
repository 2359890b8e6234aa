"""OpenRouter's batches: the models of all makers with one key. Requests go in the order itself, answers come in it.

Sources: OpenRouter's API reference, and what the crate openrouter-batch says was seen on the wire: `endpoint` and
`model` stand before `requests`, or it is refused; it cannot be cancelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from batch.engines.provider.base import PREFIX, Found, Limits, Lookup, Remote, Result, Settings
from batch.engines.provider.openai import Dialect, OpenAIPage, _list, _seconds, openai_result
from batch.errors import FatalError
from batch.items import Request
from batch.options import SamplingOptions

SKEW = 300.0


class OpenRouterPage(OpenAIPage):
    """OpenRouter."""

    uploads = False
    cancels = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, Dialect(limits=Limits(5_000, 32_000_000)))

    def line(self, custom_id: str, request: Request, options: SamplingOptions, left_out: Any) -> dict[str, Any]:
        """A request as its line."""
        body = super().line(custom_id, request, options, left_out)["body"]
        body.pop("model", None)
        return {"custom_id": custom_id, "body": body}

    def create(self, path: Path, file: str | None, key: str) -> Remote:
        """Make the batch."""
        requests = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        body = {
            "endpoint": "/v1/chat/completions",
            "model": self._settings.model,
            "metadata": {PREFIX: key},
            "requests": requests,
        }
        options = {"timeout": self._settings.timeout * 10}
        return self._read(self._client.post("/batches", body=body, cast_to=object, options=options))

    def cancel(self, remote_id: str) -> None:
        """There is no such thing."""
        raise FatalError("OpenRouter cannot cancel a batch: it ends by itself")

    def results(self, remote: Remote) -> Iterator[Result]:
        """What came with it, or page by page."""
        if remote.inline:
            yield from (self._line(row) for row in _list(remote.inline))
            return
        query: dict[str, Any] = {}
        while True:
            page = self._client.get(f"/batches/{remote.id}/results", cast_to=object, options={"params": query})
            if not isinstance(page, Mapping):
                return
            yield from (self._line(row) for row in _list(page.get("results") or page.get("data")))
            cursor = page.get("next_cursor") or page.get("cursor")
            if not cursor or cursor == query.get("cursor"):
                return
            query["cursor"] = cursor

    def _line(self, row: Any) -> Result:
        return openai_result(row if isinstance(row, Mapping) else b"", self._wire, "openrouter")

    def _read(self, data: Any) -> Remote:
        remote = super()._read(data)
        # Where its results are is not said: a batch that is over is asked for them.
        return replace(remote, results=("results",)) if remote.over and not remote.inline else remote

    def find(self, lookup: Lookup) -> Found:
        """By the name that it carries, where it is kept; else by age and size, which is a guess."""
        maybe = []
        for data in self._all():
            metadata = data.get("metadata")
            if isinstance(metadata, Mapping) and metadata.get(PREFIX) == lookup.key:
                return Found(self._read(data))
            if isinstance(metadata, Mapping) and metadata.get(PREFIX):
                continue
            made = _seconds(data.get("created_at"))
            if data.get("id") in lookup.known or (made is not None and made < lookup.since - SKEW):
                continue
            remote = self._read(data)
            if remote.over and next((r.custom_id for r in self.results(remote)), "").startswith(f"{lookup.key}-"):
                return Found(remote)
            if not remote.over and remote.total in (None, 0, lookup.count):
                maybe.append(remote.id)
        return Found(maybe=tuple(maybe), sure=not maybe)
