"""Guesses at next tokens, with and without them in turn: python -m benchmarks.lookup MODEL [--precision P].

In one process, pair by pair: the same requests with guesses (prompt lookup) and without, whichever is first changing
from pair to pair. At full width all rows decode at once, as many as the engine takes, to lengths drawn by a seed, so
that the last few are alone at the end; alone is one request that asks for its text to be repeated. What is printed is
how many times as fast it is with guesses: the median of the pairs and the least and most of them, by the clock and by
processor time, which other work beside changes little.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from typing import Any

from batch.engines.local.process import worker_env
from benchmarks.fidelity import prompts

TEXT = (
    "The committee met on Tuesday and agreed on four points. First, the archive stays where it is. Second, the index "
    "is printed again. Third, the reading room opens at nine. Fourth, nobody may take a folder home."
)


def works(width: int) -> dict[str, list[tuple[str, int]]]:
    """Texts and the tokens of their answers."""
    rng, asked = random.Random(6), prompts()
    wide = [(asked[i % len(asked)] + "!" * (i // len(asked)), rng.randint(24, 96)) for i in range(width)]
    return {"full width": wide, "alone": [(f"Repeat this text word by word, twice: {TEXT}", 96)]}


def run(core: Any, work: list[tuple[str, int]]) -> tuple[float, float]:
    """Seconds by the clock and of processor time."""
    from batch.items import BatchItem, Request

    began, busy = time.perf_counter(), time.process_time()
    for i, (text, tokens) in enumerate(work):
        core.submit(BatchItem(i, Request(text, {"params": {"max_tokens": tokens}})))
    while core.busy:
        for response in core.step():
            assert response.error is None, response.error
    return time.perf_counter() - began, time.process_time() - busy


def main() -> None:
    """Print a line for each work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--rows", type=int, default=64, help="of full width")
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    os.environ.update(worker_env(None))
    from batch.engines.torch import lookup
    from batch.engines.torch.engine import open_core
    from batch.options import SamplingOptions

    core = open_core({"path": args.model, "precision": args.precision}, SamplingOptions(temperature=0), args.rows)
    core._intake._end_ids = frozenset()  # lengths are fixed
    most = lookup.MOST_ROWS
    for name, work in works(args.rows).items():
        run(core, work)  # memory is taken, shared prefixes are known
        ratios: list[tuple[float, float]] = []
        for pair in range(args.pairs):
            took = {}
            for guesses in (True, False) if pair % 2 else (False, True):
                lookup.MOST_ROWS = most if guesses else 0
                took[guesses] = run(core, work)
            ratios.append((took[False][0] / took[True][0], took[False][1] / took[True][1]))
        said = [
            f"{statistics.median(part):.3f} ({min(part):.3f}–{max(part):.3f}) {unit}"
            for part, unit in zip(zip(*ratios, strict=True), ("by the clock", "in processor time"), strict=True)
        ]
        print(f"{name}, {len(work)} requests, {args.precision}: × {', × '.join(said)}", flush=True)


if __name__ == "__main__":
    main()
