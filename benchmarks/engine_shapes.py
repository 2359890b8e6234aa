"""One shape of a model beside its neighbours: python -m benchmarks.engine_shapes [--precision P …] [--axis NAME …].

Each axis changes one thing of a small body with random weights: query heads of a key, sizes of heads, hidden sizes, the
vocabulary, experts, rows. What is printed of a shape is the work that its products and its attention need, to the
machine's best products in that precision, both by processor time, which keeps its meaning where others are at work:
while so many rows decode, over a pass with a prompt beside them, as a batch takes prompts in, and over a prompt alone.
A shape below 70 % of the greater of its neighbours is marked. Few rows wait for memory, so that there the share grows
with their number, and only what falls below the fewer ones before is badly done. A prompt alone has one row for the
head, whose weights are all read for it: that waits for memory, the more the larger the vocabulary is, whatever the
products can do, and so it is told and not marked.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from batch.engines.local.process import worker_env
from benchmarks import engine_peers as peers
from benchmarks.common import in_process
from benchmarks.engine_work import SPECIAL, Size, make_model

LEAST = 0.7  # of the greater neighbour
ROWS, CONTEXT, STEPS = 64, 64, 16  # that decode, tokens of each prompt, and steps that are timed
LONG = 256  # tokens of a prompt
PARTS, MARKED = ("decode", "beside", "prompt"), 2  # what is told of a shape; those of them that are judged
BODY = {
    "vocab_size": 8_192,
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
}


class Shape(NamedTuple):
    """One that is measured; `changes` to the body."""

    name: str
    changes: dict[str, int]
    rows: int = ROWS


def _heads(heads: int, kv_heads: int, size: int = 64) -> dict[str, int]:
    return {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": size}


# Neighbours stand side by side.
AXES: dict[str, list[Shape]] = {
    "group": [
        Shape("1", _heads(16, 16)),
        Shape("2", _heads(16, 8)),
        Shape("3", _heads(15, 5)),
        Shape("4", _heads(16, 4)),
        Shape("5", _heads(15, 3)),
        Shape("7", _heads(14, 2)),
        Shape("8", _heads(16, 2)),
    ],
    "head": [
        Shape("64", _heads(16, 4, 64)),
        Shape("80", _heads(12, 4, 80)),
        Shape("96", _heads(12, 4, 96)),
        Shape("128", _heads(8, 2, 128)),
        Shape("256", _heads(4, 1, 256)),
    ],
    "hidden": [Shape(str(size), {"hidden_size": size}) for size in (960, 1000, 1024, 1048, 1088)],
    "vocabulary": [Shape(f"{size:,}", {"vocab_size": size}) for size in (8_192, 49_152, 150_000, 262_144)],
    "experts": [
        Shape("none", {"intermediate_size": 1024}),
        Shape("2 of 8", {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 512}),
        Shape("4 of 32", {"num_experts": 32, "num_experts_per_tok": 4, "moe_intermediate_size": 256}),
    ],
    "rows": [Shape(str(rows), {}, rows) for rows in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)],
}


def needed(shape: dict[str, int], tokens: int, logits: int, seen: float) -> float:
    """Operations of so many tokens, of which so many have logits, and which see so many columns each in the mean."""
    queries = shape["head_dim"] * shape["num_attention_heads"]
    keys = shape["head_dim"] * shape["num_key_value_heads"]
    experts = shape.get("num_experts_per_tok", 0)
    inner = experts * shape["moe_intermediate_size"] if experts else shape["intermediate_size"]
    layer = (
        shape["hidden_size"] * (2 * queries + 2 * keys + 3 * inner + shape.get("num_experts", 0)) + 2 * queries * seen
    )
    return 2.0 * (shape["num_hidden_layers"] * layer * tokens + shape["hidden_size"] * shape["vocab_size"] * logits)


def measure(folder: str, shape: dict[str, int], precision: str, rows: int) -> tuple[float, ...]:
    """GFLOP/s of each of `PARTS` with so many rows: of what is needed, by processor time, the quickest pass."""
    import torch

    from batch.engines.torch.engine import open_core
    from batch.engines.torch.sequence import Sequence
    from batch.engines.torch.text import Detokenizer
    from batch.options import SamplingOptions

    rng = random.Random(1)
    core = open_core({"path": folder, "precision": precision}, SamplingOptions(temperature=0), rows + 1)
    runner = core._runner
    if not runner.name.startswith("packed"):
        raise SystemExit(f"{shape}: runs as {runner.name!r}, {core.about.get('notes')}")

    def sequences(count: int, prompt: int) -> list[Sequence]:
        tokens = [[rng.randrange(len(SPECIAL), shape["vocab_size"]) for _ in range(prompt)] for _ in range(count)]
        return [Sequence(i, own, SamplingOptions(), STEPS + 1, Detokenizer(None, [])) for i, own in enumerate(tokens)]

    def timed(work: Callable[[], Any]) -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    with torch.inference_mode():
        prompts = []
        for _ in range(6):
            some = sequences(1, LONG)
            prompts.append(timed(lambda some=some: runner.prefill(some)))  # type: ignore[misc]
            runner.release(some)
        many, steps = sequences(rows, CONTEXT), []
        for first in range(0, rows, 4):
            runner.prefill(many[first : first + 4])
        for _ in range(STEPS):
            for row in many:
                row.tokens.append(rng.randrange(len(SPECIAL), shape["vocab_size"]))
            steps.append(timed(runner.decode))
        beside = []
        for _ in range(6):
            some = sequences(1, LONG)
            for row in many:
                row.tokens.append(rng.randrange(len(SPECIAL), shape["vocab_size"]))
            beside.append(timed(lambda some=some: runner.advance(some)))  # type: ignore[misc]
            if some[0].pending:
                raise SystemExit(f"{shape}: a prompt of {LONG} tokens was not taken in by one pass")
            runner.release(some)
        runner.release(many)
    core.close()
    decode, prompt = needed(shape, rows, rows, CONTEXT + STEPS / 2), needed(shape, LONG, 1, LONG / 2)
    times = min(steps), min(beside), min(prompts)
    return tuple(work / took / 1e9 for work, took in zip((decode, decode + prompt, prompt), times, strict=True))


def measured_all(axes: list[str], precision: str, rounds: int) -> list[list[tuple[float, ...]]]:
    """Of each shape of each axis, in one process after the other kinds of it; the best of its rounds."""
    found = []
    for axis in axes:
        best = [(0.0,) * len(PARTS)] * len(AXES[axis])
        with tempfile.TemporaryDirectory(prefix="ai-router-shapes-") as scratch:
            for _ in range(rounds):
                for i, shape in enumerate(AXES[axis]):
                    whole = {**BODY, **shape.changes}
                    place = "rows" if axis == "rows" else str(i)
                    folder = make_model(Path(scratch) / place, Size(whole, 0, (0, 0)))
                    now = measure(str(folder), whole, precision, shape.rows)
                    best[i] = tuple(map(max, best[i], now))
                    gc.collect()
        found.append(best)
    return found


def beside(shares: list[float], *, grows: bool = False) -> Iterator[float]:
    """Each one as a multiple of its greater neighbour; where shares grow along the axis, of the one before."""
    for i, share in enumerate(shares):
        before, after = shares[max(i - 1, 0) : i], shares[i + 1 : i + 2]
        yield share / max(before or [share] if grows else before + after)


def main() -> int:
    """The table of each precision; 1 where a shape is below its neighbours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", nargs="*", default=["fp32", "int8"])
    parser.add_argument("--axis", nargs="*", choices=sorted(AXES), default=list(AXES))
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="the best of so many is taken")
    args = parser.parse_args()
    os.environ.update(worker_env(None))  # as the program's own worker has it
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    low = [name for precision in args.precision for name in table(precision, args.axis, args.rounds)]
    print(f"\nbelow {LEAST:.0%} of their neighbours: {', '.join(low) or 'none'}")
    return 1 if low else 0


