"""Batches of prompts through a local engine: order, priorities, streams, times, and engines that fail."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from batch.engines.desk import Desk
from batch.engines.local.core import StepClock, ThreadedEngine
from batch.engines.local.host import HostedEngine
from batch.errors import ErrorClass, FatalError
from batch.inference import (
    BatchInferenceEngine,
    BatchItem,
    BatchRequestError,
    BatchResponse,
    BatchRunner,
    DoneEvent,
    ErrorEvent,
    InferenceBatchRequest,
    TokenEvent,
)
from batch.items import Request
from batch.options import SamplingOptions
from tests.engines.fake_worker import Fake

DEMO = Path(__file__).resolve().parents[1] / "ai_router" / "demo"

Open = Callable[..., BatchInferenceEngine]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens an engine without a model; see `fake_worker` for what its prompts do."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    opened: list[BatchInferenceEngine] = []

    def get(max_batch: int = 4, **spec: Any) -> BatchInferenceEngine:
        core = ThreadedEngine("fake", lambda: Fake(spec, SamplingOptions(), max_batch))
        opened.append(BatchInferenceEngine(core))
        return opened[-1]

    yield get
    for engine in opened:
        engine.close()


def prompts(*texts: str) -> list[BatchItem[InferenceBatchRequest]]:
    return [BatchItem(f"p{i}", InferenceBatchRequest(text, 50, 0.5)) for i, text in enumerate(texts)]


def test_a_hundred_requests_keep_their_order_and_ids(fake: Open) -> None:
    results = fake().infer_batch(prompts(*(f"{'word ' * (i % 5)}{i}" for i in range(100))))
    assert [r.id for r in results] == [f"p{i}" for i in range(100)]
    assert results.all_succeeded() and results.success_count() == len(results) == 100
    for i, response in enumerate(results):
        assert response.data and response.data.text.endswith(str(i)) and response.data.tokens_generated == i % 5 + 1
        assert results.get_by_id(response.id) is response
        assert response.timing and response.duration_ns > 0
        assert response.timing.queue_ns + response.duration_ns == response.timing.total_ns
        assert response.timing.first_token_ns is not None
        assert response.timing.queue_ns <= response.timing.first_token_ns <= response.timing.total_ns
    stats, metrics = results.stats, results.metrics
    assert max(r.timing.total_ns for r in results if r.timing) <= stats.total_duration_ns
    assert 1.5 < stats.overlap <= 4.5  # four run at once
    assert metrics.tokens_output == 300 and metrics.tokens_per_second == pytest.approx(3 * stats.items_per_second)
    assert metrics.latency.p50_ms <= metrics.latency.p95_ms <= metrics.latency.p99_ms <= stats.total_duration_ms + 1
    assert metrics.queue.max_ms < metrics.latency.max_ms and metrics.first_token.count == 100


def test_too_many_and_ids_given_twice(fake: Open) -> None:
    engine = fake(32)
    many = prompts(*(["hello"] * 101))
    with pytest.raises(BatchRequestError, match="100 items, and this one has 101"):
        engine.infer_batch(many)
    assert [r.id for r in engine.infer_batch(many, split=True)] == [item.id for item in many]
    with pytest.raises(BatchRequestError, match="given to two items"):
        engine.infer_batch(prompts("a") * 2)
    assert len(engine.infer_batch([])) == 0


def test_an_item_that_fails_is_seen(fake: Open) -> None:
    results = fake().infer_batch(prompts("fine", "fail on purpose", "fine"), slo={"p95_ms": 60_000, "p50_ms": 0.001})
    assert not results.all_succeeded() and results.success_count() == 2
    failed = results.get_by_id("p1")
    assert failed and failed.data is None and failed.error and failed.error.message == "on purpose"
    assert [level.met for level in results.service_levels] == [True, False] and results.slo_met is False


def test_priorities(fake: Open) -> None:
    engine = fake(1)
    batch = [
        BatchItem(i, InferenceBatchRequest("slow 2"), priority=priority) for i, priority in enumerate([0, 5, 1, 5, 0])
    ]
    assert [response.id for response in engine.stream(batch)] == [1, 3, 2, 0, 4]


def test_responses_come_when_they_are_ready(fake: Open) -> None:
    engine = fake()
    batch = prompts("slow 80", "quick", "slow 20")
    assert [response.id for response in engine.stream(batch)] == ["p1", "p2", "p0"]

    async def work() -> None:
        assert [response.id async for response in engine.stream(batch)] == ["p1", "p2", "p0"]
        results = await engine.ainfer_batch(batch)
        assert [response.id for response in results] == ["p0", "p1", "p2"]

    asyncio.run(work())


def test_tokens_as_they_come(fake: Open) -> None:
    engine = fake(step_seconds=0.05)
    batch = prompts(" ".join(["word"] * 10), "fail at once", "short")
    events = list(engine.stream_tokens(batch))
    texts: dict[Any, str] = {}
    ended: list[Any] = []
    for event in events:
        assert event.id not in ended
        if isinstance(event, TokenEvent):
            assert event.text and not event.restarted
            texts[event.id] = texts.get(event.id, "") + event.text
        else:
            ended.append(event.id)
        if isinstance(event, DoneEvent):
            assert event.response.data and texts[event.id] == event.response.data.text
    assert sorted(ended) == ["p0", "p1", "p2"]
    assert [e.failure.message for e in events if isinstance(e, ErrorEvent)] == ["at once"]
    assert sum(isinstance(e, TokenEvent) and e.id == "p0" for e in events) >= 3

    # Its partial texts do not lead to its answer, as when an engine had to begin anew.
    *_, whole, _ = engine.stream_tokens(prompts("what it said before is taken back"))
    assert whole == TokenEvent("p0", "what it said before is taken back", restarted=True)

    async def work() -> list[Any]:
        return [event async for event in engine.stream_tokens(batch)]

    assert sum(isinstance(event, DoneEvent) for event in asyncio.run(work())) == 2


def test_batches_from_many_threads_and_tasks_run_together(fake: Open) -> None:
    engine = fake(16)
    found: dict[int, list[Any]] = {}

    def ask(number: int) -> None:
        results = engine.infer_batch(prompts(*(f"thread {number} prompt {i}" for i in range(5))))
        found[number] = [r.data.text for r in results if r.data]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()

    async def work() -> None:
        batches = [engine.ainfer_batch(prompts(f"task {n}", "slow 3")) for n in range(5)]
        assert [r[0].data.text for r in await asyncio.gather(*batches) if r[0].data] == [f"task {n}" for n in range(5)]

    asyncio.run(work())
    for thread in threads:
        thread.join()
    assert found == {n: [f"thread {n} prompt {i}" for i in range(5)] for n in range(6)}


def test_a_batch_that_nobody_waits_for_is_given_up(fake: Open) -> None:
    engine = fake(2)

    async def impatient() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(engine.ainfer_batch(prompts("slow 100000", "slow 100000", "slow 100000")), 0.3)

    asyncio.run(impatient())
    assert engine.infer_batch(prompts("quick")).all_succeeded()
    with engine.stream(prompts("quick", "slow 100000", "slow 100000")) as responses:
        assert next(responses).id == "p0"
    assert engine.infer_batch(prompts("quick")).all_succeeded()
    stream = engine.stream_tokens(prompts("slow 100000"))
    stream.close()
    assert engine.infer_batch(prompts("quick")).all_succeeded()


def test_a_stream_that_is_closed_while_someone_waits(fake: Open) -> None:
    engine = fake(2)

    async def impatient() -> None:
        async with engine.stream(prompts("slow 100000")) as responses:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(responses), 0.1)

    asyncio.run(impatient())
    stream = engine.stream(prompts("slow 100000"))
    monitor: list[Any] = []

    def wait() -> None:
        try:
            monitor.append(next(stream))
        except CancelledError:
            monitor.append("told")

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.1)
    stream.close()
    waiting.join(90)
    assert monitor == ["told"] and list(stream) == []
    assert engine.infer_batch(prompts("quick")).all_succeeded()


def test_batches_of_anything() -> None:
    """The runner is generic: here numbers in, numbers out."""

    class Squares:
        name = "squares"
        status = "ready"
        about: Mapping[str, Any] = {}

        async def answer(self, items: AsyncIterator[BatchItem[int]], desk: Desk) -> AsyncIterator[BatchResponse[int]]:
            async for item in items:
                yield BatchResponse(item.id, item.data**2)

        def partial_texts(self) -> dict[Any, str]:
            return {}

        async def close(self) -> None:
            self.name = "closed"

    engine = Squares()
    with BatchRunner(engine) as runner:
        results = runner.run([BatchItem(str(i), i) for i in range(200)], most=200, slo={"p99_ms": 60_000})
        assert [r.data for r in results] == [i * i for i in range(200)] and results.slo_met
        assert [r.data for r in runner.responses([BatchItem("a", 7)], most=1)] == [49]
        (event,) = runner.events([BatchItem("a", 7)], most=1)
        assert isinstance(event, DoneEvent) and event.response.data == 49
    assert engine.name == "closed"


def test_an_engine_that_cannot_start(fake: Open) -> None:
    engine = fake(refuse="the weights are gone")
    for _ in range(2):
        with pytest.raises(FatalError, match="the weights are gone"):
            engine.infer_batch(prompts("a", "b"))
    with pytest.raises(FatalError, match="the weights are gone"):
        list(engine.stream_tokens(prompts("a")))


def test_an_engine_that_fails_on_the_way(fake: Open) -> None:
    """What was answered is kept; the rest are failures; the next batch runs."""
    engine = fake(1)
    results = engine.infer_batch(prompts("fine", "raise trouble", "never run"))
    assert [r.success for r in results] == [True, False, False]
    assert results[2].error and results[2].error.error_class is ErrorClass.FATAL
    assert "trouble" in results[2].error.message


def test_a_closed_engine(fake: Open) -> None:
    engine = fake()
    with engine:
        assert engine.infer_batch(prompts("a")).all_succeeded()
    with pytest.raises(FatalError, match="closed"):
        engine.infer_batch(prompts("a"))
    engine.close()

    async def work() -> None:
        async with fake() as other:
            assert (await other.ainfer_batch(prompts("a"))).all_succeeded()

    asyncio.run(work())


def test_closing_ends_batches_that_are_open(fake: Open) -> None:
    engine = fake(1)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            engine.infer_batch(prompts("slow 100000", "slow 5"))
        except FatalError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2)
    engine.close()
    thread.join(90)
    assert [str(error) for error in raised] == ["the engine was closed"]


def test_options_belong_to_folders() -> None:
    engine = HostedEngine("torch", {"path": "nowhere"})
    with pytest.raises(BatchRequestError, match="not for an engine"):
        BatchInferenceEngine(engine, max_batch=4)


def test_time_is_kept_with_and_without_a_cores_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    class Counting(Fake):
        asked = 0

        def token_counts(self) -> dict[Any, int]:
            self.asked += 1
            return {item_id: steps for item_id, (_, steps) in self.rows.items()}

    for kind in (Fake, Counting):
        core = kind({"step_seconds": 0.01}, SamplingOptions(), None)
        clock = StepClock(core)
        clock.submit(BatchItem(0, Request("one two three four")))
        clock.submit(BatchItem(1, Request("gone")))
        clock.cancel(1)
        done: list[Any] = []
        while core.busy:
            done += clock.step()
        timing = done[0].timing
        assert 0 <= timing.queue_ns < 10_000_000 <= timing.first_token_ns < 30_000_000 < timing.total_ns
    assert core.asked == 1  # type: ignore[attr-defined]  # not once every item has its first token


def test_times_through_a_process() -> None:
    hosted = HostedEngine("tests.engines.fake_worker:Fake", {"step_seconds": 0.02}, max_batch=2)
    with BatchInferenceEngine(hosted) as engine:
        engine.start()
        deadline = time.monotonic() + 90
        while hosted.status != "ready" and time.monotonic() < deadline:
            time.sleep(0.01)
        engine.start()
        results = engine.infer_batch(prompts("a b c d", "e f g h", "late now"))
    assert results.all_succeeded()
    timings = [r.timing for r in results if r.timing]
    assert [t.first_token_ns is not None and t.queue_ns <= t.first_token_ns <= t.total_ns for t in timings] == [
        True
    ] * 3
    assert timings[2].queue_ns - timings[0].queue_ns > 50_000_000  # only two at a time


@pytest.mark.model
@pytest.mark.skipif(not (DEMO / "model.safetensors").exists(), reason="the demo model is not in this checkout")
def test_a_real_model() -> None:
    """The reference's second and third examples."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    requests = [
        BatchItem.new("infer1", InferenceBatchRequest("What is a stack?", max_tokens=12, temperature=0.0)),
        BatchItem.new("infer2", InferenceBatchRequest("Explain a queue", 9, 0.7, params={"seed": 1, "top_p": 0.9})),
        BatchItem.new("infer3", InferenceBatchRequest("x", 9, params={"top_p": 7})),
    ]
    with BatchInferenceEngine(DEMO, kind="torch", max_batch=4) as engine:
        results = engine.infer_batch(requests, slo={"p95_ms": 120_000})
        again = engine.infer_batch(requests)
        events = list(engine.stream_tokens(requests[:1]))
    assert results.success_count() == 2 and results.slo_met
    assert [r.success for r in results] == [True, True, False] and "top-p" in results.failures[0].error.message  # type: ignore[union-attr]
    for response in results[:2]:
        assert results.get_by_id(response.id) is response and response.duration_ms > 0
        assert response.data and 0 < response.data.tokens_generated <= 12
    assert results[0].data and results[0].data.extra["finish_reason"] in ("stop", "length")
    assert results.stats.total_duration_ms > 0 and results.stats.avg_item_time_ms > 0
    assert [r.data for r in again] == [r.data for r in results]  # greedy, and seeded
    assert again.metrics.latency.max_ms < results.metrics.latency.max_ms  # the model is loaded by now
    assert again.metrics.first_token.count == 2 and again.metrics.tokens_per_second > 0
    assert "".join(e.text for e in events if isinstance(e, TokenEvent)) == results[0].data.text
