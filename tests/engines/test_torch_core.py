"""The torch engine on tiny random models: what is in the batch must never show in an answer."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from batch.engines.desk import MemoryDesk
from batch.errors import ErrorClass
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import SamplingOptions

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torch.set_num_threads(1)

from batch.engines.torch.engine import TorchCore, TorchEngine  # noqa: E402
from batch.engines.torch.loader import load  # noqa: E402

WORDS = [
    "stack",
    "queue",
    "search",
    "item",
    "the",
    "list",
    "first",
    "日本語",
    "fox",
    "🙂",
    "step",
    "==",
    "def",
    "again",
]
ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "ai_router" / "demo"


@cache
def loaded(path: Path) -> Any:
    return load(path, "fp32")


@cache
def transformers_own(path: Path) -> Any:
    """The same with transformers' classes, which know how to generate."""
    return load(path, "fp32", lean=False)


def core_for(path: Path, *, max_batch: int = 4, **sampling: Any) -> TorchCore:
    return TorchCore(loaded(path), SamplingOptions(**{"max_tokens": 20, **sampling}), max_batch)


def run(core: TorchCore, requests: Iterable[Request]) -> dict[Any, BatchResponse[Answer]]:
    for i, request in enumerate(requests):
        core.submit(BatchItem(i, request))
    return drain(core)


def drain(core: TorchCore) -> dict[Any, BatchResponse[Answer]]:
    responses: dict[Any, BatchResponse[Answer]] = {}
    while core.busy:
        for response in core.step():
            assert response.id not in responses
            responses[response.id] = response
    return responses


def text_of(response: BatchResponse[Answer]) -> str:
    """The answer's text; an empty one is a failure and compares as such."""
    if response.data is None:
        assert response.error and response.error.message == "the model gave an empty answer"
        return ""
    return response.data.text


def alone(path: Path, prompt: str, max_tokens: int = 20, **options: Any) -> tuple[str, list[int]]:
    """What transformers.generate answers to this prompt, by itself."""
    theirs = transformers_own(path)
    model, tokenizer = theirs.model, theirs.tokenizer
    special = not tokenizer.chat_template
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": prompt}]
        prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=special)["input_ids"]
    settings = {"do_sample": False, "max_new_tokens": max_tokens, "pad_token_id": 0, **options}
    out = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, ids.shape[1] :].tolist()
    text = tokenizer.decode(out, skip_special_tokens=True).rstrip("\ufffd")
    return (text if text.strip() else ""), out


def some_prompts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.choice([1, 2, 5, 12, 25]))) for _ in range(count)]


