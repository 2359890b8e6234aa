"""The batch inference API without a model: items, responses, figures, limits, the code-point tokenizer."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch.errors import ErrorClass, Failure, FatalError
from batch.inference import (
    BatchInferenceEngine,
    BatchItem,
    BatchRequestError,
    BatchResponse,
    BatchResults,
    BatchStats,
    BatchTokenizer,
    DetokenizeBatchRequest,
    InferenceBatchRequest,
    Percentiles,
    Timing,
    TokenizeBatchRequest,
)
from batch.inference.metrics import InferenceResults, check_slo

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "ai_router" / "demo"
NS = 1_000_000


def texts(*values: str) -> list[BatchItem[TokenizeBatchRequest]]:
    return [BatchItem(f"req{i}", TokenizeBatchRequest(text)) for i, text in enumerate(values)]


def tokens(*values: list[int]) -> list[BatchItem[DetokenizeBatchRequest]]:
    return [BatchItem(f"req{i}", DetokenizeBatchRequest(row)) for i, row in enumerate(values)]


def answered(item_id: str, ms: int) -> BatchResponse[str]:
    return BatchResponse.new(item_id, "text", ms)


def test_items_and_responses() -> None:
    item = BatchItem.new("a", {"any": "thing"}, 3)
    assert (item.get_id(), item.get_data(), item.priority) == ("a", {"any": "thing"}, 3)
    response = BatchResponse.new("a", 7, 150)
    assert (response.get_id(), response.get_data(), response.get_duration_ms()) == ("a", 7, 150)
    assert response.duration_ns == 150 * NS and response.success
    assert BatchResponse("a", None, duration_ns=1_999_999).duration_ms == 1


def test_statistics() -> None:
    """The reference's own figures."""
    assert BatchStats.new(1, 100).avg_item_time_ms == 100
    assert BatchStats(100, 500).avg_item_time_ms == 5
    assert BatchStats(10, 1000).speedup_vs_single(200) == 2
    assert BatchStats(10, 1000).items_per_second == 10
    assert BatchStats(0, 0).items_per_second == BatchStats(0, 0).avg_item_time_ms == 0
    assert BatchStats(0, 100).speedup_vs_single(200) == 1
    assert BatchStats(10, 1000).speedup_vs_single() == 100  # the average, where it is above 1
    assert BatchStats(10, 5).speedup_vs_single() == 1
    # What takes less than a millisecond has a rate all the same.
    quick = BatchStats(10, total_duration_ns=500_000, item_duration_ns=2_000_000)
    assert (quick.total_duration_ms, quick.items_per_second, quick.overlap) == (0, 20_000, 4)


@given(st.integers(0, 10**6), st.integers(0, 10**9))
def test_statistics_hold_together(items: int, ms: int) -> None:
    stats = BatchStats(items, ms)
    assert stats.total_duration_ms == ms
    assert stats.avg_item_time_ms * items == pytest.approx(ms if items else 0)
    if items and ms:
        assert stats.items_per_second * stats.avg_item_time_ms == pytest.approx(1000)
        assert stats.speedup_vs_single(stats.avg_item_time_ms) == pytest.approx(1)


def test_results() -> None:
    results = BatchResults.new([answered("a", 100), answered("b", 200), answered("c", 300)])
    assert results.stats.total_duration_ms == 600 and results.stats.total_items == 3
    assert len(results) == 3 and results[1].id == "b" and results[-1].id == "c"
    assert [r.id for r in results] == [r.id for r in results.responses] == ["a", "b", "c"]
    assert [r.id for r in results[:2]] == ["a", "b"]
    found = results.get_by_id("b")
    assert found is results[1] and results.get_by_id("d") is None
    assert results.all_succeeded() and results.success_count() == 3 and results.failures == []
    failed: BatchResponse[str] = BatchResponse("d", None, error=Failure(ErrorClass.PERMANENT, "no"))
    results = BatchResults([*results, failed])
    assert not results.all_succeeded() and results.success_count() == 3 and results.failures == [failed]
    assert BatchResults[str]([]).all_succeeded() and BatchResults[str]([]).stats.items_per_second == 0
    with pytest.raises(ValueError, match="same id"):
        BatchResults([answered("a", 1), answered("a", 1)])


