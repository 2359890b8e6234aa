"""The MLX engine on the demo model and on tiny ones: the answers of the torch engine, whoever is in the batch."""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from batch.engines.desk import MemoryDesk
from batch.engines.mlx import prefixes as mlx_prefixes
from batch.engines.mlx.engine import MlxCore, MlxEngine, open_core
from batch.engines.mlx.loader import load
from batch.engines.registry import default_engine
from batch.errors import ErrorClass, FatalError, MissingExtraError
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import SamplingOptions

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(importlib.util.find_spec("mlx_lm") is None, reason="needs the mlx extra"),
]

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "ai_router" / "demo"
PROMPTS = [
    "What is a stack?",
    "Name a sorting algorithm.",
    "Explain what a hash table is and where it is used.",
    "次の文を直して下さい。 彼は学校へ行きますた。",
]
SYSTEM = "You are a careful teacher who answers in plain words and gives one short example where it helps."


@cache
def loaded(path: Path) -> Any:
    return load(path, "fp32")


def core_for(path: Path = DEMO, *, max_batch: int = 4, **sampling: Any) -> MlxCore:
    return MlxCore(loaded(path), SamplingOptions(**{"max_tokens": 16, **sampling}), max_batch)


def run(core: Any, requests: Iterable[Request]) -> list[BatchResponse[Answer]]:
    for i, request in enumerate(requests):
        core.submit(BatchItem(i, request))
    return drain(core)


def drain(core: Any) -> list[BatchResponse[Answer]]:
    responses: dict[Any, BatchResponse[Answer]] = {}
    while core.busy:
        for response in core.step():
            assert response.id not in responses
            responses[response.id] = response
    return [response for _, response in sorted(responses.items())]


def text_of(response: BatchResponse[Answer]) -> str:
    assert response.data is not None, response.error
    return response.data.text


def asked(prompt: str, **params: Any) -> Request:
    return Request(prompt, {"params": params})


def test_the_answers_of_the_torch_engine() -> None:
    """Greedy, with and without a repetition penalty, more prompts than room, some ending early."""
    pytest.importorskip("torch")
    from batch.engines.torch.engine import open_core as open_torch

    sampling = SamplingOptions(max_tokens=16)
    requests = [asked(p, max_tokens=16 - 3 * i, repetition_penalty=1 + 0.3 * (i == 1)) for i, p in enumerate(PROMPTS)]
    torch = run(open_torch({"path": DEMO, "precision": "fp32"}, sampling, 2), requests)
    for batch in (1, 3):
        ours = run(core_for(max_batch=batch), requests)
        assert [r.data for r in ours] == [r.data for r in torch]
        assert [(r.tokens_input, r.tokens_output) for r in ours] == [(r.tokens_input, r.tokens_output) for r in torch]


def test_a_shared_beginning_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = core_for(system=SYSTEM)
    with_prefix = run(shared, [Request(p) for p in PROMPTS])
    system = shared.shared_tokens // (len(PROMPTS) - 1)
    assert system >= 20 and sum(r.tokens_input for r in with_prefix) > 4 * system
    # Once more, later and in another order: nothing of the system prompt is computed again.
    before = shared.shared_tokens
    again = run(shared, [Request(p) for p in reversed(PROMPTS)])
    assert shared.shared_tokens - before >= len(PROMPTS) * system
    monkeypatch.setattr(mlx_prefixes, "LEAST", 10**9)
    apart = core_for(system=SYSTEM)
    without = run(apart, [Request(p) for p in PROMPTS])
    assert apart.shared_tokens == 0
    assert [text_of(r) for r in with_prefix] == [text_of(r) for r in without]
    assert [text_of(r) for r in again] == [text_of(r) for r in reversed(without)]


def test_prefixes() -> None:
    from mlx_lm.generate import generation_stream

    assert mlx_prefixes.common([1, 2, 3, 4], (1, 2, 9), 10) == 2
    assert mlx_prefixes.common([1, 2, 3], [1, 2, 3], 2) == 2
    assert mlx_prefixes.common([], [1], 5) == 0
    prefixes = mlx_prefixes.Prefixes(loaded(DEMO).model, generation_stream)
    long, other = list(range(100, 140)), list(range(300, 310))
    assert prefixes.find([long, other], []) == [(0, None), (0, None)]
    # The prompt before is remembered, and one token is always left over.
    ((length, caches),) = prefixes.find([list(long)], [])
    assert length == 39 and [c.offset for c in caches] == [39] * len(caches) and prefixes.shared_tokens == 0
    ((length, caches),) = prefixes.find([[*long[:25], 7, 8]], [])
    assert length == 25 and [c.offset for c in caches] == [25] * len(caches) and prefixes.shared_tokens == 25
    ((length, caches),) = prefixes.find([[*long, 7]], [])
    assert length == 39 and [c.offset for c in caches] == [39] * len(caches)
    prefixes.clear()
    assert prefixes._longest(long, 39) == (0, None)


