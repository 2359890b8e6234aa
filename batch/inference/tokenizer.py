"""Batches of texts to tokens and back: by Unicode code points, or through a model's own tokenizer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence, Sized
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from batch.errors import ErrorClass, Failure, FatalError, MissingExtraError
from batch.inference.limits import check_batch, parts
from batch.inference.types import (
    DetokenizeBatchRequest,
    DetokenizeBatchResponse,
    TokenizeBatchRequest,
    TokenizeBatchResponse,
)
from batch.items import BatchItem, BatchResponse, BatchResults, BatchStats

MAX_BATCH = 1000
OPTIMAL_BATCH = 32
LAST_CODE_POINT = 0x10FFFF
SURROGATES = range(0xD800, 0xE000)

Q = TypeVar("Q")
A = TypeVar("A")
X = TypeVar("X", bound=Sized)
Y = TypeVar("Y")


class Codec(Protocol):
    """Texts to tokens and back, many at once, in order. May raise for all where one is bad."""

    def encode(self, texts: list[str]) -> list[list[int]]: ...

    def decode(self, tokens: list[Sequence[int]]) -> list[str]: ...


class CodePoints:
    """A token is a Unicode code point. Decoding skips what is none: surrogates, and numbers out of range."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        """One token a character."""
        return [list(map(ord, text)) for text in texts]

    def decode(self, tokens: list[Sequence[int]]) -> list[str]:
        """One character a token."""
        return ["".join(chr(t) for t in row if 0 <= t <= LAST_CODE_POINT and t not in SURROGATES) for row in tokens]


class ModelCodec:
    """A model's `tokenizer.json` through the `tokenizers` library, which spreads a batch over the cores.

    No special tokens are added and none are dropped, so that a text comes back as it was where the model's tokenizer
    keeps all of it. Ids that the tokenizer does not know are skipped.
    """

    def __init__(self, file: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtraError("local", "A model's tokenizer") from error
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception on a bad file
            raise FatalError(f"{file}: the tokenizer cannot be loaded: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._size: int = self._tokenizer.get_vocab_size()
        # The fast form leaves out the offsets in the text; older versions have only the other.
        name = "encode_batch_fast" if hasattr(self._tokenizer, "encode_batch_fast") else "encode_batch"
        self._encode = getattr(self._tokenizer, name)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The ids of all texts in one call."""
        return [encoding.ids for encoding in self._encode(texts, add_special_tokens=False)]

    def decode(self, tokens: list[Sequence[int]]) -> list[str]:
        """The texts of all rows in one call."""
        try:
            texts: list[str] = self._tokenizer.decode_batch(tokens, skip_special_tokens=False)
        except OverflowError:  # the library itself skips what it does not know, but only within 32 bits
            rows = [[t for t in row if 0 <= t < self._size] for row in tokens]
            texts = self._tokenizer.decode_batch(rows, skip_special_tokens=False)
        return texts


class BatchTokenizer:
    """Encodes and decodes batches; responses are in the order of the requests.

    Without a model a token is a Unicode code point. `model` is a model's folder, its `tokenizer.json`, or the name of a
    model in the Hugging Face cache (`Qwen/Qwen3-0.6B`); the network is never asked. A batch may have 1,000 items, or
    any number with `split=True`; throughput is best from 32 on. A model's tokenizer takes a whole batch in one
    call, so an item's duration is then its share of that call by length.
    """

    def __init__(self, model: str | Path | None = None) -> None:
        self.model = model
        self._codec: Codec = CodePoints() if model is None else ModelCodec(find_tokenizer(model))

    @classmethod
    def new(cls, model: str | Path | None = None) -> BatchTokenizer:
        """A tokenizer; see the class."""
        return cls(model)

    @staticmethod
    def max_batch_size() -> int:
        """Most items of a batch: 1,000."""
        return MAX_BATCH

    @staticmethod
    def optimal_batch_size() -> int:
        """Items from which on a batch is worth its while: 32."""
        return OPTIMAL_BATCH

    def encode_batch(
        self, requests: Iterable[BatchItem[TokenizeBatchRequest]], *, split: bool = False
    ) -> BatchResults[TokenizeBatchResponse]:
        """Texts to tokens."""
        return _run(check_batch(requests, MAX_BATCH, split=split), self._encode)

    def decode_batch(
        self, requests: Iterable[BatchItem[DetokenizeBatchRequest]], *, split: bool = False
    ) -> BatchResults[DetokenizeBatchResponse]:
        """Tokens to texts."""
        return _run(check_batch(requests, MAX_BATCH, split=split), self._decode)

    async def aencode_batch(
        self, requests: Iterable[BatchItem[TokenizeBatchRequest]], *, split: bool = False
    ) -> BatchResults[TokenizeBatchResponse]:
        """As `encode_batch`, in a thread of its own."""
        return await asyncio.to_thread(self.encode_batch, requests, split=split)

    async def adecode_batch(
        self, requests: Iterable[BatchItem[DetokenizeBatchRequest]], *, split: bool = False
    ) -> BatchResults[DetokenizeBatchResponse]:
        """As `decode_batch`, in a thread of its own."""
        return await asyncio.to_thread(self.decode_batch, requests, split=split)

    def encode_stream(
        self, requests: Iterable[BatchItem[TokenizeBatchRequest]]
    ) -> Iterator[BatchResponse[TokenizeBatchResponse]]:
        """Responses to any number of requests, which are taken 32 at a time."""
        return _stream(requests, self._encode)

    def decode_stream(
        self, requests: Iterable[BatchItem[DetokenizeBatchRequest]]
    ) -> Iterator[BatchResponse[DetokenizeBatchResponse]]:
        """Responses to any number of requests, which are taken 32 at a time."""
        return _stream(requests, self._decode)

    async def aencode_stream(
        self, requests: Iterable[BatchItem[TokenizeBatchRequest]]
    ) -> AsyncIterator[BatchResponse[TokenizeBatchResponse]]:
        """As `encode_stream`, in threads beside the event loop."""
        async for response in _astream(self.encode_stream(requests)):
            yield response

    async def adecode_stream(
        self, requests: Iterable[BatchItem[DetokenizeBatchRequest]]
    ) -> AsyncIterator[BatchResponse[DetokenizeBatchResponse]]:
        """As `decode_stream`, in threads beside the event loop."""
        async for response in _astream(self.decode_stream(requests)):
            yield response

    def _encode(self, items: Sequence[BatchItem[TokenizeBatchRequest]]) -> list[BatchResponse[TokenizeBatchResponse]]:
        texts = [item.data.text for item in items]
        return _respond(items, texts, self._codec.encode, lambda row: TokenizeBatchResponse(row, len(row)))

    def _decode(
        self, items: Sequence[BatchItem[DetokenizeBatchRequest]]
    ) -> list[BatchResponse[DetokenizeBatchResponse]]:
        return _respond(items, [item.data.tokens for item in items], self._codec.decode, DetokenizeBatchResponse)