def test_encode() -> None:
    results = BatchTokenizer().encode_batch(texts("Hello world", "", "a" * 1000, "日本語🙂"))
    assert [r.data and r.data.count for r in results] == [11, 0, 1000, 4]
    assert results[0].data and results[0].data.tokens == [ord(c) for c in "Hello world"]
    assert [r.id for r in results] == ["req0", "req1", "req2", "req3"]
    assert results.stats.total_items == 4 and results.stats.items_per_second > 0
    assert results.stats.item_duration_ns <= results.stats.total_duration_ns
    assert all(r.duration_ns >= 0 for r in results)


def test_decode() -> None:
    results = BatchTokenizer.new().decode_batch(
        tokens([104, 101, 108, 108, 111], [], [-1, 97, 0xD800, 0xDFFF, 0x110000, 2**32, 98])
    )
    assert [r.data and r.data.text for r in results] == ["hello", "", "ab"]


@given(st.lists(st.text(), max_size=8))
@example(["\x00\uffff\U0010ffff", "", "e\u0301"])
def test_what_is_encoded_comes_back(values: list[str]) -> None:
    tokenizer = BatchTokenizer()
    encoded = tokenizer.encode_batch(texts(*values))
    decoded = tokenizer.decode_batch(tokens(*(r.data.tokens for r in encoded if r.data)))
    assert [r.data and r.data.text for r in decoded] == values
    assert [r.data and r.data.count for r in encoded] == [len(value) for value in values]


def test_a_bad_item_fails_alone() -> None:
    requests: Any = texts("one", "two", "three")
    requests[1] = BatchItem("req1", TokenizeBatchRequest(7))  # type: ignore[arg-type]
    results = BatchTokenizer().encode_batch(requests)
    assert [r.success for r in results] == [True, False, True] and not results.all_succeeded()
    assert results[1].error and "TypeError" in results[1].error.message


def test_limits_of_a_batch() -> None:
    tokenizer = BatchTokenizer()
    assert (tokenizer.max_batch_size(), tokenizer.optimal_batch_size()) == (1000, 32)
    assert (BatchInferenceEngine.max_batch_size(), BatchInferenceEngine.optimal_batch_size()) == (100, 8)
    many = texts(*("x" * (i % 7) for i in range(1001)))
    assert tokenizer.encode_batch(many[:1000]).all_succeeded()
    with pytest.raises(BatchRequestError, match=r"1,000 items, and this one has 1,001; split=True"):
        tokenizer.encode_batch(many)
    results = tokenizer.encode_batch(many, split=True)
    assert [r.id for r in results] == [item.id for item in many]
    with pytest.raises(ValueError, match="the id 'req0' is given to two items"):
        tokenizer.decode_batch(tokens([1]) * 2)


def test_streams_and_async_forms_of_the_tokenizer() -> None:
    tokenizer = BatchTokenizer()
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield BatchItem(taken, TokenizeBatchRequest("x" * taken))

    stream = tokenizer.encode_stream(endless())
    assert [next(stream).data.count for _ in range(3)] == [1, 2, 3]  # type: ignore[union-attr]
    assert taken == 32
    assert [r.data and r.data.text for r in tokenizer.decode_stream(tokens([97], [98]))] == ["a", "b"]

    async def work() -> None:
        encoded = await tokenizer.aencode_batch(texts("a", "bc"))
        assert [r.data and r.data.count for r in encoded] == [1, 2]
        decoded = await tokenizer.adecode_batch(tokens([97]))
        assert decoded[0].data and decoded[0].data.text == "a"
        counts = [r.data and r.data.count async for r in tokenizer.aencode_stream(texts(*["abc"] * 70))]
        assert counts == [3] * 70
        assert [r.data and r.data.text async for r in tokenizer.adecode_stream(tokens([97], [98]))] == ["a", "b"]

    asyncio.run(work())


def test_requests_are_checked() -> None:
    for temperature in (0, 0.0, 1.3, 2.0):
        assert InferenceBatchRequest("x", 10, temperature).temperature == temperature
    for bad in (-0.1, 2.1, float("nan"), float("inf"), "hot", True, None):
        with pytest.raises(ValueError, match=r"temperature: .* is not between 0\.0 and 2\.0"):
            InferenceBatchRequest("x", 10, bad)  # type: ignore[arg-type]
    for few in (0, -1, 1.5, True, None):
        with pytest.raises(BatchRequestError, match="max_tokens"):
            InferenceBatchRequest("x", few)  # type: ignore[arg-type]
    with pytest.raises(BatchRequestError, match="prompt"):
        InferenceBatchRequest(None)  # type: ignore[arg-type]


