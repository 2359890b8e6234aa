"""What int8 costs in quality: the torch engine's int8 layers beside fp32, on the demo model's held-out sets.

python examples/demo_model/precision.py --limit 200

Perplexity of the right answers; the share of an fp32 greedy answer's tokens that int8 picks too, given the same text
before them (agreement), and the share of greedy answers that are the same from end to end.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch

from batch.engines.torch.engine import TorchCore
from batch.engines.torch.loader import Loaded, load
from batch.items import BatchItem, Request
from batch.options import SamplingOptions

HERE = Path(__file__).parent


def answers(loaded: Loaded, rows: list[dict[str, Any]], limit: int = 96) -> tuple[list[list[int]], list[list[int]]]:
    """Prompt tokens and greedy answer tokens of every row."""
    core = TorchCore(loaded, SamplingOptions(max_tokens=limit))
    found: dict[Any, Any] = {}
    take = core._take

    def keep(row: Any, token: int) -> str | None:
        found[row.id] = row
        return take(row, token)

    core._take = keep  # type: ignore[method-assign]
    for i, row in enumerate(rows):
        core.submit(BatchItem(i, Request("", {"messages": row["messages"][:-1]})))
    while core.busy:
        core.step()
    return [found[i].prompt for i in range(len(rows))], [found[i].tokens for i in range(len(rows))]


def logits(loaded: Loaded, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """What the model thinks of each of the answer's tokens: [tokens, vocabulary]."""
    with torch.inference_mode():
        out: torch.Tensor = loaded.model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].float()
    return out


def main() -> None:
    """One line a set."""
    parser = argparse.ArgumentParser(description="Measure what int8 costs in quality.")
    parser.add_argument("--model", type=Path, default=HERE.parents[1] / "ai_router" / "demo")
    parser.add_argument("--limit", type=int, help="rows a set")
    args = parser.parse_args()
    exact, quick = load(args.model, "fp32"), load(args.model, "int8")
    print(f"{'set':<14}{'rows':>6}{'perplexity fp32':>17}{'int8':>8}{'tokens agreeing':>17}{'answers the same':>18}")
    total = agreeing = 0
    for path in sorted((HERE / "held_out").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][: args.limit]
        prompts, first = answers(exact, rows)
        second = answers(quick, rows)[1]
        agree = tokens = right_tokens = 0
        loss = [0.0, 0.0]
        for row, prompt, answer in zip(rows, prompts, first, strict=True):
            agree += int((logits(quick, prompt, answer).argmax(-1) == torch.tensor(answer)).sum())
            tokens += len(answer)
            right = exact.tokenizer(row["messages"][-1]["content"], add_special_tokens=False)["input_ids"]
            right_tokens += len(right)
            for which, loaded in enumerate((exact, quick)):
                found = logits(loaded, prompt, right)
                loss[which] += float(torch.nn.functional.cross_entropy(found, torch.tensor(right), reduction="sum"))
        same = sum(a == b for a, b in zip(first, second, strict=True))
        ppl = [math.exp(value / right_tokens) for value in loss]
        print(
            f"{path.stem:<14}{len(rows):>6}{ppl[0]:>17.4f}{ppl[1]:>8.4f}{agree / tokens:>17.2%}"
            f"{same / len(rows):>18.1%}",
            flush=True,
        )
        total, agreeing = total + tokens, agreeing + agree
    print(f"all: {agreeing / total:.2%} of {total:,} tokens agree")


if __name__ == "__main__":
    main()
