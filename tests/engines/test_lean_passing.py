"""A model put into fewer bits while it is read: as if it had been read whole first, and judged in the same words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch

from batch.engines.torch import bf16, gemm, int4, linear, loader, native, precision, shelf
from batch.engines.torch.lean import passing, weights
from batch.engines.torch.lean.model import LeanModel
from batch.errors import FatalError

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "ai_router" / "demo"
IDS = torch.tensor([[5, 17, 300, 4, 99, 12, 7]])


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return loader.load(DEMO, "fp32").tokenizer


def whole() -> LeanModel:
    source = weights.open_folder(DEMO)
    assert source is not None
    model = source.whole()
    linear.fuse(model)
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(IDS).logits
    return found


@pytest.mark.parametrize("part", [passing.PART, 100_000])
@pytest.mark.parametrize(("name", "has"), [("int8", linear.has_int8), ("int4", int4.has_int4), ("bf16", bf16.has_bf16)])
def test_it_is_the_model_that_was_read_whole_and_costs_what_that_one_costs(
    name: str, has: Any, part: int, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has():
        pytest.skip(f"no {name} product here")
    monkeypatch.setattr(passing, "PART", part)  # of the head
    # Which product of bf16 is taken is a matter of their speed.
    ours = (quick := native.kernels()) is not None and quick.pairs
    monkeypatch.setattr(bf16, "fastest", lambda: bf16.PairedLinear if ours else bf16.Bf16Linear)
    source = weights.open_folder(DEMO)
    assert source is not None
    found = precision.in_passing(source, tokenizer, name, "")
    model = whole()
    assert found == (name, precision.apply_told(model, tokenizer, name, "cpu"))
    assert torch.equal(logits(source.model), logits(model))


def test_auto_takes_it_where_it_costs_little_and_what_is_known_is_not_measured(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not linear.has_int8():
        pytest.skip("no int8 product here")

    def settled(known: str = "") -> tuple[str, str] | None:
        source = weights.open_folder(DEMO)
        assert source is not None
        return precision.in_passing(source, tokenizer, "auto", known)

    assert settled() is None  # a small model stays as it is
    monkeypatch.setattr(precision, "LARGE", 1_000_000)
    monkeypatch.setattr(precision, "_int8_in_hardware", lambda: True)
    found = settled()
    assert found is not None and found[0] == "int8" and found[1].startswith("int8 by auto: 9")
    monkeypatch.setattr(precision, "MOST_DIVERGENCE", 0.0)
    assert settled() is None
    monkeypatch.setattr(passing, "_Costs", lambda *arguments: pytest.fail("it was measured"))
    assert settled("as before") == ("int8", "as before")


def test_no_more_than_a_layer_is_there_in_floats() -> None:
    source = weights.open_folder(DEMO)
    assert source is not None
    seen: list[int] = []

    def narrow(part: Any) -> None:
        seen.append(
            sum(
                type(module) is torch.nn.Linear and module.weight.device.type == "cpu"
                for module in source.model.model.layers.modules()
            )
        )
        linear.pack(part)

    assert passing.change(source, narrow) is None
    layers = len(source.model.model.layers)
    assert set(seen[:layers]) == {4} and set(seen[layers:]) == {0}  # which are of the head


def test_a_precision_that_this_machine_has_not_is_refused(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "has_int8", lambda: False)
    monkeypatch.setattr(shelf, "folder", lambda: None)  # what an earlier start kept was packed where it could be
    with pytest.raises(FatalError, match="int8 needs a CPU"):
        loader.load(DEMO, "int8")


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_rounded_in_parts_are_those_rounded_together(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = torch.randn(37, 64, generator=torch.Generator().manual_seed(bits))
    together = gemm.round_weight(numbers, bits)
    monkeypatch.setattr(gemm, "TOGETHER", 10)
    parts = gemm.round_weight(numbers, bits)
    for name in ("q", "steps", "least", "scale"):
        one, other = getattr(together, name), getattr(parts, name)
        assert one is other is None or torch.equal(one, other)


HOLES = """
import os
from batch.engines.local import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

bytearray(30 * 2**20)  # after which pieces of a MB are taken from what is kept
with memory.given_back():
    pieces = [bytearray(2**20) for _ in range(64)]
    before = resident()
    pieces[::2] = [None] * 32
    print("nothing" if memory._glibc() is None else round(before - resident()))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_memory_with_holes_is_given_back_while_a_model_is_read() -> None:
    command = [sys.executable, "-c", HOLES]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=300)
    assert done.stdout.strip() in ("nothing", *map(str, range(28, 37))), done.stdout
