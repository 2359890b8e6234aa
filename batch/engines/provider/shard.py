"""The file of a batch while it is filled: lines go to the disk, ids stay."""

from __future__ import annotations

import tempfile
from pathlib import Path

import orjson

from batch.engines.forms import NAME, TEXT, Form, inner
from batch.engines.provider.base import Limits, Page
from batch.items import ItemId, Request
from batch.options import SamplingOptions


class Shard:
    """Requests that go into one batch. Its file is gone with `close`: what is on the disk of a job is the truth."""

    def __init__(self, key: str, limits: Limits) -> None:
        self.key = key
        self.ids: list[ItemId] = []
        self.bytes = 0
        self._most, self._most_bytes = limits.requests, limits.bytes
        self._folder = tempfile.TemporaryDirectory(prefix="ai-router-batch-")
        self._asked = False
        self._parts: tuple[bytes, bytes, bytes] | None = None  # of the lines that differ in number and text alone
        self.path = Path(self._folder.name) / f"{key}.jsonl"
        self._file = self.path.open("wb")

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, position: int) -> str:
        """What a request is called, there and back: of small letters, digits and hyphens, at most 63."""
        return f"{self.key}-{position}"

    def line(self, page: Page, request: Request, options: SamplingOptions, left_out: object) -> bytes:
        """The next item's line."""
        return orjson.dumps(page.line(self.name(len(self.ids)), request, options, left_out)) + b"\n"

    def begin(self, page: Page, request: Request, options: SamplingOptions, left_out: object) -> bytes:
        """The same of one that has but a text, with the options that all such have: `plain_line` knows them then."""
        if not self._asked:
            self._asked = True
            form = Form(orjson.dumps(page.line(NAME, Request(TEXT), options, left_out)) + b"\n", NAME, TEXT)
            if form.parts is not None:
                before, between, after = form.parts
                self._parts = before + f"{self.key}-".encode(), between, after
        return self.plain_line(request.text) or self.line(page, request, options, left_out)

    def plain_line(self, text: str) -> bytes | None:
        """The next item's line, where it has but a text; None before `begin`, and where a page has no such form."""
        if self._parts is None:
            return None
        before, between, after = self._parts
        return b"%b%d%b%b%b" % (before, len(self.ids), between, inner(text), after)

    def add(self, item_id: ItemId, line: bytes) -> bool:
        """Take it, if there is room for one more."""
        ids, size = self.ids, self.bytes + len(line)
        if len(ids) >= self._most or size > self._most_bytes:
            return False
        self._file.write(line)
        ids.append(item_id)
        self.bytes = size
        return True

    def finish(self) -> Path:
        """The whole file."""
        self._file.close()
        return self.path

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
        self._folder.cleanup()
