"""What single families have of their own, and is no obstacle to what all have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)

from batch.engines.torch import fused, linear, native  # noqa: E402
from batch.engines.torch.pages import PageCache  # noqa: E402
from batch.engines.torch.slots import SlotCache  # noqa: E402
from tests.engines.architectures import make  # noqa: E402


def test_linear_layers_by_another_name_are_linear_layers() -> None:
    """Falcon's, which int8 would pass over."""
    model, ids = make("falcon", num_hidden_layers=1), torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        before = model(ids).logits
        linear.fuse(model)
        torch.testing.assert_close(model(ids).logits, before)
    assert not any(type(module).__name__ == "FalconLinear" for module in model.modules())
    assert linear.replace(model, lambda layer: layer) == 5  # four of the layer, and the head


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=8), st.floats(-100, 100))
def test_a_bias_that_is_a_slope_is_known_as_one(slopes: list[float], first: float) -> None:
    found = SlotCache(None, 1).slopes(lambda n: first + torch.tensor(slopes)[:, None] * torch.arange(n))
    torch.testing.assert_close(found, torch.tensor(slopes), rtol=1e-4, atol=1e-4)


def test_a_bias_that_is_none_is_not_taken_for_one() -> None:
    with pytest.raises(ValueError, match="no slope"):
        SlotCache(None, 1).slopes(lambda n: torch.arange(n).float().square()[None])


def test_norms_around_one_are_in_the_kernels() -> None:
    """Gemma's, whose weight is what is added to one; and where heads do not lie in one piece."""
    kernels = native.kernels()
    if kernels is None:
        pytest.skip("no native kernels here")
    model: Any = make("gemma2", num_hidden_layers=1)
    norm, x = model.model.norm, torch.randn(3, 64, 2).transpose(1, 2)
    with torch.inference_mode():
        norm.weight.normal_()
        usual = norm(x)
        assert fused.use_kernels(model, kernels) >= 5 and "forward" in vars(norm)
        torch.testing.assert_close(norm(x), usual, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "path", "width"),
    [("bloom", "transformer.h.0.mlp.gelu_impl", 96), ("gpt2", "transformer.h.0.mlp.act", 96)]
    + [(name, "model.layers.0.mlp", 64) for name in ("gemma2", "llama")],
)
def test_gates_are_computed_in_one_pass(name: str, path: str, width: int) -> None:
    """GELU by tanh, written out or beside a gate, and silu."""
    kernels = native.kernels()
    if kernels is None:
        pytest.skip("no native kernels here")
    model: Any = make(name, num_hidden_layers=1)
    module, x = model.get_submodule(path), 4 * torch.randn(2, 3, width)
    with torch.inference_mode():
        usual = module(x)
        linear.fuse(model)
        fused.use_kernels(model, kernels)
        assert "forward" in vars(module)
        torch.testing.assert_close(module(x), usual, rtol=1e-4, atol=1e-4)


def test_a_gelu_of_another_form_stays() -> None:
    kernels = native.kernels()
    if kernels is None:
        pytest.skip("no native kernels here")
    model = torch.nn.Sequential(torch.nn.GELU(), transformers.activations.QuickGELUActivation())
    assert fused.use_kernels(model, kernels) == 0


def test_what_lies_in_any_order_is_written_to_its_pages() -> None:
    kernels = native.kernels()
    if kernels is None:
        pytest.skip("no native kernels here")
    pages = PageCache(None, 3, kernels)
    pages.writes = torch.tensor([2, 0, 1]), torch.tensor([5, 0, 31])
    given = [torch.randn(3, 2, 8), torch.randn(2, 3, 8).transpose(0, 1), torch.randn(8, 2, 3).permute(2, 1, 0)]
    for new in (*given, given[0].double()):
        for dtype in (torch.float32, torch.bfloat16):
            held = torch.zeros(4, 2, kernels.page, 8, dtype=dtype)
            pages.put(held, new)
            assert torch.equal(held[[2, 0, 1], :, [5, 0, 31]], new.float().to(dtype))
            assert held.count_nonzero() == new.numel()


@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral"])
def test_layers_around_a_mixture_of_experts_are_done_by_the_kernels(name: str) -> None:
    """As that mixture's model does them, of which tests of all architectures make sure beside `generate`."""
    kernels = native.kernels()
    if kernels is None or not linear.works(linear.FloatLinear, 1e-3):
        pytest.skip("no native kernels here")
    model: Any = make(name, num_hidden_layers=2)
    with torch.inference_mode():
        linear.fuse(model)
        linear.pack(model, linear.FloatLinear)
        layers = list(model.model.layers)
        plain = [layer.forward for layer in layers]
        fused.use_kernels(model, kernels)
        assert all("forward" in vars(layer) and "forward" in vars(layer.self_attn) for layer in layers)
        x, other = torch.randn(1, 5, model.config.hidden_size), {}
        other["position_embeddings"] = model.model.rotary_emb(x, torch.arange(5)[None])
        for layer, before in zip(layers, plain, strict=True):  # outside a packed step they are as they were
            torch.testing.assert_close(layer(x, **other), before(x, **other))
