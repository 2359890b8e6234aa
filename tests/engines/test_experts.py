"""Experts in few bits, and linear layers by other names: the same as before but for rounding, and all of them."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from batch.engines.torch import bf16, int4, linear, precision  # noqa: E402
from batch.engines.torch.experts import SplitExperts, is_split  # noqa: E402
from batch.engines.torch.gemm import PackedProduct, round_weight  # noqa: E402
from batch.engines.torch.native import kernels  # noqa: E402
from batch.engines.torch.structs import Expert  # noqa: E402
from tests.engines import architectures  # noqa: E402

pytestmark = pytest.mark.model
torch.set_num_threads(1)
# Turned, with biases and a gate of its own; the usual way; with shared experts beside them.
NAMES = ("gpt_oss", "qwen3_moe", "deepseek_v3", "mixtral", "minimax_m2")
IDS = [[1 + (7 * i * i + 3 * i) % 199 for i in range(24)]]


def made(name: str) -> Any:
    if name not in architectures.names():
        pytest.skip(f"this transformers has no {name}")
    return architectures.make(name)


def logits(model: Any) -> Any:
    with torch.inference_mode():
        return model(input_ids=torch.tensor(IDS), use_cache=False).logits[0]


def bits(model: Any) -> int:
    """Numbers of 3D weights that are still as they were read."""
    return sum(p.numel() for p in model.parameters() if p.dim() == 3)


@pytest.mark.parametrize("name", NAMES)
def test_experts_one_by_one_are_the_experts(name: str) -> None:
    model = made(name)
    wanted, found = logits(model), [m for m in model.modules() if is_split(m)]
    assert found and bits(model)
    with torch.inference_mode():
        count = linear.replace(model, lambda layer: layer, split=True)
    assert count >= len(found) and not bits(model)
    assert sum(isinstance(m, SplitExperts) for m in model.modules()) == len(found)
    torch.testing.assert_close(logits(model), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


@pytest.mark.skipif(not linear.works(linear.PackedLinear, 1e-3), reason="no product of oneDNN here")
@pytest.mark.parametrize("kind", [linear.PackedLinear, linear.FloatLinear])
@pytest.mark.parametrize("name", NAMES)
def test_experts_in_another_layout_are_the_experts(name: str, kind: Any) -> None:
    if not linear.works(kind, 1e-3):
        pytest.skip("no native kernels here")
    model = made(name)
    wanted = logits(model)
    with torch.inference_mode():
        linear.pack(model, kind)
        found = logits(model)
    assert not bits(model) and any(isinstance(m, kind) for m in model.modules())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.skipif(not linear.has_int8(), reason="no int8 product here")
def test_what_an_expert_says_of_a_token_does_not_depend_on_the_others() -> None:
    model = made("qwen3_moe")
    with torch.inference_mode():
        linear.quantise(model)
        experts = next(m for m in model.modules() if isinstance(m, SplitExperts))
        generator = torch.Generator().manual_seed(3)
        x = torch.randn(24, experts.up[0].in_features, generator=generator)
        index = torch.stack([torch.randperm(len(experts.up), generator=generator)[:2] for _ in range(24)])
        index[5, 1] = index[17, 0] = len(experts.up)  # none, as some routers say it
        shares = torch.rand(24, 2, generator=generator)
        whole = experts(x, index, shares)
        alone = torch.cat([experts(x[i : i + 1], index[i : i + 1], shares[i : i + 1]) for i in range(24)])
        nothing = experts(x[:1], torch.full((1, 2), len(experts.up)), shares[:1])
    assert torch.equal(whole, alone) and not nothing.any()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("threads", [1, 2])
def test_experts_in_one_call_are_what_each_is_alone(bits: int, threads: int) -> None:
    quick = kernels()
    if quick is None or not quick.panel:
        pytest.skip("no product of our own here")
    generator = torch.Generator().manual_seed(4)
    hidden, inner, count, tokens = 96, 64, 6, 40

    def product(outputs: int, inputs: int) -> PackedProduct:
        bias = torch.randn(outputs, generator=generator)
        return PackedProduct(quick, round_weight(torch.randn(outputs, inputs, generator=generator), bits), bias)

    pairs = [(product(2 * inner, hidden).pair(), product(hidden, inner)) for _ in range(count)]
    experts = (Expert * count)(*(Expert(up.described, down.described) for up, down in pairs))
    x = torch.randn(tokens, hidden, generator=generator)
    x[::3, 5] *= 40  # which a row keeps as it is
    index = torch.randint(0, count - 2, (tokens, 2), generator=generator)  # one has none
    index[::2, 1], index[1::2, 1] = count - 1, count + 3  # one with many, and one that is not there
    shares = torch.rand(tokens, 2, generator=generator)
    alone = torch.zeros(tokens, hidden)
    for which in (0, 1):
        for expert, (up, down) in enumerate(pairs):
            mine = index[:, which] == expert
            if mine.any():
                alone[mine] += shares[mine, which, None] * down(up(x[mine], gated=True))
    torch.set_num_threads(threads)
    try:
        whole = quick.run_experts(experts, index, shares, x, hidden)
        torch.testing.assert_close(whole, alone, rtol=1e-6, atol=1e-6 * float(alone.abs().max()))
        assert not len(quick.run_experts(experts, index[:0], shares[:0], x[:0], hidden))
        assert not quick.run_experts(experts, index[:1] * 0 + count, shares[:1], x[:1], hidden).any()
        with pytest.raises(ValueError, match="run_experts"):
            quick.run_experts(experts, index - count, shares, x, hidden)
        with pytest.raises(ValueError, match="run_experts"):
            quick.run_experts(experts, index, shares, x[1:], hidden)
        with pytest.raises(ValueError):
            quick.run_experts(experts, index, shares[1:], x, hidden)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("name", ["int8", "int4", "bf16"])
def test_experts_are_rounded_and_come_back(name: str) -> None:
    change, there = {"int8": (linear.quantise, linear.has_int8), "int4": (int4.quantise, int4.has_int4)}.get(
        name, (bf16.narrow, bf16.has_bf16)
    )
    if not there():
        pytest.skip(f"no {name} here")
    model = made("qwen3_moe")
    with torch.inference_mode():
        linear.fuse(model)
        wanted, before = logits(model), precision._Layers(model)
        change(model)
        rounded = logits(model)
        assert not bits(model) and 0 < precision.divergence(wanted, rounded) < (0.3 if name == "int4" else 0.05)
        before.restore()
    assert bits(model) and torch.equal(logits(model), wanted)


@pytest.mark.parametrize("name", ["falcon", "gpt2"])
def test_layers_by_another_name_are_linear_layers(name: str) -> None:
    model = made(name)
    wanted = logits(model)
    count = linear.plain(model)
    assert count >= 8 and linear.plain(model) == 0
    torch.testing.assert_close(logits(model), wanted, rtol=1e-3, atol=1e-4)
    if int4.has_int4():
        precision.apply(model, "int4", "cpu")
        assert not any(type(m) is torch.nn.Linear for m in model.modules())


@pytest.mark.skipif(not linear.has_int8(), reason="no int8 product here")
def test_what_stays_as_it_was_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("qwen3_moe")
    whole = precision.weights(model)
    monkeypatch.setattr(linear, "is_split", lambda module: False)
    linear.quantise(model)
    assert precision.left(model, whole, "int8").endswith("% of its weights stay in fp32")
    assert precision.left(model, 100 * whole, "int8") == ""


@pytest.mark.skipif(not linear.has_int8(), reason="no int8 product here")
def test_how_far_weights_were_rounded_is_measured() -> None:
    torch.manual_seed(7)
    for bias in (False, True):
        part = torch.nn.Sequential(torch.nn.Linear(128, 64, bias=bias), torch.nn.ReLU(), torch.nn.Linear(64, 8))
        assert 0.001 < linear.quantise_told(part) < 0.02  # an even spread of a step, of values up to 127 of them
        assert isinstance(part[0], linear.Int8Linear)
    layer = torch.nn.Linear(128, 64)
    assert linear.rounding(layer, layer) < 1e-6


def test_what_makes_more_of_a_product_stays() -> None:
    class Router(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x).softmax(-1)

    model = torch.nn.Sequential(Router(8, 4))
    assert linear.plain(model) == 0 and type(model[0]) is Router