@pytest.mark.parametrize(
    ("kind", "batching"),
    [
        ("qwen3", "together"),
        ("llama", "together"),
        ("mistral", "together"),
        ("gpt2", "together"),
        ("bloom", "together"),
        ("mamba", "together"),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_greedy_is_the_same_whoever_joins_and_leaves(models: Any, kind: str, batching: str, seed: int) -> None:
    path = models(kind)
    rng = random.Random(seed)
    prompts = some_prompts(9, seed)
    limits = [rng.choice([1, 3, 10, 30]) for _ in prompts]
    core = core_for(path, max_batch=rng.choice([2, 3, 5]))
    assert core.about["batching"] == batching
    arrivals = list(enumerate(zip(prompts, limits, strict=True)))
    responses: dict[Any, BatchResponse[Answer]] = {}
    while arrivals or core.busy:
        while arrivals and rng.random() < 0.3:
            i, (prompt, limit) = arrivals.pop(0)
            params = {"max_tokens": limit}
            core.submit(BatchItem(i, Request(prompt, {"params": params}), priority=rng.choice([0, 0, 1])))
        for response in core.step():
            responses[response.id] = response
    for i, (prompt, limit) in enumerate(zip(prompts, limits, strict=True)):
        text, tokens = alone(path, prompt, limit)
        assert text_of(responses[i]) == text, (i, prompt)
        ended = tokens[-1] in loaded(path).end_ids
        assert responses[i].tokens_output == len(tokens) - ended
        data = responses[i].data
        if data and data.extra:
            assert data.extra["finish_reason"] == ("stop" if ended else "length")


def test_cancelled_rows_leave_the_others_alone(qwen3: Path) -> None:
    prompts = some_prompts(8, 5)
    core = core_for(qwen3, max_batch=4)
    for i, prompt in enumerate(prompts):
        core.submit(BatchItem(i, Request(prompt)))
    responses: dict[Any, BatchResponse[Answer]] = {}
    for step in itertools.count():
        if not core.busy:
            break
        if step == 3:
            for i in (0, 2, 6, "unknown"):  # two that run, one that waits
                core.cancel(i)
        responses |= {r.id: r for r in core.step()}
    assert set(responses) - {0, 2} == {1, 3, 4, 5, 7}
    for i in (1, 3, 4, 5, 7):
        assert text_of(responses[i]) == alone(qwen3, prompts[i])[0]


def test_a_small_cache_admits_fewer_rows(qwen3: Path) -> None:
    prompts = some_prompts(6, 7)
    sampling = SamplingOptions(max_tokens=20)
    probe = TorchCore(loaded(qwen3), sampling, 4)
    core = TorchCore(loaded(qwen3), sampling, 4, cache_bytes=probe._runner.bytes_per_token * 150)
    for i, prompt in enumerate(prompts):
        core.submit(BatchItem(i, Request(prompt)))
    most = 0
    responses: dict[Any, BatchResponse[Answer]] = {}
    while core.busy:
        responses |= {r.id: r for r in core.step()}
        rows = core._runner.rows
        most = max(most, len(rows))
        assert len(rows) <= 1 or len(rows) * max(r.most_tokens for r in rows) <= 150
    assert 1 <= most < 4
    assert [text_of(responses[i]) for i in range(6)] == [alone(qwen3, p)[0] for p in prompts]


def test_repetition_penalty_is_that_of_transformers(models: Any) -> None:
    path = models("llama")
    prompts = some_prompts(4, 3)
    responses = run(core_for(path, repetition_penalty=1.7), [Request(p) for p in prompts])
    assert [text_of(responses[i]) for i in range(4)] == [alone(path, p, repetition_penalty=1.7)[0] for p in prompts]


def test_a_seed_gives_the_same_answer_in_any_company(qwen3: Path) -> None:
    params = {"temperature": 1.0, "top_p": 0.95, "top_k": 50, "min_p": 0.01, "seed": 11}
    mine = Request("the quick brown fox", {"params": params})
    others = [Request(p, {"params": {"temperature": 1.3, "seed": i}}) for i, p in enumerate(some_prompts(5, 9))]
    by_itself = text_of(run(core_for(qwen3, max_batch=1), [mine])[0])
    in_company = run(core_for(qwen3, max_batch=6), [*others[:2], mine, *others[2:]])
    assert text_of(in_company[2]) == by_itself
    other_seed = Request("the quick brown fox", {"params": {**params, "seed": 12}})
    assert text_of(run(core_for(qwen3), [other_seed])[0]) != by_itself


def test_no_seed_is_a_new_answer_each_time(qwen3: Path) -> None:
    requests = [Request("the quick brown fox", {"params": {"temperature": 2}})] * 6
    responses = run(core_for(qwen3, max_batch=6), requests)
    assert len({text_of(r) for r in responses.values()}) > 1


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"top_p": 0.0}, {"min_p": 1.0}])
def test_the_narrowest_sampling_is_greedy(qwen3: Path, narrow: dict[str, Any]) -> None:
    prompts = some_prompts(3, 4)
    responses = run(core_for(qwen3, temperature=1.5, **narrow), [Request(p) for p in prompts])
    assert [text_of(responses[i]) for i in range(3)] == [alone(qwen3, p)[0] for p in prompts]


