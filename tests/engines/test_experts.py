"""Experts in few bits, and linear layers by other names: the same as before but for rounding, and all of them."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from batch.engines.torch import bf16, int4, linear, precision  # noqa: E402
from batch.engines.torch.experts import SplitExperts, is_split  # noqa: E402
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
    assert precision.left(model, whole).endswith("% of its weights stay in fp32")
    assert precision.left(model, 100 * whole) == ""


def test_what_makes_more_of_a_product_stays() -> None:
    class Router(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x).softmax(-1)

    model = torch.nn.Sequential(Router(8, 4))
    assert linear.plain(model) == 0 and type(model[0]) is Router
