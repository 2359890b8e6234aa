"""Long contexts with the usual cache and with one in int8: python -m benchmarks.kv_cache FILE.gguf.

Rows of long prompts that all decode: output tokens a second from the step on in which the last prompt is in, the
seconds of all prompts before that, the most memory of the process, and how many tokens a GiB of cache holds. Each way
runs in a process of its own, in turn, `--rounds` times; ratios are of medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from pathlib import Path
from statistics import median
from typing import Any

from batch.engines.local.process import worker_env
from benchmarks.common import in_process
from benchmarks.fidelity_texts import held_out

MODES = ("auto", "int8")


def decoding(file: str, precision: str, kv: str, rows: int, tokens: int, answer: int) -> dict[str, float]:
    """What one way takes."""
    from batch.engines.torch.engine import open_core
    from batch.engines.torch.packed import decodes
    from batch.items import BatchItem, Request
    from batch.options import SamplingOptions

    sampling = SamplingOptions(temperature=0, max_tokens=answer)
    core = open_core({"path": file, "precision": precision, "kv_cache": kv}, sampling, rows)
    core._intake._end_ids = frozenset()  # no row ends before the last one has begun
    words = held_out()
    per_token = len(words[:20_000]) / len(core._loaded.tokenizer(words[:20_000])["input_ids"])
    length = int(tokens * per_token)
    for i in range(rows):
        text = words[i * 5000 :][:length]
        core.submit(BatchItem(i, Request(text, {"params": {"max_tokens": answer + tokens}})))
    began = time.perf_counter()
    while not (core._runner.rows and all(map(decodes, core._runner.rows)) and len(core._runner.rows) == rows):
        core.step()
    filled = time.perf_counter()
    context = sum(row.filled for row in core._runner.rows) / rows
    for _ in range(answer):
        core.step()
    seconds = time.perf_counter() - filled
    return {
        "rate": rows * answer / seconds,
        "prompts": filled - began,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "token": core._runner.bytes_per_token,
        "context": context,
    }


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=2000, help="of a prompt, about")
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    os.environ.update(worker_env(None))
    found: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    for _ in range(args.rounds):
        for mode in MODES:
            asked = (str(args.file), args.precision, mode, args.rows, args.tokens, args.answer)
            found[mode].append(in_process(decoding, *asked))
    usual = {name: median(each[name] for each in found["auto"]) for name in found["auto"][0]}
    for mode, each in found.items():
        own = {name: median(one[name] for one in each) for name in usual}
        print(
            f"{args.precision}, kv_cache {mode}, {args.rows} rows of {own['context']:,.0f} tokens: "
            f"{own['rate']:,.0f} tokens/s decoding ({own['rate'] / usual['rate']:.2f} ×), "
            f"prompts {own['prompts']:.1f} s ({own['prompts'] / usual['prompts']:.2f} ×), "
            f"{own['peak']:,.0f} MB at most, {own['token']:,} bytes a token, {2**30 // own['token']:,} tokens a GiB"
        )


if __name__ == "__main__":
    main()