def long_answer(path: Path) -> tuple[str, str]:
    """A prompt whose answer is long and plain enough to cut stop strings from."""
    for prompt in some_prompts(40, 21):
        text, tokens = alone(path, prompt)
        if len(tokens) == 20 and "\ufffd" not in text[:20] and len(set(text[:20])) > 8:
            return prompt, text
    raise AssertionError("no such prompt; choose another seed")


def test_stop_strings_across_token_borders(models: Any) -> None:
    path = models("llama")
    prompt, text = long_answer(path)
    core = core_for(path)
    for start, size in [(0, 3), (4, 3), (5, 6), (2, 9)]:
        stop = text[start : start + size]
        params = {"stop": ["never to be found", stop]}
        response = run(core, [Request(prompt, {"params": params})])[0]
        assert text_of(response) == (text[: text.find(stop)] if text[: text.find(stop)].strip() else "")
        if response.data and response.data.extra:
            assert response.data.extra["finish_reason"] == "stop"
            assert response.tokens_output < 20


def test_partial_texts_grow_into_the_answer(models: Any) -> None:
    path = models("llama")
    prompt, text = long_answer(path)
    stop = text[8:12]
    core = core_for(path)
    core.submit(BatchItem(0, Request(prompt, {"params": {"stop": [stop]}})))
    core.submit(BatchItem(1, Request(prompt)))
    seen: dict[Any, list[str]] = {0: [], 1: []}
    final: dict[Any, str] = {}
    while core.busy:
        final |= {r.id: text_of(r) for r in core.step()}
        for i, partial in core.partial_texts().items():
            seen[i].append(partial)
    for i in (0, 1):
        for earlier, later in itertools.pairwise([*seen[i], final[i]]):
            assert later.startswith(earlier)
    assert final[0] == text[: text.find(stop)]


def test_a_stop_text_that_is_a_special_token(models: Any) -> None:
    path = models("llama")  # its end token is another one
    start = loaded(path).tokenizer.convert_tokens_to_ids("<|im_start|>")
    core = core_for(path, stop=["<|im_start|>"])
    core.submit(BatchItem(0, Request("x")))
    core.step()
    row = core._runner.rows[0]
    assert start in row.stop_ids
    core.cancel(0)


def test_prompts_and_the_context(qwen3: Path) -> None:
    context = loaded(qwen3).context
    core = core_for(qwen3, max_tokens=1000)
    long = "fox " * 200
    fits = "fox " * 50
    responses = run(core, [Request(long), Request(fits)])
    error = responses[0].error
    assert error and error.error_class is ErrorClass.PERMANENT
    assert f"context is {context}" in error.message and "tokens" in error.message
    assert responses[1].tokens_input + responses[1].tokens_output <= context
    if responses[1].data and responses[1].data.extra:
        assert responses[1].data.extra["finish_reason"] in ("stop", "length")


def test_bad_requests_fail_alone(qwen3: Path) -> None:
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    requests = [
        Request("fox", {"params": {"temperature": "hot"}}),
        Request("fox", {"params": {"top_p": 3}}),
        Request("", {"messages": image}),
        Request("", {"messages": [{"content": "no role"}]}),
        Request("", {"messages": [{"role": "user", "content": 7}]}),
        Request("step first", {"params": {"logit_bias": {}, "max_completion_tokens": 3, "temperature": None}}),
    ]
    responses = run(core_for(qwen3), requests)
    for i, words in enumerate(["temperature", "top-p", "image_url", "no role", "neither a text"]):
        error = responses[i].error
        assert error and error.error_class is ErrorClass.PERMANENT and words in error.message
    last = responses[5]
    assert last.tokens_output <= 3
    if last.data and last.data.extra:
        assert last.data.extra["ignored_params"] == ["logit_bias"]