def table(precision: str, axes: list[str], rounds: int) -> list[str]:
    """Print what was measured; the names of shapes below their neighbours."""
    low: list[str] = []
    limit = in_process(peers.gemm_limit)
    found = in_process(measured_all, axes, precision, rounds)
    again = in_process(peers.gemm_limit)
    most = max(limit[_kind(precision)], again[_kind(precision)])
    print(f"\n{precision}: limit {most:,.0f} GFLOP/s; share of it, and to the neighbours'")
    print(f"{'':<24}" + "".join(f"{part:>9}{'':>7}" for part in PARTS))
    for axis, figures in zip(axes, found, strict=True):
        columns = [[figure / most for figure in part] for part in zip(*figures, strict=True)]
        ratios = [list(beside(shares, grows=axis == "rows")) for shares in columns]
        for i, shape in enumerate(AXES[axis]):
            own = [(shares[i], beside_it[i]) for shares, beside_it in zip(columns, ratios, strict=True)]
            said = "".join(f"{share:>9.1%}{ratio:>7.2f}" for share, ratio in own)
            below = min(ratio for _, ratio in own[:MARKED]) < LEAST
            low += [f"{precision}, {axis} {shape.name}"] if below else []
            print(f"{axis + ' ' + shape.name:<24}{said}{'  below its neighbours' if below else ''}", flush=True)
    return low


def _kind(precision: str) -> str:
    """Whose products' limit: bf16's own is not measured, and four bits are multiplied as eight."""
    return "int8_cpu" if precision in ("int8", "int4") else "fp32_cpu"


if __name__ == "__main__":
    sys.exit(main())
