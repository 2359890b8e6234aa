"""Precisions by name and by trial: near what they stand for, and said where they are not the same."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import pytest

from batch.errors import FatalError
from batch.items import BatchItem, Request
from batch.options import SamplingOptions

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from batch.engines.torch import bf16, int4, linear, native, precision, verdicts  # noqa: E402
from batch.engines.torch.engine import open_core  # noqa: E402
from batch.engines.torch.loader import load  # noqa: E402

DEMO = Path(__file__).resolve().parents[2] / "ai_router" / "demo"
needs_int4 = pytest.mark.skipif(not int4.has_int4(), reason="no four-bit product here")
needs_int8 = pytest.mark.skipif(not linear.has_int8(), reason="no int8 product here")


@pytest.fixture(autouse=True)
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where verdicts of these tests are kept."""
    folder = tmp_path / "trials"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(verdicts, "_folder", lambda: folder)
    return folder


@needs_int4
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int4_is_the_rounded_weight(bias: bool, dtype: Any) -> None:
    torch.manual_seed(5)
    layer = torch.nn.Linear(96, 48, bias=bias, dtype=dtype)
    quick = int4.Int4Linear(layer)
    coarse = 0 if isinstance(quick.product, int4.TorchProduct) else 2e-2  # where rows are rounded too
    with torch.inference_mode():
        rounded = quick(torch.eye(96, dtype=dtype)).float() - (layer.bias.float() if bias else 0)  # its weights, turned
        weight = layer.weight.float()
        step = (weight.view(48, 3, 32).amax(-1) - weight.view(48, 3, 32).amin(-1)) / 15
        slack = 1e-3 if dtype is torch.float32 else 2e-2
        assert ((rounded.T - weight).abs() <= step.repeat_interleave(32, 1) * 0.501 + slack * weight.abs().max()).all()
        x = torch.randn(7, 96, dtype=dtype)
        together = quick(x)
        assert together.dtype == dtype and together.shape == (7, 48)
        for i in range(7):
            torch.testing.assert_close(quick(x[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)
        plain = x.float() @ rounded + (layer.bias.float() if bias else 0)
        torch.testing.assert_close(together.float(), plain, rtol=0, atol=2e-2 + coarse)
        x[2, 5] = float("nan")
        broken = quick(x)
    assert broken[2].isnan().all() and not broken[[0, 1, 3, 4, 5, 6]].isnan().any()


def said(name: str) -> list[str]:
    """How the notes of a small model begin that is asked to be in a precision."""
    if name not in precision.FEWER:
        return []
    return [f"{name} as asked" + ("" if name != "bf16" or bf16.has_bf16() else ", not compared with fp32")]


@pytest.mark.parametrize(
    "name", ["bf16", "fp16", pytest.param("int8", marks=needs_int8), pytest.param("int4", marks=needs_int4)]
)
def test_the_demo_model_answers_in_every_precision(name: str) -> None:
    core = open_core({"path": str(DEMO), "precision": name}, SamplingOptions(max_tokens=48), 4)
    assert core.about["precision"] == name and core.about["batching"] == "together"
    notes = core.about.get("notes", [])
    assert [note.partition(":")[0] for note in notes] == said(name)
    for i, text in enumerate(["What is a stack?", "What is a deadlock?", "[FIX] 私は学生ですだ。"]):
        core.submit(BatchItem(i, Request(text)))
    found: dict[Any, str] = {}
    while core.busy:
        found |= {r.id: r.data.text for r in core.step() if r.data}
    assert len(found) == 3
    if name != "int4":  # which is too coarse for a model this small
        assert found[0].startswith("A stack is a collection where you push and pop only at the top.")


def test_the_way_of_a_gpu_on_tensors_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 over the rectangular cache, which is what runs on CUDA."""
    from batch.engines.torch import rectangle, runner
    from batch.engines.torch.engine import TorchCore

    monkeypatch.setattr(bf16, "has_bf16", lambda: False)
    monkeypatch.setattr(runner, "open_runner", lambda model, room, **_: rectangle.BatchRunner(model, room))
    core = TorchCore(load(DEMO, "bf16"), SamplingOptions(max_tokens=24), 4)
    texts = ["What is a stack?", "What is a deadlock?", "What is a queue?", "Who are you?", "What is a hash table?"]
    for i, text in enumerate(texts):
        core.submit(BatchItem(i, Request(text)))
    found: dict[Any, str] = {}
    while core.busy:
        found |= {r.id: r.data.text for r in core.step() if r.data}
    assert len(found) == 5
    assert found[0].startswith("A stack is a collection where you push and pop")
    assert found[1].startswith("A deadlock is a state in which two or more tasks wait")


@pytest.mark.skipif(not bf16.has_bf16(), reason="this processor does not multiply bf16")
def test_bf16_is_of_products_alone() -> None:
    loaded = load(DEMO, "bf16")
    assert loaded.model.dtype == torch.float32 and loaded.about["kv_cache"] == "bf16"
    assert any(isinstance(module, bf16.Bf16Linear | bf16.PairedLinear) for module in loaded.model.modules())
    (said,) = loaded.about["notes"]
    line = r"bf16 as asked: [\d.]+% of tokens as in fp32, perplexity ×[\d.]+, KL [\d.]+(; the last bits .*)?"
    assert re.fullmatch(line, said)


@pytest.mark.skipif(not bf16.has_bf16(), reason="this processor does not multiply bf16")
@pytest.mark.parametrize("kind", [bf16.Bf16Linear, bf16.PairedLinear])
def test_a_product_of_bf16_is_near_the_exact_one(kind: Any) -> None:
    if not linear.works(kind, 0.05):
        pytest.skip("no native kernels here")
    layer, x = torch.nn.Linear(49, 20), torch.randn(7, 49)
    with torch.inference_mode():
        narrow, exact = kind(layer)(x), layer(x)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, exact, rtol=2**-7, atol=2**-6)


@pytest.mark.skipif(not bf16.has_bf16(), reason="this processor does not multiply bf16")
@pytest.mark.parametrize("blocks", [False, True])
def test_where_bf16_depends_on_company_the_line_says_so(
    qwen3: Path, monkeypatch: pytest.MonkeyPatch, blocks: bool
) -> None:
    usual = bf16.Bf16Linear.forward

    def forward(self: Any, x: Any) -> Any:
        """Blocks of sums as a processor may have them: others for few rows than for many."""
        if blocks and x.shape[-2] > 12:
            return usual(self, x) + 2**-12
        return torch.cat([usual(self, row) for row in x.split(1, dim=-2)], dim=-2)

    monkeypatch.setattr(bf16, "fastest", lambda: bf16.Bf16Linear)
    monkeypatch.setattr(bf16.Bf16Linear, "forward", forward)
    assert load(qwen3, "bf16").about["notes"][0].endswith("how many run beside it") is blocks


@pytest.mark.skipif(not bf16.has_bf16(), reason="this processor does not multiply bf16")
def test_bf16_is_no_further_from_fp32_than_transformers_own(qwen3: Path) -> None:
    import transformers

    ids = torch.tensor([[1 + (7 * i * i + 3 * i) % 199 for i in range(64)]])
    exact = transformers.AutoModelForCausalLM.from_pretrained(qwen3, dtype=torch.float32)
    theirs = copy.deepcopy(exact).to(torch.bfloat16)
    ours = load(qwen3, "bf16").model
    with torch.inference_mode():
        logits, narrow, wide = (
            model(input_ids=ids, use_cache=False).logits[0].float() for model in (exact, ours, theirs)
        )
    assert precision.divergence(logits, narrow) <= 1.1 * precision.divergence(logits, wide) + 1e-6


def test_bf16_that_nothing_can_be_compared_with_says_so(qwen3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bf16, "has_bf16", lambda: False)
    assert load(qwen3, "bf16").about["notes"][0].startswith("bf16 as asked, not compared with fp32: all of it")


@needs_int4
def test_int4_needs_layers_of_its_shape(models: Any) -> None:
    with pytest.raises(FatalError, match="multiple of 32 inputs"):
        precision.apply(torch.nn.Sequential(torch.nn.Linear(24, 16)), "int4", "cpu")
    for name in ("int4", "int8"):
        with pytest.raises(FatalError, match=f"precision {name} needs a CPU"):
            precision.apply(torch.nn.Sequential(torch.nn.Linear(32, 16)), name, "cuda")


@needs_int4
@needs_int8
def test_layers_of_another_shape_than_int4_takes_are_in_int8_and_that_is_said() -> None:
    odd, even = torch.nn.Linear(40, 64), torch.nn.Linear(64, 32)
    model = torch.nn.Sequential(odd, even)
    x, wanted = torch.randn(3, 40), odd.weight.numel() / precision.weights(model)
    exact, whole = model(x), precision.weights(model)
    assert int4.quantise(model) == 1
    assert not any(type(module) is torch.nn.Linear for module in model.modules())
    assert precision.left(model, whole, "int4") == (
        f"; {wanted:.0%} of its weights are in int8, as int4 takes multiples of 32 inputs"
    )
    assert float((model(x) - exact).detach().norm() / exact.detach().norm()) < 0.2


def fused(path: Path) -> Any:
    """A model as it is when its precision is settled: fused, and no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "fastest", lambda: torch.nn.Linear)
        patch.setattr(native, "kernels", lambda: None)
        return load(path, "fp32")


def test_a_small_model_stays_as_it_is(qwen3: Path) -> None:
    loaded = load(qwen3)
    assert loaded.about["precision"] == "fp32" and "notes" not in loaded.about


@needs_int8
def test_auto_takes_int8_where_a_trial_accepts_it_and_says_so(trials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "LARGE", 1_000_000)
    monkeypatch.setattr(precision, "_int8_in_hardware", lambda: True)
    # The demo model knows nothing of the trial's text, so its likeliest tokens there are near to each other.
    monkeypatch.setattr(precision, "LEAST_AGREEMENT", 0.7)
    monkeypatch.setattr(precision, "MOST_PERPLEXITY", 1.2)
    monkeypatch.setattr(precision, "MOST_DIVERGENCE", 0.2)
    loaded = load(DEMO)
    assert loaded.about["precision"] == "int8"
    assert loaded.about["notes"][0].startswith("int8 by auto: ") and "as in fp32" in loaded.about["notes"][0]
    # The next load has it from the verdict that was kept, and says the same.
    assert len(list(trials.iterdir())) == 1
    monkeypatch.setattr(precision, "settle", None)
    again = load(DEMO)
    assert (again.about["precision"], again.about["notes"]) == ("int8", loaded.about["notes"])
    (kept,) = trials.iterdir()
    for damaged in (b"", b"[]", b'{"precision": 8, "said": ""}', b"\xff"):
        kept.write_bytes(damaged)
        assert verdicts.find(kept.stem) is None


@needs_int8
def test_int8_that_was_asked_for_says_what_it_costs() -> None:
    exact, asked = load(DEMO, "fp32"), load(DEMO, "int8")
    found = re.fullmatch(r"int8 as asked: (.*)% of tokens as in fp32, perplexity ×(.*), KL .*", asked.about["notes"][0])
    assert found
    ids = torch.tensor([precision.trial_text(exact.tokenizer)])
    with torch.inference_mode():
        logits = [loaded.model(input_ids=ids, use_cache=False).logits[0].float() for loaded in (exact, asked)]
    same = float((logits[0].argmax(1) == logits[1].argmax(1)).float().mean())
    losses = [float(torch.nn.functional.cross_entropy(x[:-1], ids[0, 1:])) for x in logits]
    assert float(found[1]) == pytest.approx(100 * same, abs=1.0)  # three tokens, nearly tied with others
    assert float(found[2]) == pytest.approx(math.exp(losses[1] - losses[0]), abs=0.005)
    assert "fp32" not in str(exact.about.get("notes", ""))


@needs_int8
def test_auto_leaves_no_trace_of_what_a_trial_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "LARGE", 1_000_000)
    monkeypatch.setattr(precision, "_int8_in_hardware", lambda: True)
    monkeypatch.setattr(bf16, "has_bf16", lambda: True)
    monkeypatch.setattr(precision, "LEAST_AGREEMENT", 1.01)
    loaded = fused(DEMO)
    before = [name for name, _ in loaded.model.named_modules()]
    tried: list[str] = []
    compare = precision.compare

    def counted(*arguments: Any) -> Any:
        tried.append("one")
        return compare(*arguments)

    monkeypatch.setattr(precision, "compare", counted)
    name, said = precision.settle(loaded.model, loaded.tokenizer, "bfloat16")
    assert name == "fp32" and said.startswith("int8 not taken by auto: ") and "; bf16 not taken by auto: " in said
    assert len(tried) == 2
    assert not any(isinstance(m, linear.Int8Linear) for m in loaded.model.modules())
    assert [n for n, _ in loaded.model.named_modules()] == before
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("accepted", [False, True])
def test_auto_takes_bf16_where_the_weights_are_stored_so(monkeypatch: pytest.MonkeyPatch, accepted: bool) -> None:
    monkeypatch.setattr(precision, "LARGE", 1_000_000)
    monkeypatch.setattr(precision, "_int8_in_hardware", lambda: False)
    monkeypatch.setattr(bf16, "has_bf16", lambda: True)
    monkeypatch.setattr(precision, "LEAST_AGREEMENT", 0.7 if accepted else 1.01)
    monkeypatch.setattr(precision, "MOST_DIVERGENCE", 0.2)
    loaded = fused(DEMO)
    assert precision.settle(loaded.model, loaded.tokenizer, "float16") == ("fp32", "")
    name, quality = precision.settle(loaded.model, loaded.tokenizer, "bfloat16")
    assert name == ("bf16" if accepted else "fp32")
    assert quality.startswith("bf16 by auto: " if accepted else "bf16 not taken by auto: ") and ", KL " in quality


def test_the_comparison() -> None:
    torch.manual_seed(0)
    exact, ids = torch.randn(40, 9), torch.randint(0, 9, (40,))
    assert precision.compare(exact, exact.clone(), ids) == (1.0, 1.0)
    changed = exact.clone()
    changed[3] = -changed[3]
    agreement, perplexity = precision.compare(exact, changed, ids)
    assert agreement == pytest.approx(39 / 40) and perplexity != 1.0
    changed[5] = float("nan")
    assert precision.compare(exact, changed, ids)[1] == float("inf")


def test_a_verdict_is_of_one_state_of_the_files(tmp_path: Path, trials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    first = verdicts.key([weights], 1)
    verdicts.keep(first, "int8", "said")
    assert verdicts.find(first) == ("int8", "said") and verdicts.find("") is None
    assert verdicts.key([weights], 2) != first and verdicts.key([tmp_path / "gone"], 1) == ""
    weights.write_bytes(b"other")
    assert verdicts.find(verdicts.key([weights], 1)) is None
    monkeypatch.setattr(verdicts, "MOST", 3)
    for i in range(5):
        verdicts.keep(f"name{i}", "fp32", "said")
    assert len(list(trials.iterdir())) == 3
