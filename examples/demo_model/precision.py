"""What a precision costs in quality: the torch engine in each beside fp32, on the demo model's held-out sets.

python examples/demo_model/precision.py --limit 200

Perplexity of the right answers; the share of an fp32 greedy answer's tokens that a precision picks too, given the same
text before them (agreement), and the share of greedy answers that are the same from end to end.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from batch.engines.torch.engine import TorchCore
from batch.engines.torch.loader import Loaded, load
from batch.items import BatchItem, Request
from batch.options import SamplingOptions

HERE = Path(__file__).parent


@dataclass
class Figures:
    """Of one precision on one set, or on several together."""

    loss: float = 0.0  # nats, of the right answers' tokens
    right: int = 0  # those tokens
    agreeing: int = 0
    tokens: int = 0  # of fp32's greedy answers
    same: int = 0
    rows: int = 0

    def add(self, other: Figures) -> None:
        """Take another set in."""
        for name in ("loss", "right", "agreeing", "tokens", "same", "rows"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def line(self, name: str, precision: str) -> str:
        """One row of the table."""
        perplexity = math.exp(self.loss / self.right)
        return (
            f"| {name} | {self.rows} | {precision} | {perplexity:.4f} | {self.agreeing / self.tokens:.2%} "
            f"| {self.same / self.rows:.1%} |"
        )


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


def measure(
    loaded: Loaded,
    rows: list[dict[str, Any]],
    prompts: list[list[int]],
    exact: list[list[int]],
    greedy: list[list[int]],
) -> Figures:
    """A precision on one set; `exact` are fp32's greedy answers, `greedy` its own."""
    figures = Figures(rows=len(rows), same=sum(a == b for a, b in zip(exact, greedy, strict=True)))
    for row, prompt, answer in zip(rows, prompts, exact, strict=True):
        figures.agreeing += int((logits(loaded, prompt, answer).argmax(-1) == torch.tensor(answer)).sum())
        figures.tokens += len(answer)
        right = loaded.tokenizer(row["messages"][-1]["content"], add_special_tokens=False)["input_ids"]
        found = logits(loaded, prompt, right)
        figures.right += len(right)
        figures.loss += float(torch.nn.functional.cross_entropy(found, torch.tensor(right), reduction="sum"))
    return figures


def main() -> None:
    """A table in Markdown: a row a set and precision, and one for all sets together."""
    parser = argparse.ArgumentParser(description="Measure what each precision costs in quality.")
    parser.add_argument("--model", type=Path, default=HERE.parents[1] / "ai_router" / "demo")
    parser.add_argument("--precision", action="append", help="one of bf16, fp16, int8, int4 (default: all)")
    parser.add_argument("--limit", type=int, help="rows a set")
    args = parser.parse_args()
    names = ["fp32", *(args.precision or ["bf16", "fp16", "int8", "int4"])]
    models = {name: load(args.model, name) for name in names}
    print("| Set | Rows | Precision | Perplexity | Tokens as in fp32 | Answers as in fp32 |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    whole = {name: Figures() for name in names}
    for path in sorted((HERE / "held_out").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][: args.limit]
        prompts, exact = answers(models["fp32"], rows)
        for name, loaded in models.items():
            greedy = exact if name == "fp32" else answers(loaded, rows)[1]
            figures = measure(loaded, rows, prompts, exact, greedy)
            print(figures.line(path.stem, name), flush=True)
            whole[name].add(figures)
    for name, figures in whole.items():
        print(figures.line("all", name))


if __name__ == "__main__":
    main()
