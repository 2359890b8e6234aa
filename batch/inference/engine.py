"""Prompts through a local engine: the batch inference API over continuous batching."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from batch.engines.base import Engine, closing_answers
from batch.engines.desk import Desk, MemoryDesk
from batch.engines.local.core import ThreadedEngine
from batch.engines.local.host import HostedEngine
from batch.engines.registry import default_engine
from batch.inference.limits import BatchRequestError
from batch.inference.metrics import InferenceResults
from batch.inference.runner import BatchRunner, Event
from batch.inference.streams import Stream
from batch.inference.types import InferenceBatchRequest, InferenceBatchResponse
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions

MAX_BATCH = 100
OPTIMAL_BATCH = 8


class BatchInferenceEngine:
    """Answers batches of prompts with a model on this machine.

    `model` is the folder of a Hugging Face model, which the engine of `kind` ("torch", "mlx"; None: the best one for
    this machine) loads in a process of its own with the first batch; or any engine that is already there
    (`TorchEngine(path)`, a `HostedEngine`, …), which `close` then closes too. `spec` goes to the engine (`precision`,
    `adapter_path`, …), `sampling` holds for whatever a request does not say, `max_batch` is how many prompts run at
    once (None: the engine decides).

    A batch may have 100 prompts, or any number with `split=True`. All of a batch is queued at once and prompts join and
    leave the running ones at every step, so nothing is gained by smaller batches; from 8 prompts on a batch is worth
    its while. Batches from several threads or tasks run together. There is no model without one being named: every
    answer is a model's.
    """

    def __init__(
        self,
        model: str | Path | Engine[Request, Answer] | None = None,
        *,
        kind: str | None = None,
        sampling: SamplingOptions | None = None,
        max_batch: int | None = None,
        **spec: Any,
    ) -> None:
        if model is None:
            raise BatchRequestError(
                'BatchInferenceEngine needs a model: the folder of one, as in BatchInferenceEngine("path/to/model"), '
                "or an engine"
            )
        engine: Engine[Request, Answer]
        if isinstance(model, str | Path):
            folder = Path(model).expanduser()
            engine = HostedEngine(kind or default_engine(folder), {"path": folder, **spec}, sampling, max_batch)
        elif kind or sampling or max_batch or spec:
            raise BatchRequestError("kind, sampling, max_batch and spec are for a model's folder, not for an engine")
        else:
            engine = model
        if isinstance(engine, HostedEngine | ThreadedEngine):
            engine.timing = True
        self.engine = engine
        self._runner = BatchRunner(_Translation(engine))

    @classmethod
    def new(cls, model: str | Path | Engine[Request, Answer] | None = None, **options: Any) -> BatchInferenceEngine:
        """An engine; see the class."""
        return cls(model, **options)

    @staticmethod
    def max_batch_size() -> int:
        """Most prompts of a batch: 100."""
        return MAX_BATCH

    @staticmethod
    def optimal_batch_size() -> int:
        """Prompts from which on a batch is worth its while: 8."""
        return OPTIMAL_BATCH

    def infer_batch(
        self,
        requests: Iterable[BatchItem[InferenceBatchRequest]],
        *,
        split: bool = False,
        slo: Mapping[str, float] | None = None,
    ) -> InferenceResults[InferenceBatchResponse]:
        """Answer all; the responses are in the order of the requests.

        `slo` sets service levels, `{"p95_ms": 2000, "tokens_per_second": 50}`, reported in `service_levels`: p50, p95
        and p99 of the time to an answer, with `queue_` or `first_token_` in front of those, all in milliseconds from
        this call on and over the answered items, and the least `tokens_per_second` and `items_per_second`.
        Raises FatalError where the engine fails before the first answer; when it fails later, the rest are failures.
        """
        return self._runner.run(requests, most=MAX_BATCH, split=split, slo=slo)

    async def ainfer_batch(
        self,
        requests: Iterable[BatchItem[InferenceBatchRequest]],
        *,
        split: bool = False,
        slo: Mapping[str, float] | None = None,
    ) -> InferenceResults[InferenceBatchResponse]:
        """As `infer_batch`, for callers with an event loop; cancelling it withdraws the batch."""
        return await self._runner.arun(requests, most=MAX_BATCH, split=split, slo=slo)

    def stream(
        self, requests: Iterable[BatchItem[InferenceBatchRequest]], *, split: bool = False
    ) -> Stream[BatchResponse[InferenceBatchResponse]]:
        """The responses as they are ready, for `for` and for `async for`."""
        return self._runner.responses(requests, most=MAX_BATCH, split=split)

    def stream_tokens(
        self, requests: Iterable[BatchItem[InferenceBatchRequest]], *, split: bool = False
    ) -> Stream[Event[InferenceBatchResponse]]:
        """Token, done and error events of all items as they come, for `for` and for `async for`."""
        return self._runner.events(requests, most=MAX_BATCH, split=split)

    def start(self) -> None:
        """Begin to load the model now, in the background; else the first batch waits for it."""
        self._runner.start()

    def close(self) -> None:
        """End the engine; batches that are still open fail."""
        self._runner.close()

    async def aclose(self) -> None:
        """As `close`."""
        await self._runner.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Translation:
    """An engine of texts as an engine of this API's requests and responses."""

    def __init__(self, engine: Engine[Request, Answer]) -> None:
        self.name = engine.name
        self._engine = engine

    @property
    def status(self) -> str:
        """As the engine says."""
        return self._engine.status

    @property
    def about(self) -> Mapping[str, Any]:
        """As the engine says."""
        return self._engine.about

    async def answer(
        self, items: AsyncIterator[BatchItem[InferenceBatchRequest]], desk: Desk
    ) -> AsyncIterator[BatchResponse[InferenceBatchResponse]]:
        """Yield one response for every item pulled."""

        held: dict[ItemId, Request] = {}

        async def requests() -> AsyncIterator[BatchItem[Request]]:
            async for item in items:
                request = held[item.id] = item.data.request()
                yield BatchItem(item.id, request, item.priority, item.attempt)

        # The items of the desk that is given are no requests of an engine of texts.
        async with closing_answers(self._engine.answer(requests(), MemoryDesk(held))) as answers:
            async for response in answers:
                held.pop(response.id, None)
                yield _translated(response)

    def partial_texts(self) -> Mapping[ItemId, str]:
        """The text so far of items in flight."""
        return self._engine.partial_texts()

    async def close(self) -> None:
        """Free the engine."""
        await self._engine.close()


def _translated(response: BatchResponse[Answer]) -> BatchResponse[InferenceBatchResponse]:
    data = None
    if response.data is not None:
        data = InferenceBatchResponse(response.data.text, response.tokens_output, dict(response.data.extra or {}))
    # `replace` keeps the type of the data, which changes here.
    changed: Any = replace(response, data=data)  # type: ignore[arg-type]
    return changed  # type: ignore[no-any-return]
