"""Guesses at next tokens, with and without them in turn: python -m benchmarks.lookup MODEL [--precision P].

In one process, pair by pair: the same requests with guesses (prompt lookup) and without, whichever is first changing
from pair to pair. At full width all rows decode at once, as many as the engine takes, to lengths drawn by a seed, so
that the last few are alone at the end; alone is one request that asks for its text to be repeated.

The steps of a pass are the same ones each time, so that each is taken by the least it took in any pair: what else runs
on the machine holds up a step here and there, but hardly the same one in every pair. Printed is how many times as fast
all steps together are with guesses, the same of every second pair alone (how far these are apart says how sure the
figure is), and of those steps in which more rows run than may guess, where looking is all that guesses cost.
"""

from __future__ import annotations

import argparse
import os
import random
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


def run(core: Any, work: list[tuple[str, int]]) -> list[tuple[float, int]]:
    """Of each step: seconds, and the rows that ran."""
    from batch.items import BatchItem, Request

    for i, (text, tokens) in enumerate(work):
        core.submit(BatchItem(i, Request(text, {"params": {"max_tokens": tokens}})))
    steps = []
    while core.busy:
        began = time.perf_counter()
        responses = core.step()
        steps.append((time.perf_counter() - began, len(core.partial_texts()) + len(responses)))
        assert not any(response.error for response in responses)
    return steps


def least(passes: list[list[tuple[float, int]]], above: int = 0) -> float:
    """Seconds of all steps with more rows than `above`, each by the least that it took in these passes."""
    if len({tuple(rows for _, rows in steps) for steps in passes}) > 1:
        raise SystemExit("the steps of two passes are not the same ones, and cannot be compared")
    return sum(min(took for took, _ in same) for same in zip(*passes, strict=True) if same[0][1] > above)


def main() -> None:
    """Print a line for each work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--rows", type=int, default=64, help="of full width")
    parser.add_argument("--pairs", type=int, default=8)
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
        took: dict[bool, list[list[tuple[float, int]]]] = {True: [], False: []}
        for pair in range(args.pairs):
            for guesses in (True, False) if pair % 2 else (False, True):
                lookup.MOST_ROWS = most if guesses else 0
                took[guesses].append(run(core, work))
        some = [slice(None), slice(0, None, 2), slice(1, None, 2)]
        whole, even, odd = (least(took[False][pairs]) / least(took[True][pairs]) for pairs in some)
        said = f"× {whole:.3f} (of every second pair {even:.3f} and {odd:.3f})"
        if len(work) > most:
            said += f", × {least(took[False], most) / least(took[True], most):.3f} while more than {most} rows run"
        print(f"{name}, {len(work)} requests, {args.precision}, {args.pairs} pairs: {said}", flush=True)


if __name__ == "__main__":
    main()