def test_sampling() -> None:
    core = core_for()
    drawn = [asked(PROMPTS[2], temperature=2.0, seed=seed) for seed in (1, 2, 3, 1)]
    texts = [text_of(r) for r in run(core, [*drawn, Request(PROMPTS[0])])]
    assert texts[0] == texts[3] and len(set(texts)) == 4
    alone = [text_of(run(core_for(max_batch=1), [request])[0]) for request in (drawn[0], Request(PROMPTS[0]))]
    assert alone == [texts[0], texts[4]]
    greedy = text_of(run(core, [Request(PROMPTS[2])])[0])
    ways = ({"top_k": 1}, {"top_p": 1e-6}, {"top_p": 0}, {"min_p": 1.0})
    for response in run(core, [asked(PROMPTS[2], temperature=2.0, **way) for way in ways]):
        assert text_of(response) == greedy


@pytest.mark.parametrize("seed", range(3))
def test_who_else_is_in_the_batch_never_shows(models: Any, seed: int) -> None:
    """Prompts come and go at random, many with a common beginning; each gets the answer it gets alone."""
    path, rng = models("qwen3"), random.Random(seed)
    words = ["stack", "queue", "search", "the", "list", "first", "fox", "step", "again", "日本語", "🙂"]
    shared = " ".join(rng.choices(words, k=12))
    requests = []
    for _ in range(14):
        own = " ".join(rng.choices(words, k=rng.randint(1, 12)))
        params = {"max_tokens": rng.randint(1, 14)}
        requests.append(Request(f"{shared} {own}" if rng.random() < 0.7 else own, {"params": params}))
    alone = [run(MlxCore(loaded(path), SamplingOptions(), 1), [request])[0] for request in requests]
    core = MlxCore(loaded(path), SamplingOptions(), 4)
    waiting, cancelled = list(enumerate(requests)), set()
    responses: dict[Any, BatchResponse[Answer]] = {}
    while waiting or core.busy:
        while waiting and rng.random() < 0.6:
            i, request = waiting.pop(0)
            core.submit(BatchItem(i, request, priority=rng.choice([0, 0, 1])))
        if rng.random() < 0.1 and (running := list(core.partial_texts())):
            cancelled.add(running[0])
            core.cancel(running[0])
        responses |= {response.id: response for response in core.step()}
    assert set(responses) | cancelled == set(range(14)) and not set(responses) & cancelled
    assert all(responses[i].data == alone[i].data for i in responses) and core.shared_tokens > 0


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_other_architectures(models: Any, kind: str) -> None:
    """Mamba has a state instead of keys and values: nothing can be cut from it, and no padding may get into it."""
    from batch.engines.torch.engine import open_core as open_torch

    rng = random.Random(1)
    words = ["stack", "queue", "search", "the", "list", "first", "fox", "step", "again"]
    shared = " ".join(rng.choices(words, k=20))
    requests = [Request(f"{shared} {' '.join(rng.choices(words, k=rng.randint(1, 9)))}") for _ in range(6)]
    sampling = SamplingOptions(max_tokens=8)
    torch = run(open_torch({"path": models(kind), "precision": "fp32"}, sampling, 4), requests)
    core = MlxCore(loaded(models(kind)), sampling, 4)
    assert [r.data for r in run(core, requests)] == [r.data for r in torch] and core.shared_tokens > 0


def test_a_window_that_mlx_lm_does_not_know_limits_the_context(models: Any) -> None:
    one = loaded(models("mistral"))
    assert one.context == 8
    response = run(MlxCore(one), [Request("the quick brown fox jumps over the lazy dog")])[0]
    assert response.error and "the model's context is 8" in response.error.message


def test_stop_strings_across_token_borders() -> None:
    core = core_for()
    whole = text_of(run(core, [Request(PROMPTS[0])])[0])
    assert len(whole) > 30
    stops = [whole[at : at + size] for at, size in [(3, 3), (9, 5), (20, 8)]]
    responses = run(core, [asked(PROMPTS[0], stop=["not in it", stop]) for stop in stops])
    for stop, response in zip(stops, responses, strict=True):
        assert text_of(response) == whole[: whole.find(stop)]
        assert response.data and response.data.extra == {"finish_reason": "stop"} and response.tokens_output <= 16
    assert not core.busy and core.partial_texts() == {}


