"""The runner for GPUs, on CPU tensors: its answers, its memory and its padding."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest

from batch.errors import ErrorClass
from batch.items import BatchItem, Request
from batch.options import SamplingOptions

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torch.set_num_threads(1)

from batch.engines.torch import linear, runner, scheduler, static  # noqa: E402
from batch.engines.torch.engine import TorchCore  # noqa: E402
from batch.engines.torch.graphs import GraphSteps  # noqa: E402
from batch.engines.torch.loader import load  # noqa: E402
from batch.engines.torch.sequence import Sequence  # noqa: E402
from batch.engines.torch.static import StaticRunner  # noqa: E402
from batch.engines.torch.static_cache import COLUMNS, ROUND, ROWS, StaticSlots, bucket, rounded  # noqa: E402
from batch.engines.torch.text import Detokenizer  # noqa: E402
from tests.engines.recorders import Recorders  # noqa: E402
from tests.engines.test_torch_packed import KINDS, SYSTEMS, WORDS, arrive, excused, reference  # noqa: E402


@pytest.mark.parametrize("other", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("step_tokens", "most_wait"), [(6, 1), (40, 3), (512, 16)])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_that_of_transformers(
    models: Any, on_gpu: Any, kind: str, step_tokens: int, most_wait: int, other: bool
) -> None:
    """Random arrivals, two nested system prompts, graphs that are replayed, prompts in chunks and put off."""
    share = other != ((KINDS.index(kind) + most_wait // 2) % 2 == 0)  # as in the packed runner's test
    recorders = Recorders()
    on_gpu(lambda: GraphSteps(recorders), step_tokens=step_tokens, most_wait=most_wait)
    path = models(kind)
    rng = random.Random(step_tokens)
    core = TorchCore(load(path, "fp32", lean=False), SamplingOptions(), rng.choice([2, 3, 5]), share_prefixes=share)
    seen = arrive(core, rng, 14, [1, 3, 12, 25])
    assert excused(path, seen.values()) <= 1
    assert core.about["decoding"] == "CUDA graphs" and core.about["batching"] == "together"
    assert recorders.replays > 20
    if share:
        prefixes = core._runner.prefixes
        assert prefixes.computed >= 1 and prefixes.hits >= 5


def add(core: TorchCore, name: int, prompt: list[int], limit: int) -> Any:
    """A sequence of these very tokens, submitted."""
    sequence = core._sequence(BatchItem(name, Request("fox", {"params": {"max_tokens": limit}})))
    sequence.prompt = prompt
    core._runner.register(sequence)
    core._scheduler.add(sequence)
    return sequence


@pytest.mark.parametrize(
    ("kind", "budget"),
    [
        ("qwen3-wide", 400),
        ("mistral", 200),
        pytest.param("qwen3-wide", 200, marks=pytest.mark.slow),
        pytest.param("mistral", 400, marks=pytest.mark.slow),
    ],
)
def test_rows_stay_within_the_memory_that_was_taken(
    models: Any, on_gpu: Any, kind: str, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiny caches: slots are divided anew, rows put back and taken in again, and the answers are the same."""
    monkeypatch.setattr(scheduler, "HEADROOM", 1)
    on_gpu(step_tokens=60)
    path = models(kind)
    rng = random.Random(budget)
    loaded = load(path, "fp32", lean=False)
    probe = TorchCore(loaded, SamplingOptions(), 1)
    core = TorchCore(loaded, SamplingOptions(), 6, cache_bytes=probe._runner.bytes_per_token * budget)
    cache = core._runner._cache
    divided: set[tuple[int, int]] = set()
    divide = cache.divide

    def within(slots: int, columns: int, capacity: int, keep: tuple[int, int]) -> None:
        divided.add((slots, columns))
        divide(slots, columns, capacity, keep)
        assert slots * columns <= cache.capacity <= budget and columns % ROUND == 0

    monkeypatch.setattr(cache, "divide", within)
    seen = [add(core, i, [rng.randrange(3, 390)] * rng.randint(30, 62), rng.choice([3, 30, 60])) for i in range(14)]
    while core.busy:
        core.step()
        assert len(core._runner.rows) <= cache.slots
    assert excused(path, seen) <= 1
    assert len(divided) > 1 and core._scheduler.evicted > 0


