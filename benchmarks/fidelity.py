"""What a precision costs in quality: python -m benchmarks.fidelity --model FOLDER [--precision int8 …] [--tokens 2000].

Beside the same model in fp32: perplexity of texts (this project's own documents and code, and the trial's languages),
mean KL divergence, the share of likeliest tokens that are the same, and how much of a greedy answer is common from its
beginning (an answer's own tokens are given, so the first other choice ends it).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = ("What is a stack?", "Name three rivers.", "Explain photosynthesis.", "Write a haiku.", "Was ist ein Kran?")
WINDOW = 320  # tokens of a text that are run together


def main() -> None:
    """Print a line for each precision."""
    from batch.engines.torch import precision
    from batch.engines.torch.loader import load

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--precision", nargs="+", default=["int8"])
    parser.add_argument("--tokens", type=int, default=50_000, help="of texts, at most")
    parser.add_argument("--answer", type=int, default=48, help="tokens of an answer")
    args = parser.parse_args()
    exact = load(args.model, "fp32", "cpu")
    files = [*sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("batch/**/*.py"))]
    text = precision.TRIAL + "".join(path.read_text(encoding="utf-8") for path in files)
    ids = exact.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][: args.tokens]
    texts = [ids[i : i + WINDOW] for i in range(0, len(ids) - 1, WINDOW)]
    prompts = [exact.tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    answers = [_greedy(exact.model, prompt, args.answer) for prompt in prompts]
    print(f"{len(ids):,} tokens of texts, {len(answers)} answers of {args.answer}; beside fp32:")
    for name in args.precision:
        _compare(
            name, exact.model, load(args.model, name, "cpu").model, texts, list(zip(prompts, answers, strict=True))
        )


def _compare(name: str, exact: Any, other: Any, texts: list[list[int]], answers: list[Any]) -> None:
    import torch
    from torch.nn import functional as F

    from batch.engines.torch.trial import agreement, divergence

    sums, count = [0.0] * 4, 0
    for ids in texts:
        ours, theirs = _logits(other, ids), _logits(exact, ids)
        wanted = torch.tensor(ids[1:])
        losses = [float(F.cross_entropy(x[:-1], wanted, reduction="sum")) if ids[1:] else 0.0 for x in (ours, theirs)]
        found = (*losses, divergence(theirs, ours) * len(ids), agreement(theirs, ours) * len(ids))
        sums, count = [a + b for a, b in zip(sums, found, strict=True)], count + len(ids)
    shares = []
    for prompt, answer in answers:
        chosen = _logits(other, prompt + answer)[len(prompt) - 1 : -1].argmax(-1).tolist()
        same = next((i for i, (a, b) in enumerate(zip(chosen, answer, strict=True)) if a != b), len(answer))
        shares.append(same / len(answer))
    print(
        f"{name}: perplexity ×{math.exp((sums[0] - sums[1]) / max(count - len(texts), 1)):.4f}, "
        f"KL {sums[2] / count:.5f}, {sums[3] / count:.1%} of tokens the same, "
        f"common beginning {sum(shares) / len(shares):.0%} of an answer"
    )


def _logits(model: Any, ids: list[int]) -> Any:
    import torch

    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def _greedy(model: Any, prompt: list[int], tokens: int) -> list[int]:
    found: list[int] = []
    for _ in range(tokens):
        found.append(int(_logits(model, prompt + found)[-1].argmax()))
    return found


if __name__ == "__main__":
    main()
