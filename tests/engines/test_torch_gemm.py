"""The products: exact sums for every shape and every number of threads, and what they do to rows on the way."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from batch.engines.torch import bf16, building, fused, linear, native  # noqa: E402
from batch.engines.torch.gemm import FloatProduct, PackedProduct, Rounded, keeps, round_weight  # noqa: E402
from batch.engines.torch.loader import load  # noqa: E402
from batch.engines.torch.packed_native import NativePackedRunner  # noqa: E402
from batch.engines.torch.sequence import Sequence  # noqa: E402
from batch.engines.torch.stacked import Stack  # noqa: E402
from batch.engines.torch.text import Detokenizer  # noqa: E402
from batch.options import SamplingOptions  # noqa: E402
from tests.engines.test_torch_native import quick_build  # noqa: E402


@pytest.fixture
def kernels() -> Iterator[native.Kernels]:
    found = native.kernels()
    if found is None or not found.panel:
        pytest.skip("no AVX-512 VNNI here, or no compiler")
    threads = torch.get_num_threads()
    with torch.inference_mode():
        yield found
    torch.set_num_threads(threads)


@dataclass
class Layer:
    """A product, and what it was made of."""

    rounded: Rounded
    bias: Any
    product: PackedProduct

    def expected(self, x: Any) -> Any:
        """In double precision, of rows in whole numbers and of what they keep."""
        kept = keeps(x)
        rest = x.masked_fill(kept, 0)
        largest = rest.abs().amax(1, keepdim=True).clamp(min=1e-12)
        scale = largest / 127
        # Multiplied and added at once, as the kernel does; a number in the middle would go to either.
        rows = (rest.double() * (127 / largest).double() + 128.5).float().to(torch.uint8).double() - 128
        weight = self.rounded.weight().double()
        out = (rows @ weight.T * scale.double() + (x - rest).double() @ weight.T).float()
        return out if self.bias is None else out + self.bias

    def exact(self, x: Any) -> Any:
        """Without any rounding of rows."""
        return x.double() @ self.rounded.weight().double().T + self.bias


def make(kernels: native.Kernels, inputs: int, outputs: int, *, bias: bool, bits: int = 8) -> Layer:
    torch.manual_seed(inputs + outputs)
    rounded = round_weight(torch.randn(outputs, inputs) * torch.rand(outputs, 1) / 2, bits)
    added = torch.randn(outputs) if bias else None
    return Layer(rounded, added, PackedProduct(kernels, rounded, added))


@pytest.mark.parametrize(("bits", "inputs"), [(8, 64), (8, 70), (8, 7), (4, 32), (4, 96)])
def test_weights_are_rounded_to_the_nearest(bits: int, inputs: int) -> None:
    torch.manual_seed(inputs)
    weight = torch.randn(40, inputs) * torch.logspace(-9, 3, 40)[:, None]
    weight[7] = 0
    weight[8, : inputs // 2] *= 1e-4
    rounded = round_weight(weight, bits)
    size = 64 if bits == 8 else 32
    for begin in range(0, inputs, size):
        part, found = weight[:, begin : begin + size], rounded.weight()[:, begin : begin + size]
        step = (part.abs().amax(1) / 127 if bits == 8 else (part.amax(1) - part.amin(1)) / 15).unsqueeze(1)
        slack = 2e-3 * part.abs().amax(1, keepdim=True) + 1e-7 * weight.abs().amax(1, keepdim=True)
        assert ((found - part).abs() <= step / 2 + slack).all()


def test_four_bits_of_a_file_stay_what_they_are() -> None:
    torch.manual_seed(3)
    q, step, least = torch.randint(0, 16, (24, 4, 32)), torch.rand(24, 4, 1).half(), -torch.rand(24, 4, 1).half()
    q[..., 0], q[..., 1] = 0, 15
    weight = (q * step.float() + least.float()).view(24, 128)
    assert torch.equal(round_weight(weight, 4).weight(), weight)


def test_q4_0_stays_what_it_is_on_each_product(kernels: native.Kernels) -> None:
    """Its blocks have sixteen steps around zero, of which they use some; the largest weight is the first of them."""
    from batch.engines.torch.int4 import TorchProduct

    torch.manual_seed(4)
    q, step = torch.randint(3, 13, (48, 4, 32)), torch.rand(48, 4, 1).half() * (torch.randint(0, 2, (48, 4, 1)) * 2 - 1)
    q[..., 5], q[7, 1] = 0, 8
    weight = ((q - 8) * step.float()).view(48, 128)
    rounded = round_weight(weight, 4)
    assert torch.equal(rounded.weight(), weight)
    x = torch.randint(-127, 128, (3, 128)).float()
    x[:, 0] = 127
    wanted = x.double() @ weight.double().T
    for product in (PackedProduct(kernels, rounded, None), TorchProduct(weight, None)):
        assert torch.allclose(product(x).double(), wanted, rtol=1e-4, atol=1e-2), product


# The last is large enough for several threads.
@pytest.mark.parametrize(
    ("bits", "inputs", "outputs"),
    [
        *((8, 4, 32), (8, 64, 16), (8, 192, 70), (8, 51, 70), (8, 7, 5), (8, 130, 257), (8, 401, 1100)),
        *((4, 32, 16), (4, 64, 33), (4, 160, 257), (4, 416, 1100)),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_every_shape_has_exact_sums(kernels: native.Kernels, bits: int, inputs: int, outputs: int, bias: bool) -> None:
    layer = make(kernels, inputs, outputs, bias=bias, bits=bits)
    most = torch.randn(290, inputs)
    for rows in (*range(41), 97, 290):
        x = most[:rows].contiguous()
        torch.set_num_threads(1)
        one = layer.product(x)
        torch.testing.assert_close(one, layer.expected(x), rtol=1e-5, atol=2e-4)
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(layer.product(x), one)
    for i in range(0, 290, 12):  # whatever the company
        assert torch.equal(layer.product(most[i : i + 1])[0], one[i])


@pytest.mark.parametrize(
    ("bits", "inputs", "outputs"), [(8, 64, 16), (8, 130, 257), (8, 576, 40), (8, 1100, 401), (4, 64, 16), (4, 576, 40)]
)
def test_a_few_large_inputs_cost_the_others_nothing(
    kernels: native.Kernels, bits: int, inputs: int, outputs: int
) -> None:
    """As real models have them: in the same columns of most rows, and a few anywhere."""
    layer = make(kernels, inputs, outputs, bias=True, bits=bits)
    x = torch.randn(50, inputs)
    exact = layer.exact(x)
    usual = (layer.product(x) - exact).abs().mean()
    x[:, 3] *= 40
    x[::3, inputs // 2] = 3000
    for row in range(0, 50, 7):
        x[row, (11 * row) % inputs] = -80.0
    x[5] = torch.linspace(0, 1, inputs).pow(20)  # more of them than a row may keep
    x[6] = 1e-30
    exact = layer.exact(x)
    whole = layer.product(x)
    torch.testing.assert_close(whole, layer.expected(x), rtol=2e-5, atol=1e-3)
    assert (whole - exact).abs().mean() < 1.5 * usual
    for i in range(50):  # whatever the company
        assert torch.equal(layer.product(x[i : i + 1])[0], whole[i])
    pairs = make(kernels, inputs, outputs, bias=True, bits=bits).product.pair()
    assert torch.equal(pairs(x), whole)


def test_a_broken_row_stays_alone(kernels: native.Kernels) -> None:
    layer = make(kernels, 100, 40, bias=True)
    x = torch.randn(30, 100)
    x[3] = 0
    whole = layer.product(x)
    assert torch.equal(whole[3], layer.bias)
    x[17, 99] = float("nan")
    others = [i for i in range(30) if i != 17]
    for broken in (layer.product(x), make(kernels, 100, 40, bias=True).product.pair()(x, gated=True)):
        assert broken[17].isnan().all() and not broken[others].isnan().any()
    assert torch.equal(layer.product(x)[others], whole[others])


@pytest.mark.parametrize("outputs", [10, 50, 128])
def test_norms_gates_and_residuals_on_the_way(kernels: native.Kernels, outputs: int) -> None:
    layer, norm = make(kernels, 96, outputs, bias=True), (torch.randn(96), 1e-5)
    pairs = make(kernels, 96, outputs, bias=True).product.pair()
    for rows in (1, 9, 40):
        x, residual = torch.randn(rows, 96), torch.randn(rows, outputs)
        plain = layer.product(x)
        step = float(layer.rounded.weight().abs().max()) * 0.1  # an input may be rounded to the next whole number
        normed = layer.product(kernels.rms_norm(x, *norm))
        torch.testing.assert_close(layer.product(x, norm=norm), normed, rtol=0, atol=step)
        assert torch.equal(pairs(x, residual=residual), plain + residual)
        torch.testing.assert_close(pairs(x, gated=True), kernels.swiglu(plain), rtol=1e-5, atol=1e-5)
        assert torch.equal(layer.product(x, residual=residual), plain + residual)
    x[5, 5] = float("nan")
    assert layer.product(x, norm=norm).isnan().any(1).nonzero().tolist() == [[5]]


@pytest.fixture(params=[32, 16])
def floating(request: pytest.FixtureRequest) -> Iterator[tuple[native.Kernels, int]]:
    """The kernels, and bits that they have a product of floats in."""
    found = native.kernels()
    if found is None or (request.param == 16 and not found.pairs):
        pytest.skip("no such product here")
    threads = torch.get_num_threads()
    with torch.inference_mode():
        yield found, request.param
    torch.set_num_threads(threads)


# The last is large enough for several threads; rows of 1,024 floats would lie in the same places of a cache.
@pytest.mark.parametrize(
    ("inputs", "outputs"), [(1, 1), (64, 16), (51, 70), (7, 5), (257, 40), (1024, 96), (401, 1100)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_products_of_floats_have_exact_sums(
    floating: tuple[native.Kernels, int], inputs: int, outputs: int, bias: bool
) -> None:
    kernels, bits = floating
    torch.manual_seed(inputs)
    kind = torch.float32 if bits == 32 else torch.bfloat16
    weight, added, most = (torch.randn(*size) for size in ((outputs, inputs), (outputs,), (97, inputs)))
    layer = FloatProduct(kernels, weight, added if bias else None, bits)
    assert torch.equal(layer.plain().float(), weight.to(kind).float())
    exact = most.to(kind).double() @ weight.to(kind).double().T + (added.to(kind).double() if bias else 0)
    for rows in (*range(35), 97):
        torch.set_num_threads(1)
        one = layer(most[:rows].contiguous())
        torch.testing.assert_close(one.double(), exact[:rows], rtol=1e-5, atol=2e-4)
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(layer(most[:rows].contiguous()), one)
    for i in range(0, 97, 12):  # whatever the company
        assert torch.equal(layer(most[i : i + 1].contiguous())[0], one[i])


@pytest.mark.parametrize("bits", [8, 4, 32, 16])
@pytest.mark.parametrize("outputs", [1, 50, 1000])
def test_the_largest_output_is_found_without_the_others(kernels: native.Kernels, bits: int, outputs: int) -> None:
    if bits == 16 and not kernels.pairs:
        pytest.skip("no such product here")
    torch.manual_seed(outputs)
    weight, bias, norm = torch.randn(outputs, 96).round(decimals=1), torch.randn(outputs), (torch.rand(96), 1e-5)
    weight[outputs // 2 :] = weight[: outputs - outputs // 2]  # of equals the first is taken
    bias[outputs // 2 :] = bias[: outputs - outputs // 2]
    made = (
        FloatProduct(kernels, weight, bias, bits)
        if bits > 8
        else PackedProduct(kernels, round_weight(weight, bits), bias)
    )
    for rows in (0, 1, 5, 13, 40, 130):
        x = torch.randn(rows, 96)
        x[rows // 2 : rows // 2 + 1, 3] = float("nan")
        expected = made(x, norm=norm)
        places = expected.argmax(1).masked_fill(~expected.isfinite().all(1), -1) if rows else torch.empty(0)
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert made.largest(x, norm).tolist() == places.tolist()
    with pytest.raises(ValueError, match="packed_largest"):
        made.largest(torch.randn(3, 95), norm)


# More rows than the second cache holds, with few panels and with many.
@pytest.mark.parametrize(("inputs", "outputs"), [(1030, 200), (3000, 70), (40, 1500)])
def test_products_of_floats_have_exact_sums_of_many_rows(
    floating: tuple[native.Kernels, int], inputs: int, outputs: int
) -> None:
    kernels, bits = floating
    torch.manual_seed(inputs)
    kind = torch.float32 if bits == 32 else torch.bfloat16
    weight, most, norm = torch.randn(outputs, inputs), torch.randn(601, inputs), (torch.rand(inputs), 1e-5)
    layer, pairs = (FloatProduct(kernels, weight, None, bits) for _ in range(2))
    pairs.pair()
    exact = (most.to(kind).double() @ weight.to(kind).double().T).float()
    for rows in (256, 601):
        x, residual = most[:rows].contiguous(), torch.randn(rows, outputs)
        one = layer(x)
        torch.testing.assert_close(one, exact[:rows], rtol=1e-5, atol=1e-3)
        assert torch.equal(pairs(x, residual=residual), one + residual)
        gated = pairs(x, norm=norm, gated=True)
        for part in (slice(0, 1), slice(rows - 40, rows - 3)):
            assert torch.equal(layer(x[part].contiguous()), one[part])
            assert torch.equal(pairs(x[part].contiguous(), norm=norm, gated=True), gated[part])


def test_broken_floats_stay_in_their_row(floating: tuple[native.Kernels, int]) -> None:
    kernels, bits = floating
    layer, x = FloatProduct(kernels, torch.randn(70, 51), None, bits), torch.randn(40, 51)
    whole = layer(x)
    x[17, 50], x[33, 3], x[39, 0] = float("nan"), float("inf"), 3e38
    broken, others = layer(x), [i for i in range(40) if i not in (17, 33, 39)]
    assert broken[17].isnan().all() and not broken[33].isfinite().any()
    assert torch.equal(broken[others], whole[others])


@pytest.mark.parametrize("outputs", [10, 50, 128])
def test_floats_have_norms_gates_and_residuals_on_the_way(floating: tuple[native.Kernels, int], outputs: int) -> None:
    kernels, bits = floating
    weight, added, norm = torch.randn(outputs, 96), torch.randn(outputs), (torch.randn(96), 1e-5)
    layer, pairs = (FloatProduct(kernels, weight, added, bits) for _ in range(2))
    pairs.pair()
    for rows in (1, 9, 40):
        x, residual = torch.randn(rows, 96), torch.randn(rows, outputs)
        plain = layer(x)
        assert torch.equal(pairs.plain(), layer.plain()) and torch.equal(pairs(x), plain)
        assert torch.equal(pairs(x, residual=residual), plain + residual)
        assert torch.equal(layer(x, norm=norm), layer(kernels.rms_norm(x, *norm)))
        torch.testing.assert_close(pairs(x, gated=True), kernels.swiglu(plain), rtol=1e-5, atol=1e-5)
    x[5, 5] = float("nan")
    for broken in (layer(x, norm=norm), pairs(x, gated=True)):
        assert broken.isnan().any(1).nonzero().tolist() == [[5]]


def test_onednn_gives_the_same(kernels: native.Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    plain, x = torch.nn.Linear(72, 40), torch.randn(2, 3, 72)
    own = linear.Int8Linear(plain)
    monkeypatch.setattr(kernels, "panel", 0)
    other = linear.Int8Linear(plain)
    assert isinstance(own.product, PackedProduct) and isinstance(other.product, linear.OneDnnProduct)
    torch.testing.assert_close(own(x), other(x), rtol=0, atol=0.02)  # whose weights have a step for each output
    assert own(x).shape == (2, 3, 40)
    uneven = torch.randn(3, 144)[:, ::2]
    torch.testing.assert_close(own(uneven), own(uneven.contiguous()), rtol=0, atol=0)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="a flag of that processor")
def test_a_processor_without_it_keeps_the_other_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if native.kernels() is None:
        pytest.skip("no native kernels here")
    monkeypatch.setattr(building, "_folder", lambda: tmp_path)
    quick_build(monkeypatch, "-mno-avx512vnni")
    native.forget()
    try:
        without = native.kernels()
        assert without is not None and without.panel == 0
    finally:
        native.forget()


@pytest.mark.parametrize("kind", ["qwen3", "qwen3-wide", "llama", "mistral"])
@pytest.mark.parametrize("precision", ["int8", "fp32", "bf16"])
def test_whole_layers_give_what_their_modules_give(
    kernels: native.Kernels, models: Any, kind: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in one call and layer by layer to the last bit; module by module but for rounding."""
    monkeypatch.setattr(linear, "fastest", lambda: linear.FloatLinear)
    monkeypatch.setattr(bf16, "fastest", lambda: bf16.PairedLinear)
    if precision == "bf16" and not (kernels.pairs and bf16.has_bf16()):
        pytest.skip("this processor does not multiply bf16")

    def logits() -> Any:
        model = load(models(kind), precision).model
        names = [getattr(m.__dict__.get("forward"), "__qualname__", "") for m in model.modules()]
        runner = NativePackedRunner(model, 4, step_tokens=64)
        rows = [
            Sequence(
                str(i), [5, 9, 300, 17, 4, 4, 8, 120, 33] * 4 + [i] * i, SamplingOptions(), 4, Detokenizer(None, [])
            )
            for i in range(1, 4)
        ]
        for row in rows[1:]:  # so that they share what they begin with
            runner.register(row)
        found = [runner.prefill(rows)]
        for row in rows:
            row.tokens.append(7)
        found.append(runner.decode())
        assert runner.prefixes is not None and runner.prefixes.computed
        return sum("Stack" in name for name in names), sum("_layer" in name for name in names), torch.cat(found)

    stacked, _, ours = logits()
    assert stacked == 3
    monkeypatch.setattr(Stack, "of", lambda layers: None)
    stacked, changed, layered = logits()
    assert (stacked, changed) == (0, 3)
    assert torch.equal(layered, ours)
    monkeypatch.setattr(fused, "_parts", lambda *arguments: None)
    _, unchanged, theirs = logits()
    assert unchanged == 0
    slack = 1e-5 if precision == "fp32" else 0.01
    torch.testing.assert_close(ours, theirs, rtol=0, atol=float(slack * theirs.abs().max()))


