"""Batches through the library alone: `python examples/batch_inference.py`. Uses the built-in model."""

from ai_router.models import DEMO_PATH
from batch.inference import (
    BatchInferenceEngine,
    BatchItem,
    BatchTokenizer,
    InferenceBatchRequest,
    TokenEvent,
    TokenizeBatchRequest,
)


def main() -> None:
    texts = [BatchItem("req1", TokenizeBatchRequest("Hello world")), BatchItem("req2", TokenizeBatchRequest("Batches"))]
    for tokenizer in (BatchTokenizer(), BatchTokenizer(DEMO_PATH)):  # code points, and the model's own tokens
        for encoded in tokenizer.encode_batch(texts):
            if encoded.data:
                print(f"{encoded.id}: {encoded.data.count} tokens in {encoded.duration_ns / 1e6:.3f} ms")

    questions = ["What is a stack?", "What is a hash table?", "Name a sorting algorithm."]
    requests = [BatchItem(q, InferenceBatchRequest(q, max_tokens=40, temperature=0.0)) for q in questions]
    with BatchInferenceEngine(DEMO_PATH) as engine:
        results = engine.infer_batch(requests, slo={"p95_ms": 60_000})
        for response in results:
            print(f"{response.id} {response.data.text if response.data else response.error}")
        print(f"{results.success_count()} of {len(results)} in {results.stats.total_duration_ms} ms")
        print(
            f"{results.metrics.tokens_per_second:.0f} tokens/s, p95 {results.metrics.latency.p95_ms:.0f} ms", end=", "
        )
        print("service level met" if results.slo_met else "service level missed")
        for event in engine.stream_tokens(requests[:1]):
            print(event.text if isinstance(event, TokenEvent) else "\n", end="", flush=True)


if __name__ == "__main__":
    main()
