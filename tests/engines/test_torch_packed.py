"""Packed steps: shared prefixes, chunks of prompts beside decoding rows, fused and int8 layers, adapters."""

from __future__ import annotations

import copy
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from batch.errors import FatalError
from batch.items import BatchItem, Request
from batch.options import SamplingOptions

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torch.set_num_threads(1)

from batch.engines.torch import linear, native, packed, runner, sampler, scheduler  # noqa: E402
from batch.engines.torch.attention import group_slots  # noqa: E402
from batch.engines.torch.engine import TorchCore, open_core  # noqa: E402
from batch.engines.torch.loader import load  # noqa: E402
from batch.engines.torch.packed import PackedRunner  # noqa: E402
from batch.engines.torch.prefix import BLOCK, PrefixStore  # noqa: E402

SYSTEMS = ["you fix the list and say what is first; " * 3, "you fix the list and say what is first; " * 2 + "queue"]
WORDS = ["stack", "queue", "search", "the", "日本語", "fox", "🙂", "==", "again"]
KINDS = ["qwen3", "qwen3-wide", "llama", "mistral", "gpt2"]
STEPS = [6, 40, 512]
NEAR = 1e-3  # where the reference's two best logits are closer, either answer is right


@cache
def reference(path: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def generate(path: Path, prompt: list[int], limit: int) -> tuple[list[int], list[float]]:
    """The tokens of transformers.generate, and how far apart the two best logits were at each."""
    out = reference(path).generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=limit,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    best = [row[0].topk(2).values for row in out.logits]
    return out.sequences[0, len(prompt) :].tolist(), [float(two[0] - two[1]) for two in best]


@pytest.fixture(params=["native", "torch"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the native kernels, where this machine can have them, and without."""
    if request.param == "torch":
        monkeypatch.setattr(native, "kernels", lambda: None)
        for module in (linear, runner, sampler):
            monkeypatch.setattr(module, "kernels", lambda: None)
    elif native.kernels() is None:
        pytest.skip("no native kernels here")
    return str(request.param)


def arrive(core: TorchCore, rng: random.Random, count: int, lengths: list[int]) -> dict[Any, Any]:
    """Random arrivals with two nested system prompts; every sequence, done."""
    arrivals: list[tuple[int, Request]] = []
    for i in range(count):
        text = " ".join(rng.choices(WORDS, k=rng.choice([1, 4, 12])))
        messages = [{"role": "system", "content": rng.choice(SYSTEMS)}, {"role": "user", "content": text}]
        params = {"max_tokens": rng.choice(lengths)}
        arrivals.append((i, Request("", {"messages": messages, "params": params})))
    seen: dict[Any, Any] = {}
    take = core._take

    def keep(row: Any, token: int) -> str | None:
        seen[row.id] = row
        return take(row, token)

    core._take = keep  # type: ignore[method-assign]
    while arrivals or core.busy:
        while arrivals and rng.random() < 0.4:
            core.submit(BatchItem(*arrivals.pop(0), priority=rng.choice([0, 1])))
        core.step()
    assert len(seen) == count
    return seen


def excused(path: Path, rows: Any) -> int:
    """How many answers are not those of transformers; asserts that each parts from it where it is undecided.

    Greedy tokens are the likeliest ones of a single pass over prompt and answer, a tenth of the work of generating
    them; one row is generated token by token as well.
    """
    rows = list(rows)
    model = reference(path)
    ends = model.generation_config.eos_token_id
    texts = [torch.tensor(row.prompt + row.tokens) for row in rows]
    with torch.inference_mode():  # what is padded comes later, and nothing looks ahead
        logits = model(torch.nn.utils.rnn.pad_sequence(texts, batch_first=True), use_cache=False).logits
    count = 0
    for i, row in enumerate(rows):
        best = logits[i, len(row.prompt) - 1 :][: len(row.tokens)].topk(2)
        tokens, gaps = best.indices[:, 0].tolist(), (best.values[:, 0] - best.values[:, 1]).tolist()
        if i == 0:
            tokens, gaps = generate(path, row.prompt, row.max_tokens)
        if row.tokens != tokens:
            first = next(i for i, (a, b) in enumerate(zip(row.tokens, tokens, strict=False)) if a != b)
            assert gaps[first] < NEAR, (row.id, first, gaps[first])
            count += 1
        else:
            assert ends not in tokens[:-1] and (tokens[-1] == ends or len(tokens) == row.max_tokens), row.id
    return count


@pytest.mark.parametrize("other", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("step_tokens", STEPS)
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_that_of_transformers(models: Any, kind: str, step_tokens: int, other: bool, loops: str) -> None:
    """Random arrivals, two nested system prompts; a difference is excused only where the reference is undecided.

    Of sharing prefixes and not, one half each, so that either meets every two of the rest; the `other` half is slow.
    """
    share = other != ((KINDS.index(kind) + STEPS.index(step_tokens) + (loops == "native")) % 2 == 0)
    path = models(kind)
    rng = random.Random(step_tokens)
    core = TorchCore(load(path, "fp32"), SamplingOptions(), rng.choice([2, 3, 5]), share_prefixes=share)
    runner = core._runner
    assert isinstance(runner, PackedRunner) and core.about["kernels"] == loops, core.about
    runner.step_tokens = step_tokens
    seen = arrive(core, rng, 14, [1, 3, 12, 25])
    assert excused(path, seen.values()) <= 1
    if share:
        assert runner.prefixes is not None
        assert runner.prefixes.computed >= 1 and runner.prefixes.hits >= 5
        assert all(prefix.users == 0 for prefix in runner.prefixes._prefixes.values())


def test_what_is_not_a_number_stays_with_its_row(models: Any, loops: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt with NaN in its past is cancelled halfway, before anyone knows; who takes its place is unharmed."""
    path = models("qwen3")
    loaded = load(path, "fp32")
    core = TorchCore(loaded, SamplingOptions(max_tokens=9), 2, share_prefixes=False)
    core._runner.step_tokens = 50
    bad = loaded.tokenizer.encode("\x07")[0]
    table = loaded.model.get_input_embeddings()
    original = table.forward
    monkeypatch.setattr(
        table, "forward", lambda ids: original(ids).masked_fill((ids == bad).unsqueeze(-1), float("nan"))
    )
    seen: dict[Any, Any] = {}
    take = core._take
    monkeypatch.setattr(core, "_take", lambda row, token: seen.setdefault(row.id, row) and take(row, token))
    texts = ["the fox", "\x07 again", "search the list", "\x07" + " fox" * 60, "queue", "stack", "first " * 30]
    done: dict[Any, Any] = {}
    for i, text in enumerate(texts):
        core.submit(BatchItem(i, Request(text)))
    while core.busy:
        if any(row.id == 3 and row.filled for row in core._runner.rows):
            core.cancel(3)
        done |= {response.id: response for response in core.step()}
    assert set(done) == {0, 1, 2, 4, 5, 6}
    assert done[1].error and "NaN" in done[1].error.message
    assert excused(path, [seen[i] for i in (0, 2, 4, 5, 6)]) <= 1


@pytest.mark.parametrize(
    ("kind", "budget"),
    [
        ("qwen3-wide", 130),
        ("gpt2", 250),
        pytest.param("qwen3-wide", 250, marks=pytest.mark.slow),
        pytest.param("gpt2", 130, marks=pytest.mark.slow),
    ],
)
def test_rows_are_put_back_where_the_cache_is_full(
    models: Any, kind: str, budget: int, loops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiny caches: rows give up their columns, come back, and answer as if they had never left."""
    monkeypatch.setattr(scheduler, "HEADROOM", 1)
    path = models(kind)
    rng = random.Random(budget)
    loaded = load(path, "fp32")
    probe = TorchCore(loaded, SamplingOptions(), 1)
    core = TorchCore(loaded, SamplingOptions(), 6, cache_bytes=probe._runner.bytes_per_token * budget)
    runner = core._runner
    assert isinstance(runner, PackedRunner)
    runner.step_tokens = 9
    forward = runner._forward

    def within(*args: Any, **kwargs: Any) -> Any:
        used = [runner._cache.takes(packed.unshared(row, row.filled)) for row in runner.rows]
        taken = sum(used) if runner.ragged else len(used) * max(used, default=0)
        assert len(runner.rows) <= 1 or taken <= budget
        return forward(*args, **kwargs)

    monkeypatch.setattr(runner, "_forward", within)
    seen = arrive(core, rng, 16, [3, 12, 30])
    assert core._scheduler.evicted > 0
    assert excused(path, seen.values()) <= 1


def test_a_prefix_lives_as_long_as_the_engine(qwen3: Path) -> None:
    core = open_core({"path": str(qwen3)}, SamplingOptions(system=SYSTEMS[0], max_tokens=3), 2)
    runner = core._runner
    assert isinstance(runner, PackedRunner) and runner.prefixes is not None
    for i in range(6):
        core.submit(BatchItem(i, Request(f"{WORDS[i]} {i}")))
        while core.busy:
            core.step()
    # The first one shares with nobody yet; the second computes what both begin with.
    assert runner.prefixes.computed <= 2 and runner.prefixes.hits >= 3


def test_the_prefix_worth_most_is_chosen() -> None:
    store = PrefixStore(3 * BLOCK)
    common = list(range(3 * BLOCK))
    for i in range(10):
        store.add([*common, *range(1000 * i, 1000 * i + BLOCK), 1])
    store.add([*common, *range(BLOCK), 2])  # shares one more block with the first, by chance
    chain, length = store.choose([*common, *range(BLOCK), 3])
    assert length == 3 * BLOCK
    assert store.get(chain) is None
    assert store.choose([7] * 40) == (0, 0)
    assert store.choose(common[:5]) == (0, 0)


def test_slots_are_read_together_while_padding_is_cheap() -> None:
    assert group_slots([0, 1, 2, 4], [10, 12, 11, 10], 50) == [(0, 3), (3, 4)]
    assert group_slots([0, 1, 2], [10, 500, 490], 50) == [(0, 1), (1, 3)]
    assert group_slots([], [], 50) == []


def test_fused_layers_give_what_their_parts_gave(qwen3: Path) -> None:
    plain = reference(qwen3)
    fused = copy.deepcopy(plain)
    assert linear.fuse(fused) == 2 * plain.config.num_hidden_layers
    ids = torch.tensor([[5, 9, 300, 17]])
    with torch.inference_mode():
        torch.testing.assert_close(fused(ids).logits, plain(ids).logits, rtol=1e-4, atol=1e-4)


def test_int8_is_near_and_the_same_in_any_company() -> None:
    if not linear.has_int8():
        pytest.skip("no int8 product here")
    torch.manual_seed(3)
    layer = torch.nn.Linear(96, 40)
    quick = linear.Int8Linear(layer)
    x = torch.randn(7, 96)
    x[3] *= 1000  # an outlier's scale is its own
    with torch.inference_mode():
        together, exact = quick(x), layer(x)
        assert ((together - exact).abs().amax(1) < 0.03 * exact.abs().amax(1)).all()
        for i in range(7):
            assert torch.equal(quick(x[i : i + 1])[0], together[i])
        x[2, 5] = float("nan")
        broken = quick(x)
    assert broken[2].isnan().all() and torch.equal(broken[[0, 1, 3, 4, 5, 6]], together[[0, 1, 3, 4, 5, 6]])


def test_int8_answers_and_says_so(qwen3: Path) -> None:
    if not linear.has_int8():
        pytest.skip("no int8 product here")
    core = open_core({"path": str(qwen3), "precision": "int8"}, SamplingOptions(max_tokens=8), 4)
    assert core.about["precision"] == "int8"
    for i in range(5):
        core.submit(BatchItem(i, Request(f"fox {i}")))
    done = []
    while core.busy:
        done += core.step()
    assert len(done) == 5
    assert open_core({"path": str(qwen3)}, SamplingOptions(), 4).about["precision"] == "fp32"


def test_the_longest_first_where_any_order_will_do(qwen3: Path) -> None:
    core = open_core({"path": str(qwen3), "order": "longest"}, SamplingOptions(), 1)
    for i, limit in enumerate([2, 9, 5]):
        core.submit(BatchItem(i, Request("fox", {"params": {"max_tokens": limit}})))
    core.submit(BatchItem(3, Request("fox", {"params": {"max_tokens": 1}}), priority=1))
    order = []
    while core.busy:
        order += [response.id for response in core.step()]
    assert order == [3, 1, 2, 0]
    with pytest.raises(FatalError, match="order"):
        open_core({"path": str(qwen3), "order": "sideways"}, SamplingOptions(), 1)


def save_adapter(folder: Path, form: str, out: int = 48, wrong: bool = False) -> tuple[Path, Any]:
    """A LoRA of rank 4 on the first layer's o_proj; returns the folder and the change it makes."""
    from safetensors.torch import save_file

    folder.mkdir()
    torch.manual_seed(1)
    down, up = torch.randn(4, 48 + wrong) / 5, torch.randn(out, 4) / 5  # [rank, in], [out, rank]
    if form == "mlx":
        name = "model.layers.0.self_attn.o_proj"
        tensors = {f"{name}.lora_a": down.T.contiguous(), f"{name}.lora_b": up.T.contiguous()}
        config = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": {"rank": 4, "scale": 3.0}}
        save_file(tensors, folder / "adapters.safetensors")
    else:
        name = "base_model.model.model.layers.0.self_attn.o_proj"
        tensors = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
        config = {"peft_type": "LORA", "r": 4, "lora_alpha": 12}
        save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder, 3.0 * (up @ down)


@pytest.mark.parametrize("form", ["mlx", "peft"])
def test_an_adapter_is_merged(qwen3: Path, tmp_path: Path, form: str) -> None:
    folder, change = save_adapter(tmp_path / form, form)
    loaded = load(qwen3, "fp32", adapter_path=folder)
    expected = reference(qwen3).model.layers[0].self_attn.o_proj.weight + change
    torch.testing.assert_close(loaded.model.model.layers[0].self_attn.o_proj.weight, expected)
    assert loaded.about["adapter"] == "LoRA rank 4 on 1 matrices"


def test_what_is_wrong_with_an_adapter_is_said(qwen3: Path, tmp_path: Path) -> None:
    cases = [
        (tmp_path / "nowhere", "no such adapter folder"),
        (
            save_adapter(tmp_path / "shape", "mlx", wrong=True)[0],
            r"o_proj has the shapes \(49, 4\) and \(4, 48\).*48, 48",
        ),
        (save_adapter(tmp_path / "out", "peft", out=50)[0], r"\(4, 48\) and \(50, 4\).*\(48, 48\)"),
    ]
    dora = save_adapter(tmp_path / "dora", "mlx")[0]
    (dora / "adapter_config.json").write_text('{"fine_tune_type": "dora"}')
    cases.append((dora, "no magnitudes"))
    empty = save_adapter(tmp_path / "empty", "mlx")[0]
    (empty / "adapters.safetensors").unlink()
    cases.append((empty, "no weights"))
    for folder, words in cases:
        with pytest.raises(FatalError, match=words):
            load(qwen3, "fp32", adapter_path=folder)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_long_prompt_is_cut_where_that_is_wanted(qwen3: Path, side: str) -> None:
    core = open_core({"path": str(qwen3), "truncate": side}, SamplingOptions(max_tokens=10), 2)
    whole = load(qwen3, "fp32").tokenizer("<|im_start|>user\n" + "fox " * 300)["input_ids"]
    core.submit(BatchItem(0, Request("fox " * 300)))
    (row,) = core._scheduler.schedule()
    assert len(row.prompt) == 150 and len(row.prompt) + row.max_tokens == 160
    assert (row.prompt[:20] == whole[:20]) == (side == "right")
    with pytest.raises(FatalError, match="truncate"):
        open_core({"path": str(qwen3), "truncate": "middle"}, SamplingOptions(), 1)


def test_logprobs_on_request(qwen3: Path) -> None:
    core = open_core({"path": str(qwen3)}, SamplingOptions(max_tokens=6), 2)
    core.submit(BatchItem(0, Request("fox", {"params": {"logprobs": True}})))
    core.submit(BatchItem(1, Request("fox")))
    done = {}
    while core.busy:
        done |= {response.id: response for response in core.step()}
    assert done[0].data and done[1].data
    logprobs = done[0].data.extra["logprobs"]
    assert len(logprobs) == done[0].tokens_output and all(value <= 0 for value in logprobs)
    assert "logprobs" not in done[1].data.extra and "ignored_params" not in done[0].data.extra