@pytest.mark.parametrize(("slow", "kind"), [(linear.TURNS * 4, linear.FloatLinear), (10**6, linear.PackedLinear)])
def test_a_product_of_ours_is_passed_over_only_where_it_stays_slower(monkeypatch, slow, kind):
    if native.kernels() is None:
        pytest.skip(native.why_not())
    seen = {"ours": 0}

    def took(layer, x):
        if not isinstance(layer, linear.FloatLinear):
            return 1.0 if isinstance(layer, linear.PackedLinear) else 2.0
        seen["ours"] += 1
        return 3.0 if seen["ours"] <= slow else 1.0  # first others have its turns

    monkeypatch.setattr(linear, "took", took)
    assert linear.fastest() is kind


@pytest.mark.parametrize(("slow", "kind"), [(linear.TURNS * 4, bf16.PairedLinear), (10**6, bf16.Bf16Linear)])
def test_a_product_of_bf16_is_passed_over_only_where_it_stays_slower(
    kernels: native.Kernels, monkeypatch: pytest.MonkeyPatch, slow: int, kind: type[torch.nn.Module]
) -> None:
    if not kernels.pairs or not bf16.has_bf16():
        pytest.skip("this processor does not multiply bf16")
    seen = {"ours": 0}

    def took(layer: torch.nn.Module, x: torch.Tensor) -> float:
        if isinstance(layer, bf16.Bf16Linear):
            return 1.0
        seen["ours"] += 1
        return 3.0 if seen["ours"] <= slow else 0.9  # first others have its turns

    monkeypatch.setattr(linear, "took", took)
    assert bf16.fastest() is kind
