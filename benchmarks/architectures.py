"""32 chats with a system prompt on random models of an architecture: tokens a second of its runner and of a slower one.

`python -m benchmarks.architectures [--times 4] [--own] NAME ...`; `--own`: prompts that have nothing in common.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers

from batch.engines.torch.rectangle import BatchRunner
from batch.engines.torch.runner import open_runner
from batch.engines.torch.scheduler import Scheduler
from batch.engines.torch.sequence import Sequence
from batch.engines.torch.single import SingleRunner
from batch.engines.torch.text import Detokenizer
from batch.engines.torch.trial import Trial
from batch.options import SamplingOptions
from tests.engines.architectures import make

ROWS = 32
FEW = 4
SYSTEM = 200  # tokens that all prompts begin with
CONTEXT = 512


def rows(share: bool) -> list[Sequence]:
    """Prompts of 204 to 264 tokens, answers of 16 to 48."""
    found = []
    for i in range(ROWS):
        common = [3 + (7 * j * j + j + (0 if share else 31 * i)) % 300 for j in range(SYSTEM)]
        own = [3 + (5 * j * j + 17 * i + j) % 300 for j in range(4 + 61 * i % 60)]
        found.append(Sequence(i, common + own, SamplingOptions(), 16 + 13 * i % 33, Detokenizer(None, [])))
    return found


def run(runner: Any, sequences: list[Sequence]) -> tuple[float, dict[Any, list[int]]]:
    """Seconds, and each row's tokens."""
    began = time.perf_counter()
    scheduler = Scheduler(ROWS, 10**9, footprint=runner.footprint if runner.reckons else None, ragged=runner.ragged)
    for sequence in sequences:
        runner.register(sequence)
        scheduler.add(sequence)
    while len(scheduler):
        done, logits = runner.advance(scheduler.schedule())
        if logits is None:
            continue
        for row, token in zip(done, logits.argmax(-1).tolist(), strict=True):
            row.tokens.append(token)
        ended = [row for row in done if len(row.tokens) >= row.max_tokens]
        runner.release(ended)
        scheduler.finish(ended)
    return time.perf_counter() - began, {row.id: row.tokens for row in sequences}


def slower(model: Any) -> tuple[str, Callable[[], Any]]:
    """A rectangle where that is right for it, else one by one."""
    with contextlib.suppress(Exception):  # each family's own
        if Trial(model).agrees(BatchRunner(model, ROWS), 1e-3):
            return "rectangle", lambda: BatchRunner(model, ROWS)
    return "one by one", lambda: SingleRunner(model)


def measure(name: str, times: int, share: bool, rounds: int) -> str:
    """A line of the table."""
    model = make(name, times=times, max_position_embeddings=CONTEXT)
    with torch.inference_mode():
        runner = open_runner(model, ROWS)
        rates, answers = [], []
        for way, maker in ((runner.name, lambda: runner), slower(model)):
            best, tokens = float("inf"), {}
            for _ in range(rounds):
                # One by one a few rows show the rate of all.
                seconds, tokens = run(maker(), rows(share)[: FEW if way == "one by one" else ROWS])
                best = min(best, seconds)
            rates.append((way, sum(map(len, tokens.values())) / best))
            answers.append(tokens)
    (_, ours), (way, theirs) = rates
    same = sum(answers[0][key] == tokens for key, tokens in answers[1].items())
    size = sum(p.numel() for p in model.parameters()) / 1e6
    shown = f"{runner.name} {ours:,.0f} tokens/s; {way} {theirs:,.0f} ({ours / theirs:.1f} ×)"
    return f"{name} ({size:.1f} M): {shown}; {same} of {len(answers[1])} answers the same"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", help="architectures")
    parser.add_argument("--times", type=int, default=4, help="how many times wider than the smallest")
    parser.add_argument("--own", action="store_true", help="prompts with nothing in common")
    parser.add_argument("--rounds", type=int, default=2, help="of which the best is taken")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    for name in args.names:
        try:
            line = measure(name, args.times, not args.own, args.rounds)
        except Exception as error:  # each family's own
            line = f"{name}: {type(error).__name__}: {error}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