def test_no_answer_without_a_model() -> None:
    with pytest.raises(BatchRequestError, match=r'needs a model: .*BatchInferenceEngine\("path/to/model"\)'):
        BatchInferenceEngine()


def test_percentiles_and_service_levels() -> None:
    p = Percentiles.of(i * NS for i in range(101))
    assert (p.count, p.p50_ms, p.p95_ms, p.p99_ms, p.max_ms, p.mean_ms) == (101, 50, 95, 99, 100, 50)
    assert Percentiles.of([]).count == 0
    assert Percentiles.of([7 * NS]).p99_ms == 7

    def timed(i: int) -> BatchResponse[str]:
        return BatchResponse(i, "x", tokens_output=10, timing=Timing(i * NS, 2 * i * NS, 10 * i * NS))

    slo = {"p95_ms": 95, "p50_ms": 49, "queue_p99_ms": 10, "first_token_p50_ms": 10, "tokens_per_second": 1000}
    results = InferenceResults([timed(i) for i in range(11)], BatchStats(11, 100), slo)
    assert results.metrics.tokens_per_second == pytest.approx(1100)
    assert [(level.name, level.measured, level.met) for level in results.service_levels] == [
        ("p95_ms", 95, True),
        ("p50_ms", 50, False),
        ("queue_p99_ms", pytest.approx(9.9), True),
        ("first_token_p50_ms", 10, True),
        ("tokens_per_second", pytest.approx(1100), True),
    ]
    assert results.slo_met is False
    assert InferenceResults([timed(1)]).slo_met is None
    nothing = InferenceResults[str]([], None, {"p95_ms": 5})
    assert nothing.service_levels[0].measured is None and nothing.slo_met is False
    for bad in ({"p94_ms": 1}, {"p95_ms": 0}, {"p95_ms": "fast"}):
        with pytest.raises(BatchRequestError, match="slo"):
            check_slo(bad)  # type: ignore[arg-type]


def test_what_the_package_imports() -> None:
    heavy = ["torch", "mlx", "mlx_lm", "transformers", "tokenizers", "ai_router", "numpy"]
    code = f"import sys, json, batch.inference; print(json.dumps([m for m in {heavy!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout) == []


# -- a model's own tokenizer ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> BatchTokenizer:
    pytest.importorskip("tokenizers")
    return BatchTokenizer(DEMO)


def test_a_models_tokenizer_gives_its_own_ids(demo: BatchTokenizer) -> None:
    from tokenizers import Tokenizer

    own = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    values = ["What is a deque?", "", "def f(x): return x", "<|im_end|> naïve 日本語"]
    results = demo.encode_batch(texts(*values))
    expected = [e.ids for e in own.encode_batch(values, add_special_tokens=False)]
    assert [r.data and r.data.tokens for r in results] == expected
    back = demo.decode_batch(tokens(*expected))
    assert back[0].data and back[0].data.text == values[0]
    for unknown in ([10**9], [-1], [2**40, 5121]):
        odd = demo.decode_batch(tokens([*expected[0], *unknown]))
        assert odd[0].data and odd[0].data.text == values[0]


@given(st.lists(st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=40), max_size=4))
def test_a_models_tokenizer_gives_back_what_it_got(demo: BatchTokenizer, values: list[str]) -> None:
    encoded = demo.encode_batch(texts(*values))
    decoded = demo.decode_batch(tokens(*(r.data.tokens for r in encoded if r.data)))
    assert [r.data and r.data.text for r in decoded] == values


def test_a_text_that_no_tokenizer_takes(demo: BatchTokenizer) -> None:
    results = demo.encode_batch(texts("fine", "half a pair \ud800", "fine"))
    assert [r.success for r in results] == [True, False, True]
    assert results[1].error and results[1].error.message.startswith("cannot be tokenized")


def test_where_a_tokenizer_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tokenizers")
    request = texts("a stack")
    expected = BatchTokenizer(DEMO / "tokenizer.json").encode_batch(request)[0].data
    stored = tmp_path / "models--some--model" / "snapshots" / "abc"
    stored.mkdir(parents=True)
    (stored / "tokenizer.json").write_bytes((DEMO / "tokenizer.json").read_bytes())
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert BatchTokenizer("some/model").encode_batch(request)[0].data == expected
    with pytest.raises(FatalError, match="another/model: neither a folder"):
        BatchTokenizer("another/model")
    with pytest.raises(FatalError, match=r"there is no tokenizer\.json"):
        BatchTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(FatalError, match="the tokenizer cannot be loaded"):
        BatchTokenizer(tmp_path)
