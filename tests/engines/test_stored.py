"""Weights as files have them: the numbers of ggml's own blocks, and straight into the panels of products."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy
import pytest

torch = pytest.importorskip("torch")
gguf = pytest.importorskip("gguf")
pytest.importorskip("transformers")

from batch.engines.gguf.header import GgufTensor  # noqa: E402
from batch.engines.gguf.types import TENSOR_TYPES  # noqa: E402
from batch.engines.torch import bf16, gguf_file, linear, native, stored  # noqa: E402
from batch.engines.torch.gemm import FloatProduct  # noqa: E402
from batch.engines.torch.lean import panels, weights  # noqa: E402
from tests.engines import gguf_files  # noqa: E402

KINDS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}
READ = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
OTHERS = ("F64", "Q2_K", "Q3_K", "IQ4_NL", "MXFP4")


def quick() -> Any:
    found = native.kernels()
    if found is None:
        pytest.skip("no native kernels here")
    return found


def alike(one: Any, other: Any) -> bool:
    """To the last bit; what is not a number in both."""
    one, other = one.contiguous(), torch.as_tensor(other).contiguous()
    same = one.view(torch.int32) == other.view(torch.int32)
    return bool((same | (one.isnan() & other.isnan())).all())


def tensor(folder: Path, kind: str, rows: int, inputs: int, *, small: bool = False) -> stored.Stored:
    """One of any bytes at all; `small`: without scales that are not numbers."""
    _, size, width = TENSOR_TYPES[KINDS[kind]]
    draw = numpy.random.default_rng(len(kind) + rows)
    raw = draw.integers(0, 256, rows * inputs // size * width, dtype=numpy.uint8)
    if small:  # halves of a float below 2, wherever they may lie
        raw &= 0xBF
    file = folder / f"{kind}-{rows}"
    file.write_bytes(bytes(7) + raw.tobytes())
    return stored.of_gguf(GgufTensor("t", (rows, inputs), KINDS[kind], 7, len(raw), file))


@pytest.mark.parametrize("kind", [*READ, *OTHERS])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_are_those_of_the_gguf_library_to_the_last_bit(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bool(quick().stored_block(KINDS[kind])) is (kind in READ)
    own = tensor(tmp_path, kind, 9, 512)
    raw = own.raw()
    if kind == "F64":
        exact = raw.view("<f8").astype(numpy.float32)
    else:
        exact = gguf.dequantize(raw, gguf.GGMLQuantizationType(KINDS[kind])).astype(numpy.float32)
    assert alike(own.floats(), exact) and alike(own.floats(slice(3, 8)), exact[3:8])
    turned = stored.Stored(own.file, own.offset, own.type, own.shape, numpy.arange(9)[::-1].copy())
    assert alike(turned.floats(), exact[::-1].copy())
    monkeypatch.setattr(stored, "kernels", lambda: None)
    assert alike(own.floats(), exact) and alike(turned.floats(slice(2, 5)), exact[::-1][2:5].copy())


@pytest.mark.parametrize("bits", [32, 16])
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("kinds", [("F32", "F16", "BF16"), ("Q4_1", "Q8_0", "Q6_K"), ("Q4_0", "IQ4_NL", "F64")])
def test_parts_of_a_product_lie_in_its_panels_as_if_they_had_been_packed(
    bits: int, paired: bool, kinds: tuple[str, ...], tmp_path: Path
) -> None:
    kernels = quick()
    if bits == 16 and not kernels.pairs:
        pytest.skip("no product of bfloat16 here")
    inputs = 39 if kinds[0] == "F32" else 256
    parts = [tensor(tmp_path, kind, rows, inputs, small=True) for kind, rows in zip(kinds, (37, 10, 51), strict=True)]
    order = numpy.random.default_rng(3).permutation(parts[1].rows)
    parts[1] = stored.Stored(parts[1].file, parts[1].offset, parts[1].type, parts[1].shape, order)
    whole = torch.cat([part.floats() for part in parts]).nan_to_num(0.5)
    if not all(bool(part.floats().isfinite().all()) for part in parts):
        pytest.skip("bytes that are not numbers")
    bias = torch.randn(len(whole))
    packed = FloatProduct(kernels, whole, bias, bits)
    if paired:
        packed.pair()
    ours = FloatProduct.room(kernels, len(whole), inputs, bits, paired=paired)
    ours.read(parts, bias, torch.empty(ours.nbytes, dtype=torch.uint8))
    assert ours.weight.shape == packed.weight.shape and torch.equal(ours.weight, packed.weight)
    assert torch.equal(ours.bias, packed.bias) and ours.paired is packed.paired
    assert torch.equal(ours.plain(), whole if bits == 32 else whole.to(torch.bfloat16))


@pytest.mark.parametrize("bits", [32, 16])
@pytest.mark.parametrize("name", ["llama", "llama3", "qwen2", "qwen3"])
def test_a_model_is_what_packing_makes_of_it_read_whole(name: str, bits: int, tmp_path: Path) -> None:
    kernels = quick()
    if bits == 16 and not kernels.pairs:
        pytest.skip("no product of bfloat16 here")
    header = gguf_file.open_header(gguf_files.write(tmp_path / "m.gguf", name))
    said = {key: value for key, value in header.values.items() if not key.endswith(".layer_norm_epsilon")}
    header = dataclasses.replace(header, values=said)  # which the writer adds, and no such file has
    source, again = weights.open_gguf(header), weights.open_gguf(header)
    assert source is not None and again is not None
    panels.fill(source, kernels, bits)
    model = again.whole()
    linear.fuse(model)
    linear.pack(model, linear.FloatLinear) if bits == 32 else bf16.narrow(model, bf16.PairedLinear)
    ids = torch.tensor([[5, 9, 300, 41, 7, 100]])
    with torch.inference_mode():
        found = source.model(ids).logits
        assert torch.equal(found, model(ids).logits)
        theirs = gguf_files.model_of(name)(ids, use_cache=False).logits
    assert torch.allclose(found, theirs, rtol=1e-4, atol=1e-4) if bits == 32 else True
    assert not [name for name, value in source.model.named_parameters() if value.device.type == "meta"]


def test_what_does_not_fit_is_read_by_nobody(tmp_path: Path) -> None:
    kernels, own = quick(), tensor(tmp_path, "Q4_1", 9, 512)
    with pytest.raises(ValueError, match="read_stored"):
        stored.gather(own.raw(), own.type, 512, numpy.array([9]))
    with pytest.raises(ValueError, match="read_stored"):
        stored.gather(own.raw(), own.type, 544, numpy.array([0]))
    with pytest.raises(ValueError, match="read_stored"):
        stored.panels(kernels, [own], numpy.arange(9), torch.empty(1, 512, 8, 1))