def test_texts_so_far() -> None:
    core = core_for()
    for i, prompt in enumerate(PROMPTS[:2]):
        core.submit(BatchItem(i, Request(prompt)))
    seen: dict[Any, list[str]] = {0: [], 1: []}
    counts: list[int] = []
    while core.busy:
        for response in core.step():
            seen[response.id].append(text_of(response))
        counts.append(core.token_counts().get(0, 16))
        for i, partial in core.partial_texts().items():
            seen[i].append(partial)
    for texts in seen.values():
        assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
        assert len(set(texts)) > 5
    assert counts == sorted(counts) and counts[-1] == 16


def test_cancel_and_priorities() -> None:
    core = core_for(max_batch=1, max_tokens=4)
    for i, priority in enumerate([0, 0, 5]):
        core.submit(BatchItem(i, Request(PROMPTS[i]), priority=priority))
    core.step()
    assert list(core.partial_texts()) == [2]
    core.cancel(2)  # runs
    core.cancel(0)  # waits
    core.cancel("never there")
    assert [r.id for r in drain(core)] == [1]
    core.submit(BatchItem("bad", asked("x", top_p=3)))
    core.cancel("bad")
    assert not core.busy
    core.close()


def test_what_cannot_be_answered_fails_alone() -> None:
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    requests = [
        Request("word " * 3000),
        asked("fox", temperature="hot"),
        Request("", {"messages": image}),
        asked(PROMPTS[0], logit_bias={}, max_completion_tokens=3, temperature=None),
    ]
    responses = run(core_for(), requests)
    for response, words in zip(responses, ["context is 2,048", "temperature", "image_url"], strict=False):
        assert response.error and response.error.error_class is ErrorClass.PERMANENT
        assert words in response.error.message
    last = responses[3]
    assert last.data and last.data.extra and last.data.extra["ignored_params"] == ["logit_bias"]
    assert last.tokens_output <= 3


def test_an_empty_answer_is_a_failure() -> None:
    everything = replace(loaded(DEMO), end_ids=frozenset(range(5120)))
    response = run(MlxCore(everything), [Request("x")])[0]
    assert response.error and response.error.message == "the model gave an empty answer"
    assert response.tokens_output == 0


def test_a_row_that_is_not_a_number_fails_alone(models: Any) -> None:
    path = models("llama")
    one = load(path, "fp32")
    bad = one.tokenizer.encode("\x07")[0]
    requests = [Request("the quick fox jumps"), Request("a list"), Request("first in, first out")]
    expected = [r.data for r in run(MlxCore(one, SamplingOptions(max_tokens=8)), requests)]
    one.model.model.embed_tokens.weight[bad] = float("nan")
    core = MlxCore(one, SamplingOptions(max_tokens=8), 2)
    responses = run(core, [requests[0], Request("\x07 the list"), *requests[1:]])
    error = responses.pop(1).error
    assert error and "NaN" in error.message and error.error_class is ErrorClass.PERMANENT
    assert [r.data for r in responses] == expected


def test_out_of_memory_while_running(monkeypatch: pytest.MonkeyPatch) -> None:
    core = core_for(max_batch=2, max_tokens=4)
    for i in range(3):
        core.submit(BatchItem(i, Request(PROMPTS[i])))
    core.step()

    def full() -> Any:
        raise RuntimeError("[malloc] Unable to allocate 12 GB.")

    monkeypatch.setattr(core._generator, "next", full)
    failed = core.step()
    assert [r.id for r in failed] == [0, 1]
    assert all(r.error and r.error.error_class is ErrorClass.EXHAUSTED for r in failed)
    assert [r.success for r in drain(core)] == [True]


