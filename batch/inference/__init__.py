"""Batches of texts, tokens and prompts through a tokenizer or a local engine, with times and figures of each batch.

    engine = BatchInferenceEngine("path/to/model")
    requests = [BatchItem("a", InferenceBatchRequest("What is AI?", max_tokens=100, temperature=0.7))]
    results = engine.infer_batch(requests)
    print(results.get_by_id("a").data.text, results.stats.items_per_second, results.metrics.latency.p95_ms)

`types` holds requests and responses, `limits` the sizes of batches, `tokenizer` texts and tokens, `dispatch` the way of
requests into one engine by priority, `runner` batches of any requests, `engine` batches of prompts, `streams` responses
and tokens as they come, `metrics` percentiles and service levels. Importing this package imports no tokenizer and no
model library.
"""

from batch.inference.engine import BatchInferenceEngine
from batch.inference.limits import BatchRequestError
from batch.inference.metrics import BatchMetrics, InferenceResults, Percentiles
from batch.inference.runner import BatchRunner
from batch.inference.streams import DoneEvent, ErrorEvent, Stream, TokenEvent
from batch.inference.tokenizer import BatchTokenizer
from batch.inference.types import (
    DetokenizeBatchRequest,
    DetokenizeBatchResponse,
    InferenceBatchRequest,
    InferenceBatchResponse,
    TokenizeBatchRequest,
    TokenizeBatchResponse,
)
from batch.items import BatchItem, BatchResponse, BatchResults, BatchStats, Timing
from batch.slo import ServiceLevel

__all__ = [
    "BatchInferenceEngine",
    "BatchItem",
    "BatchMetrics",
    "BatchRequestError",
    "BatchResponse",
    "BatchResults",
    "BatchRunner",
    "BatchStats",
    "BatchTokenizer",
    "DetokenizeBatchRequest",
    "DetokenizeBatchResponse",
    "DoneEvent",
    "ErrorEvent",
    "InferenceBatchRequest",
    "InferenceBatchResponse",
    "InferenceResults",
    "Percentiles",
    "ServiceLevel",
    "Stream",
    "Timing",
    "TokenEvent",
    "TokenizeBatchRequest",
    "TokenizeBatchResponse",
]