def test_chats_and_the_system_prompt(qwen3: Path) -> None:
    from batch.engines.torch.prompt import encode_chat

    tokenizer = loaded(qwen3).tokenizer
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert tokenizer.decode(encode_chat(tokenizer, parts, "be brief")) == (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n"
    )
    own = [{"role": "system", "content": "mine"}, {"role": "user", "content": "x"}]
    assert "be brief" not in tokenizer.decode(encode_chat(tokenizer, own, "be brief"))


def test_a_base_model_continues_the_text(models: Any) -> None:
    from batch.engines.torch.prompt import encode_chat

    tokenizer = loaded(models("gpt2")).tokenizer
    chat = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    assert tokenizer.decode(encode_chat(tokenizer, chat, None)) == "one\n\ntwo"
    responses = run(core_for(models("gpt2")), [Request("")])
    assert responses[0].error and responses[0].error.message == "the prompt is empty"


def test_an_empty_answer_is_a_failure(models: Any) -> None:
    path = models("llama")
    _, tokens = alone(path, "x", 1)
    first = loaded(path).tokenizer.decode(tokens)
    core = core_for(path)
    core._intake._end_ids = frozenset(tokens)
    response = run(core, [Request("x")])[0]
    assert response.error and response.error.message == "the model gave an empty answer", first
    assert response.error.error_class is ErrorClass.PERMANENT and response.tokens_output == 0


def test_a_row_that_is_not_a_number_fails_alone(qwen3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One token's embedding is NaN; the rows beside it, and those that take its place later, are unharmed."""
    bad = loaded(qwen3).tokenizer.encode("\x07")[0]
    table = loaded(qwen3).model.get_input_embeddings()
    looked_up = table.forward
    long, short = "the quick fox jumps over the lazy dog and again", "x"
    prompts = [long, short, short, long]
    expected = [alone(qwen3, p)[0] for p in prompts]
    core = core_for(qwen3, max_batch=2)
    monkeypatch.setattr(table, "forward", lambda ids: looked_up(ids).masked_fill((ids == bad)[..., None], float("nan")))
    # Tied weights would make every row's logit of that token NaN.
    head = loaded(qwen3).model.lm_head
    original = head.forward
    monkeypatch.setattr(
        head,
        "forward",
        lambda x: (
            original(x)
            .index_fill_(-1, torch.tensor([bad]), -1e9)
            .where(~torch.isnan(x).any(-1, keepdim=True), torch.tensor(float("nan")))
        ),
    )
    requests = [Request(p) for p in prompts]
    requests.insert(1, Request("\x07 the lazy dog and again"))
    responses = run(core, requests)
    error = responses.pop(1).error
    assert error and "NaN" in error.message
    assert [text_of(responses[i]) for i in sorted(responses)] == expected


async def test_the_engine_in_this_process(qwen3: Path) -> None:
    engine = TorchEngine(qwen3, sampling=SamplingOptions(max_tokens=20), max_batch=3)
    prompts = some_prompts(7, 17)

    async def items() -> Any:
        for i, prompt in enumerate(prompts):
            yield BatchItem(i, Request(prompt))

    for _ in range(2):
        responses = {r.id: r async for r in engine.answer(items(), MemoryDesk())}
        assert [text_of(responses[i]) for i in range(7)] == [alone(qwen3, p)[0] for p in prompts]
        assert all(r.duration_ns > 0 for r in responses.values())
    answers = engine.answer(items(), MemoryDesk())
    await anext(answers)
    await answers.aclose()
    assert engine.partial_texts() == {}
    assert len([r async for r in engine.answer(items(), MemoryDesk())]) == 7
    await engine.close()


@pytest.mark.skipif(not (DEMO / "model.safetensors").exists(), reason="the demo model is not in this checkout")
def test_the_demo_model_together_and_alone() -> None:
    lines = (ROOT / "examples" / "batch_prompts.txt").read_text().splitlines()
    prompts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    assert len(prompts) == 25
    responses = run(core_for(DEMO, max_batch=25, max_tokens=16), [Request(p) for p in prompts])
    assert [text_of(responses[i]) for i in range(25)] == [alone(DEMO, p, 16)[0] for p in prompts]