def test_rows_wait_for_room_in_the_cache() -> None:
    requests = [Request(p) for p in PROMPTS]
    per_token = 6 * 2 * 4 * 32 * 4  # layers, keys and values, heads, dimensions, bytes
    core = MlxCore(loaded(DEMO), SamplingOptions(max_tokens=16), 4, 70 * per_token)
    for i, request in enumerate(requests):
        core.submit(BatchItem(i, request))
    core.step()
    assert len(core.partial_texts()) == 2  # of about 31 tokens each
    assert [text_of(r) for r in drain(core)] == [text_of(r) for r in run(core_for(), requests)]
    tight = MlxCore(loaded(DEMO), SamplingOptions(max_tokens=4), 4, 1)  # one always runs
    assert all(r.success for r in run(tight, requests))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A low-rank adapter in mlx-lm's format, with random numbers in it."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    folder = tmp_path_factory.mktemp("adapter")
    config = {"num_layers": 2, "fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 20.0, "dropout": 0.0}}
    model, _ = load_model(DEMO)
    model.freeze()
    linear_to_lora_layers(model, 2, config["lora_parameters"])
    mx.random.seed(0)
    weights = {name: mx.random.normal(value.shape) for name, value in tree_flatten(model.trainable_parameters())}
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_adapters(adapter: Path, tmp_path: Path) -> None:
    sampling = SamplingOptions(max_tokens=8)
    core = open_core({"path": DEMO, "adapter_path": str(adapter)}, sampling, 2)
    assert core.about["adapter"] == str(adapter)
    plain = text_of(run(core_for(max_tokens=8), [Request(PROMPTS[0])])[0])
    adapted = run(core, [Request(PROMPTS[0])])[0]
    assert adapted.data is None or adapted.data.text != plain
    with pytest.raises(FatalError, match=r"not an adapter folder, it has no adapter_config\.json"):
        load(DEMO, adapter=tmp_path)
    for name in ("adapter_config.json", "adapters.safetensors"):
        shutil.copy(adapter / name, tmp_path)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["lora_parameters"]["rank"] = 8
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(FatalError, match=r"adapter cannot be applied: .*does not match"):
        load(DEMO, adapter=tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8}))
    with pytest.raises(FatalError, match=r"gives .* the rank 8, and its tensors have 4"):
        load(DEMO, adapter=tmp_path)


def test_a_quantised_checkpoint(tmp_path: Path) -> None:
    from mlx_lm.utils import load_model, quantize_model, save_config, save_model

    model, config = load_model(DEMO)
    model, config = quantize_model(model, config, group_size=64, bits=8)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(DEMO / name, tmp_path)
    save_model(tmp_path, model)
    save_config(config, tmp_path / "config.json")
    core = open_core({"path": tmp_path}, SamplingOptions(max_tokens=8), 2)
    assert core.about["precision"] == "int8" and loaded(DEMO).about["precision"] == "fp32"
    expected = run(core_for(max_tokens=8), [Request(p) for p in PROMPTS[:2]])
    assert [text_of(r) for r in run(core, [Request(p) for p in PROMPTS[:2]])] == [text_of(r) for r in expected]


def test_folders_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(words: str, **options: Any) -> None:
        with pytest.raises(FatalError, match=words):
            load(folder, **options)

    folder = tmp_path / "model"
    refused("there is no such model folder")
    folder.mkdir()
    refused(r"it has no config\.json")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, folder)
    refused("no weights")
    refused("no weights", precision="auto")
    data = (DEMO / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    refused("cannot be loaded")
    refused("precision: 'fp8' is none of auto, fp32", precision="fp8")
    config = json.loads((DEMO / "config.json").read_text())
    (folder / "model.safetensors").write_bytes(data)
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of"}))
    refused("not a language model that mlx-lm knows")
    (folder / "config.json").write_text(json.dumps({**config, "model_file": "evil.py"}))
    refused("code of its own, which is never run")
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 7}))
    refused("the model cannot be loaded: .*[Mm]issing")
    (folder / "config.json").write_text("[]")
    refused("does not hold an object")
    with pytest.raises(
        FatalError, match="the mlx engine needs a path and knows adapter_path, cache_gb, path, precision"
    ):
        open_core({"path": DEMO, "device": "cpu"}, SamplingOptions(), None)
    monkeypatch.setitem(sys.modules, "mlx_lm", None)
    with pytest.raises(MissingExtraError, match=r'"ai-router\[mlx\]"'):
        load(DEMO)


async def test_within_this_process() -> None:
    sampling = SamplingOptions(max_tokens=8)
    expected = [text_of(r) for r in run(core_for(max_tokens=8), [Request(p) for p in PROMPTS])]

    async def items() -> Any:
        for i, prompt in enumerate(PROMPTS):
            yield BatchItem(i, Request(prompt))

    engine = MlxEngine(DEMO, sampling=sampling, max_batch=3)
    responses = {r.id: r async for r in engine.answer(items(), MemoryDesk())}
    assert [text_of(responses[i]) for i in range(4)] == expected
    await engine.close()


def test_which_engine_a_model_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_router.models import describe_folder

    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert default_engine(DEMO) == describe_folder(DEMO, source="found").engine == "torch"
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert default_engine(DEMO) == describe_folder(DEMO, source="found").engine == "mlx"
    assert describe_folder(DEMO, source="found", engine="torch").engine == "torch"
    (tmp_path / "config.json").write_text('{"model_type": "unheard_of"}')
    (tmp_path / "model.safetensors").touch()
    assert default_engine(tmp_path) == "torch"
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None)
    assert default_engine(DEMO) == "torch"
    spec = describe_folder(DEMO, source="found", engine="mlx")
    assert not spec.ready and spec.why == 'needs mlx: pip install "ai-router[mlx]"'
