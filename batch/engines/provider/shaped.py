"""Providers whose batches have OpenAI's shape: one line each, and a page where one asks for more than other words.

What their own libraries send is held by `tests/engines/provider/wire.json`.
"""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from batch.engines.http.server import is_loopback
from batch.engines.http.wire import WireError
from batch.engines.provider.base import PREFIX, Limits, Settings
from batch.engines.provider.openai import Dialect, OpenAIPage, _list
from batch.errors import FatalError

_MISTRAL = {
    "queued": "validating",
    "running": "in_progress",
    "success": "completed",
    "failed": "failed",
    "timeout_exceeded": "expired",
    "cancellation_requested": "cancelling",
    "cancelled": "cancelled",
}
PAGE = 100  # batches in one page of a list

DIALECTS: Mapping[str, Dialect] = {
    "openai": Dialect(),
    "azure": Dialect(),
    "groq": Dialect(limits=Limits(50_000, 100_000_000)),
    "together": Dialect(limits=Limits(50_000, 100_000_000), purpose="batch-api", metadata=False),
    "mistral": Dialect(path="/batch/jobs", cancel="/batch/jobs/{id}/cancel", bare=True, states=_MISTRAL),
    "gateway": Dialect(),  # any other, by its address
}


class MistralPage(OpenAIPage):
    """Mistral: a job names its model, its files in a list, and its window in hours."""

    def _order(self, file: str | None, key: str) -> dict[str, Any]:
        return {
            "input_files": [file],
            "endpoint": "/v1/chat/completions",
            "model": self._settings.model,
            "metadata": {PREFIX: key},
            "timeout_hours": _hours(self._settings.window or self.dialect.window),
        }

    def _all(self) -> Iterator[Mapping[str, Any]]:
        """The newest first, by numbered pages."""
        number = 0
        while True:
            query = {"page": number, "page_size": PAGE}
            listed = self._client.get(self.dialect.path, cast_to=object, options={"params": query})
            rows = _list(listed.get("data")) if isinstance(listed, Mapping) else []
            yield from (row for row in rows if isinstance(row, Mapping))
            number += 1
            if len(rows) < PAGE:
                return


class TogetherPage(OpenAIPage):
    """Together: a file is announced, sent to the place that is named then, and confirmed."""

    def upload(self, path: Path, key: str) -> str:
        """Send the file."""
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        form = {
            "purpose": self.dialect.purpose,
            "file_name": f"{PREFIX}-{key}.jsonl",
            "file_type": "jsonl",
            "checksum": checksum,
        }
        place, name = self._announced(form)
        request = urllib.request.Request(place, method="PUT")
        request.add_header("content-length", str(path.stat().st_size))
        request.add_header("content-type", "application/octet-stream")
        with path.open("rb") as file:
            request.data = file
            urllib.request.urlopen(request, timeout=self._settings.timeout * 10).close()
        self._client.post(f"/files/{name}/preprocess", cast_to=object)
        return name

    def _announced(self, form: dict[str, str]) -> tuple[str, str]:
        """Where the file is to be sent, and its name there."""
        headers = {"content-type": "multipart/form-data"}
        try:
            self._client.post(
                "/files", body=form, cast_to=object, options={"headers": headers, "follow_redirects": False}
            )
        except self._sdk.APIStatusError as answer:  # a redirection is none of its answers
            said = answer.response.headers
            if answer.status_code not in (301, 302, 303, 307) or not said.get("x-together-file-id"):
                raise
            place = str(said.get("location") or "")
            if urlsplit(place).scheme != "https" and not is_loopback(place):
                raise WireError("the place to send a file to is not encrypted") from None
            return place, str(said["x-together-file-id"])
        raise WireError("the place to send a file to was not named")


def _hours(window: str) -> int:
    from batch.engines.provider.row import seconds

    try:
        hours = seconds(window) / 3600
    except ValueError as error:
        raise FatalError(f"window: {error}") from None
    return max(1, round(hours))


_PAGES: Mapping[str, type[OpenAIPage]] = {"mistral": MistralPage, "together": TogetherPage}


def page(settings: Settings) -> OpenAIPage:
    """The page of a provider of this shape."""
    return _PAGES.get(settings.provider, OpenAIPage)(settings, DIALECTS[settings.provider])
