"""The file of a batch while it is filled: lines go to the disk, ids stay."""

from __future__ import annotations

import tempfile
from pathlib import Path

import orjson

from batch.engines.forms import NAME, TEXT, Form, inner
from batch.engines.provider.base import Limits, Page
from batch.items import BatchItem, ItemId, Request
from batch.options import SamplingOptions


class Shard:
    """Requests that go into one batch. Its file is gone with `close`: what is on the disk of a job is the truth."""

    def __init__(self, key: str, limits: Limits) -> None:
        self.key = key
        self.ids: list[ItemId] = []
        self.bytes = 0
        self._limits = limits
        self._folder = tempfile.TemporaryDirectory(prefix="ai-router-batch-")
        self._form: Form | None = None
        self.path = Path(self._folder.name) / f"{key}.jsonl"
        self._file = self.path.open("wb")

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, position: int) -> str:
        """What a request is called, there and back: of small letters, digits and hyphens, at most 63."""
        return f"{self.key}-{position}"

    def line(
        self, page: Page, item: BatchItem[Request], options: SamplingOptions, left_out: object, *, usual: bool
    ) -> bytes:
        """An item as its line. Those with the `usual` options and nothing of their own differ in their texts alone."""
        name, request = self.name(len(self.ids)), item.data
        if not usual or request.extra:
            return orjson.dumps(page.line(name, request, options, left_out)) + b"\n"
        if self._form is None:
            self._form = Form(orjson.dumps(page.line(NAME, Request(TEXT), options, left_out)) + b"\n", NAME, TEXT)
        parts = self._form.parts
        if parts is None:
            return orjson.dumps(page.line(name, request, options, left_out)) + b"\n"
        return b"%b%b%b%b%b" % (parts[0], name.encode(), parts[1], inner(request.text), parts[2])

    def fits(self, line: bytes) -> bool:
        """Whether there is room for one more."""
        return len(self.ids) < self._limits.requests and self.bytes + len(line) <= self._limits.bytes

    def add(self, item_id: ItemId, line: bytes) -> None:
        """Take it."""
        self._file.write(line)
        self.ids.append(item_id)
        self.bytes += len(line)

    def finish(self) -> Path:
        """The whole file."""
        self._file.close()
        return self.path

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
        self._folder.cleanup()