def watched(core: TorchCore) -> dict[Any, Any]:
    """The rows that have had a token, as they come."""
    rows: dict[Any, Any] = {}
    take = core._take

    def keep(row: Any, token: int) -> str | None:
        rows[row.id] = row
        return take(row, token)

    core._take = keep  # type: ignore[method-assign]
    return rows


def test_slots_are_divided_without_loss() -> None:
    cache = StaticSlots(2)
    cache.divide(4, 64, 512, (0, 0))
    cache.allocate(torch.zeros(1, 3, 1, 8), torch.zeros(1, 3, 1, 4))
    assert cache.bytes_per_token() == 2 * 3 * (8 + 4) * 4
    pools = [pool.data_ptr() for pool in cache._pools]
    kept = []
    for view in cache.views():
        view.copy_(torch.randn(view.shape))
        kept.append(view[:, :2, :, :50].clone())
    for slots, columns in [(2, 256), (8, 64), (3, 128), (1, 512), (2, 128)]:
        if slots == 1:
            kept = [part[:, :1] for part in kept]
        rows = kept[0].shape[1]
        cache.divide(slots, columns, 512, (rows, 50))
        for view, part in zip(cache.views(), kept, strict=True):
            assert torch.equal(view[:, :rows, :, :50], part)
            assert not view[:, :rows, :, 50:].any() and not view[:, rows:].any()
    assert [pool.data_ptr() for pool in cache._pools] == pools
    cache.divide(2, 512, 1024, (1, 50))
    assert torch.equal(cache.views()[1][:, :1, :, :50], kept[1])


def test_steps_are_padded_little() -> None:
    for sizes, free in ((ROWS, 8), (COLUMNS, ROUND)):
        assert sizes == sorted(set(sizes))
        for count in range(1, 3000):
            size = bucket(count, sizes, 10**9)
            assert size >= count and (size <= free or size < count + max(free, 0.5 * count)), count
    assert all(columns == rounded(columns) for columns in COLUMNS)
    assert bucket(33, ROWS, 35) == 35 and bucket(5000, ROWS, 5003) == 5003
    assert [bucket(n, ROWS, 300) for n in (1, 2, 3, 5, 8, 9, 64, 65, 257)] == [1, 2, 4, 8, 8, 16, 64, 96, 300]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 16, 17])
def test_rows_at_the_edges_of_sizes(qwen3: Path, on_gpu: Any, count: int) -> None:
    """Prompts and answers that end at, before and behind a round of columns, in as many rows as a size has."""
    on_gpu()
    core = TorchCore(load(qwen3, "fp32", lean=False), SamplingOptions(), count)
    seen = [add(core, i, [5 + (i * j) % 300 for j in range(ROUND - 5 + i % 7)], 6) for i in range(count)]
    while core.busy:
        core.step()
    assert excused(qwen3, seen) <= 1


def test_cancelled_rows_leave_the_others_alone(qwen3: Path, on_gpu: Any) -> None:
    recorders = Recorders()
    on_gpu(lambda: GraphSteps(recorders), step_tokens=40, most_wait=2)
    core = TorchCore(load(qwen3, "fp32", lean=False), SamplingOptions(system=SYSTEMS[0], max_tokens=20), 4)
    rng = random.Random(2)
    rows: dict[Any, Any] = {}
    for i in range(14):
        core.submit(BatchItem(i, Request(" ".join(rng.choices(WORDS, k=3 + i % 5)))))
    for step in range(200):
        rows |= {row.id: row for row in core._runner.rows}
        if step % 9 == 4 and core._runner.rows:
            gone = rng.choice(core._runner.rows).id
            core.cancel(gone)
            rows.pop(gone)
        core.step()
        if not core.busy:
            break
    assert not core.busy and len(rows) >= 5 and not core._runner.rows
    assert excused(qwen3, rows.values()) <= 1


