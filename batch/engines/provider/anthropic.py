"""Anthropic's Message Batches.

A batch carries no name of ours: only its results do, once it has ended. Sources: the API reference and the types of
the library (anthropic 2.14), which refuses sampling (see `http.server`), so that none is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from batch.engines.http.native import AnthropicWire
from batch.engines.http.server import PRESETS, Server
from batch.engines.http.wire import WireError
from batch.engines.provider.base import Found, Limits, Lookup, Remote, Result, Settings, key_of
from batch.engines.provider.faults import line_failure, sdk
from batch.errors import Cause, ErrorClass, Failure
from batch.items import Request
from batch.options import SamplingOptions

SKEW = 300.0  # seconds by which the two clocks may differ


class AnthropicPage:
    """Anthropic."""

    # Its own limits are 100,000 requests and 256 MB; a batch goes in one request, which stands in memory.
    limits = Limits(100_000, 64_000_000)
    uploads = False
    cancels = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        url = settings.base_url or str(PRESETS["anthropic"]["base_urls"][0])
        self._server = Server(
            model=settings.model, base_urls=(url,), accepts=PRESETS["anthropic"]["accepts"], schema="native"
        )
        self._client: Any = sdk("anthropic", "the batch API").Anthropic(
            api_key=key_of(settings),
            base_url=url,
            max_retries=0,
            timeout=settings.timeout,
            default_headers=dict(settings.headers) or None,
        )
        self._wire = AnthropicWire()

    @property
    def _batches(self) -> Any:
        return self._client.messages.batches

    def line(self, custom_id: str, request: Request, options: SamplingOptions, left_out: Any) -> dict[str, Any]:
        """A request as its line."""
        body = self._wire.body(self._server, request, options, left_out)
        return {"custom_id": custom_id, "params": {**body, **self._settings.body}}

    def upload(self, path: Path, key: str) -> str:
        """There is nothing to upload."""
        raise NotImplementedError

    def create(self, path: Path, file: str | None, key: str) -> Remote:
        """Make the batch."""
        requests = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        return _read(self._batches.create(requests=requests, timeout=self._settings.timeout * 10))

    def check(self, remote_id: str) -> Remote:
        """How it stands."""
        return _read(self._batches.retrieve(remote_id))

    def cancel(self, remote_id: str) -> None:
        """Ask for its end."""
        self._batches.cancel(remote_id)

    def results(self, remote: Remote) -> Iterator[Result]:
        """Its answers."""
        for entry in self._batches.results(remote.id, timeout=self._settings.timeout * 10):
            yield self._result(entry.to_dict())

    def find(self, lookup: Lookup) -> Found:
        """By its results' names where it has ended; where it has not, by its size and age, which is a guess."""
        maybe = []
        for batch in self._batches.list(limit=100):
            if batch.created_at.timestamp() < lookup.since - SKEW:
                break
            if batch.id in lookup.known:
                continue
            remote = _read(batch)
            counts = batch.request_counts
            total = sum((counts.processing, counts.succeeded, counts.errored, counts.canceled, counts.expired))
            if total != lookup.count:
                continue
            if not remote.over or not remote.results:
                maybe.append(batch.id)
            elif next((r.custom_id for r in self.results(remote)), "").startswith(f"{lookup.key}-"):
                return Found(remote)
        return Found(maybe=tuple(maybe), sure=not maybe)

    def models(self) -> list[str]:
        """The models that the key may use."""
        return sorted(model.id for model in self._client.models.list(limit=100))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _result(self, entry: dict[str, Any]) -> Result:
        custom_id = str(entry.get("custom_id") or "")
        result = entry.get("result") or {}
        kind = result.get("type")
        if kind == "succeeded":
            try:
                return Result(custom_id, self._wire.read(result.get("message") or {}))
            except WireError as problem:
                return Result(custom_id, failure=Failure(ErrorClass.PERMANENT, str(problem)))
        if kind in ("canceled", "expired"):
            return Result(custom_id)
        if kind == "errored":
            said = result.get("error") or {}
            inner = said.get("error") or said
            status = _STATUS.get(str(inner.get("type")), 400)
            return Result(custom_id, failure=line_failure(status, orjson.dumps({"error": inner}), "anthropic"))
        return Result(
            custom_id, failure=Failure(ErrorClass.TRANSIENT, f"a result of type {kind!r}", cause=Cause.SERVER)
        )


_STATUS = {
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "api_error": 500,
    "overloaded_error": 529,
}


def _read(batch: Any) -> Remote:
    counts = batch.request_counts
    over = batch.processing_status == "ended"
    return Remote(
        batch.id,
        batch.processing_status,
        over=over,
        # They stay 0 until all is over, which is no count.
        done=counts.succeeded if over else None,
        failed=counts.errored if over else None,
        results=(batch.results_url,) if over and batch.results_url else (),
        expires=batch.expires_at.timestamp() if batch.expires_at else None,
    )