def find_tokenizer(model: str | Path) -> Path:
    """The `tokenizer.json` of a folder, of itself, or of a name in the Hugging Face cache; FatalError without one."""
    path = Path(model).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        if (path / "tokenizer.json").is_file():
            return path / "tokenizer.json"
        raise FatalError(f"{path}: there is no tokenizer.json")
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    stored = cache / f"models--{str(model).replace('/', '--')}" / "snapshots"
    files = sorted(stored.glob("*/tokenizer.json"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise FatalError(f"{model}: neither a folder with a tokenizer.json nor a model in {cache}")
    return files[-1]


def _run(
    items: Sequence[BatchItem[Q]], respond: Callable[[Sequence[BatchItem[Q]]], list[BatchResponse[A]]]
) -> BatchResults[A]:
    start = time.perf_counter_ns()
    responses = [response for part in parts(items, MAX_BATCH) for response in respond(part)]
    wall = time.perf_counter_ns() - start
    spent = sum(response.duration_ns for response in responses)
    return BatchResults(responses, BatchStats(len(responses), total_duration_ns=wall, item_duration_ns=spent))


def _stream(
    requests: Iterable[BatchItem[Q]], respond: Callable[[Sequence[BatchItem[Q]]], list[BatchResponse[A]]]
) -> Iterator[BatchResponse[A]]:
    source = iter(requests)
    while part := list(islice(source, OPTIMAL_BATCH)):
        yield from respond(part)


async def _astream(responses: Iterator[BatchResponse[A]]) -> AsyncIterator[BatchResponse[A]]:
    def take() -> list[BatchResponse[A]]:
        return list(islice(responses, OPTIMAL_BATCH))

    while part := await asyncio.to_thread(take):
        for response in part:
            yield response


def _respond(
    items: Sequence[BatchItem[Q]],
    inputs: list[X],
    work: Callable[[list[X]], list[Y]],
    answer: Callable[[Y], A],
) -> list[BatchResponse[A]]:
    """A response for every item: all in one call, and one by one where the batch has a bad one in it."""
    start = time.perf_counter_ns()
    try:
        outputs = work(inputs)
    except Exception:  # whichever item it was, and whatever the codec raises for it
        return [_alone(item, value, work, answer) for item, value in zip(items, inputs, strict=True)]
    spent = time.perf_counter_ns() - start
    sizes = [len(value) + 1 for value in inputs]
    scale = spent / sum(sizes) if sizes else 0.0
    return [
        BatchResponse(item.id, answer(output), int(size * scale))
        for item, output, size in zip(items, outputs, sizes, strict=True)
    ]


def _alone(
    item: BatchItem[Q], value: X, work: Callable[[list[X]], list[Y]], answer: Callable[[Y], A]
) -> BatchResponse[A]:
    start = time.perf_counter_ns()
    try:
        data = answer(work([value])[0])
    except Exception as error:
        failure = Failure(ErrorClass.PERMANENT, f"cannot be tokenized: {type(error).__name__}: {error}")
        return BatchResponse(item.id, None, time.perf_counter_ns() - start, failure)
    return BatchResponse(item.id, data, time.perf_counter_ns() - start)