def test_a_row_that_is_not_a_number_fails_alone(qwen3: Path, on_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token whose embedding is NaN, also in a prompt that is cancelled halfway; who comes after is unharmed."""
    on_gpu(step_tokens=50, most_wait=1)
    loaded = load(qwen3, "fp32", lean=False)
    core = TorchCore(loaded, SamplingOptions(max_tokens=9), 2, share_prefixes=False)
    bad = loaded.tokenizer.encode("\x07")[0]
    table = loaded.model.get_input_embeddings()
    original = table.forward
    monkeypatch.setattr(
        table, "forward", lambda ids: original(ids).masked_fill((ids == bad).unsqueeze(-1), float("nan"))
    )
    texts = ["the fox", "\x07 again", "search the list", "\x07" + " fox" * 60, "queue", "stack", "first " * 30]
    rows = watched(core)
    done: dict[Any, Any] = {}
    for i, text in enumerate(texts):
        core.submit(BatchItem(i, Request(text)))
    while core.busy:
        if any(row.id == 3 and row.filled for row in core._runner.rows):
            core.cancel(3)
        done |= {response.id: response for response in core.step()}
    assert set(done) == {0, 1, 2, 4, 5, 6} and 3 not in rows
    assert done[1].error and done[1].error.error_class is ErrorClass.PERMANENT and "NaN" in done[1].error.message
    assert excused(qwen3, [rows[i] for i in (0, 2, 4, 5, 6)]) <= 1


def test_out_of_memory_makes_the_batch_smaller(qwen3: Path, on_gpu: Any) -> None:
    recorders = Recorders()
    on_gpu(lambda: GraphSteps(recorders))
    core = TorchCore(load(qwen3, "fp32", lean=False), SamplingOptions(max_tokens=12), 8)
    forward = StaticRunner._forward
    budget = core._scheduler.cache_tokens

    def tight(self: StaticRunner, *args: Any) -> Any:
        if len(self.rows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, *args)

    rows = watched(core)
    for i in range(9):
        core.submit(BatchItem(i, Request(f"{WORDS[i]} {i}")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StaticRunner, "_forward", tight)
        while core.busy:
            core.step()
    assert core.room == 2 and len(rows) == 9  # 8, 4, 2
    assert core._runner._limit == core._scheduler.cache_tokens == budget // 4
    assert excused(qwen3, rows.values()) <= 1


def test_prompts_wait_for_each_other_but_not_long(qwen3: Path) -> None:
    found = StaticRunner(reference(qwen3), 8, share=False)
    with torch.inference_mode():
        rows = [Sequence(i, [3 + i] * 9, SamplingOptions(), 99, Detokenizer(None, [])) for i in range(6)]  # type: ignore[arg-type]
        done, _ = found.advance(rows[:5])
        assert done == rows[:5]  # nobody decodes yet: nothing is gained by waiting
        waited = 0
        new = [rows[5]]
        while rows[5] not in done:
            for row in done:
                row.tokens.append(4)
            done, logits = found.advance(new)
            assert logits is not None and len(logits) == len(done)
            new = []
            waited += 1
        assert 1 < waited <= static.MOST_WAIT
        assert [row for row in done if row is not rows[5]] == rows[:5]


def test_long_prompts_run_in_passes_of_bounded_masks(qwen3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "MASK_CELLS", 2 * 128 * 60)
    found = StaticRunner(reference(qwen3), 8, share=False)
    found.step_tokens = 300
    found._group = 2  # as the trial's passes show
    lengths = [100, 3, 90, 20, 60]
    rows = [Sequence(i, [3] * n, SamplingOptions(), 9, Detokenizer(None, [])) for i, n in enumerate(lengths)]  # type: ignore[arg-type]
    with torch.inference_mode():
        found._admit(rows)
        passes = found._passes(list(range(5)))
        assert sorted(part for parts in passes for part in parts) == [(0, 60), (1, 3), (2, 60), (3, 20), (4, 60)]
        for parts in passes:
            longest = max(count for _, count in parts)
            assert len(parts) * longest * 2 * max(rounded(rows[i].filled + n) for i, n in parts) <= static.MASK_CELLS
        found.release(rows)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_it_agrees_in_half_precision(models: Any, kind: str, dtype: Any) -> None:
    model = copy.deepcopy(reference(models(kind))).to(dtype)
    linear.fuse(model)
    with torch.inference_mode():
        found = StaticRunner(model, 4)
        assert runner.Trial(model).agrees(found, 5e-2)
        assert {pool.dtype for pool in found._cache._pools} == {dtype} and found._logits.dtype == torch.float32
