"""Train the categories' weights on prompts/train.txt and measure them on prompts/held_out.txt.

python examples/routing/train_categories.py --write     # without --write it only measures what is in the package

The two files share no family (a way of asking). Temperature and strength of the penalty are chosen by cross-validation
over the families of train.txt; held_out.txt is looked at only for the figures that are printed.
"""

from __future__ import annotations

import argparse
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ai_router.routing import categories
from ai_router.routing.cues import CATEGORIES, by_cues
from ai_router.routing.features import BUCKETS, features

HERE = Path(__file__).parent
BINS = 10
STEPS = 250
RATE = 0.5
Array = Any


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt with its category, family and language."""

    text: str
    category: str
    family: str
    language: str


def read(path: Path) -> list[Prompt]:
    """The prompts of a file; `[category / family]` heads each group."""
    found, category, family = [], "", ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("# "):
            continue
        if head := re.fullmatch(r"\[(\w+) / (.+)\]", line):
            category, family = head[1], head[2]
            continue
        tagged = re.match(r"([a-z]{2})\| ", line)
        text = (line[4:] if tagged else line).replace("\\n", "\n")
        found.append(Prompt(text, category, f"{category} / {family}", tagged[1] if tagged else "en"))
    return found


def matrix(prompts: list[Prompt]) -> Array:
    """A row of features a prompt."""
    rows = np.zeros((len(prompts), BUCKETS), dtype=np.float32)
    for n, prompt in enumerate(prompts):
        buckets, weights = features(prompt.text)
        np.add.at(rows[n], buckets, weights)
    return rows


def softmax(scores: Array) -> Array:
    """Row by row."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def fit(x: Array, y: Array, penalty: float) -> tuple[Array, Array]:
    """Multinomial logistic regression with an L2 penalty, by Adam with full batches."""
    used = np.flatnonzero(np.abs(x).sum(axis=0))
    part = x[:, used]
    weights, bias = np.zeros((len(used), len(CATEGORIES)), np.float32), np.zeros(len(CATEGORIES), np.float32)
    target = np.eye(len(CATEGORIES), dtype=np.float32)[y]
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, STEPS + 1):
        error = (softmax(part @ weights + bias) - target) / len(y)
        slope = part.T @ error + penalty * weights
        first = 0.9 * first + 0.1 * slope
        second = 0.99 * second + 0.01 * slope**2
        rate = RATE * (1 - step / (STEPS + 1))
        weights -= rate * 0.2 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
        bias -= rate * error.sum(axis=0)
    full = np.zeros((x.shape[1], len(CATEGORIES)), np.float32)
    full[used] = weights
    return full, bias


def cross_validated(x: Array, y: Array, families: list[str], penalty: float) -> Array:
    """The scores of each prompt by weights that saw no prompt of its family: five parts, each of whole families."""
    scores = np.zeros((len(y), len(CATEGORIES)), np.float32)
    names = sorted(set(families))
    part_of = {name: n % 5 for n, name in enumerate(names)}
    parts = np.array([part_of[name] for name in families])
    for part in range(5):
        weights, bias = fit(x[parts != part], y[parts != part], penalty)
        scores[parts == part] = x[parts == part] @ weights + bias
    return scores


def log_loss(shares: Array, y: Array) -> float:
    """Mean negative log likelihood."""
    return float(-np.log(np.maximum(shares[np.arange(len(y)), y], 1e-9)).mean())


def macro_f1(said: list[str], right: list[str]) -> dict[str, float]:
    """F1 of each category, and their mean as `all`."""
    scores = {}
    for category in CATEGORIES:
        hits = sum(a == b == category for a, b in zip(said, right, strict=True))
        scores[category] = 2 * hits / max(1, said.count(category) + right.count(category))
    return {**scores, "all": sum(scores.values()) / len(CATEGORIES)}


def calibration_error(stated: list[float], right: list[bool]) -> float:
    """Expected calibration error over ten bins of equal width."""
    at = np.minimum((np.array(stated) * BINS).astype(int), BINS - 1)
    truth, said = np.array(right, float), np.array(stated)
    return float(
        sum(
            abs(truth[at == n].mean() - said[at == n].mean()) * (at == n).mean() for n in range(BINS) if (at == n).any()
        )
    )


def train(prompts: list[Prompt], verbose: bool = True) -> bytes:
    """The weights' file."""
    x, y = matrix(prompts), np.array([CATEGORIES.index(p.category) for p in prompts])
    families = [p.family for p in prompts]
    best = None
    for penalty in (3e-4, 1e-3, 3e-3):
        scores = cross_validated(x, y, families, penalty)
        for temperature in np.linspace(0.4, 2.5, 43):
            loss = log_loss(softmax(scores / temperature), y)
            if best is None or loss < best[0]:
                best = (loss, penalty, temperature, scores)
    assert best is not None
    loss, penalty, temperature, scores = best
    if verbose:
        said = [CATEGORIES[n] for n in scores.argmax(axis=1)]
        f1 = macro_f1(said, [p.category for p in prompts])["all"]
        print(f"cross-validated over families: macro-F1 {f1:.3f}, log loss {loss:.3f}")
        print(f"penalty {penalty:g}, temperature {temperature:.2f}")
        for prompt, guess in zip(prompts, said, strict=True):
            if guess != prompt.category:
                print(f"   {prompt.category:<12}{guess:<12}{prompt.text[:80]!r}")
    weights, bias = fit(x, y, penalty)
    return categories.packed((bias / temperature).tolist(), (weights / temperature).tolist())


def measure(prompts: list[Prompt], *, errors: bool) -> dict[str, float]:
    """Print the figures on these prompts; returns them."""
    categories._weights.cache_clear()
    begin = time.process_time()
    guesses = [categories.category_of(p.text) for p in prompts]
    spent = (time.process_time() - begin) / len(prompts)
    right = [p.category for p in prompts]
    said = [guess.category for guess in guesses]
    scores, baseline = macro_f1(said, right), macro_f1([by_cues(p.text) for p in prompts], right)
    error = calibration_error([g.probability for g in guesses], [a == b for a, b in zip(said, right, strict=True)])
    print(f"{'category':<14}{'prompts':>8}{'F1':>8}{'keywords':>10}")
    for name in (*CATEGORIES, "all"):
        count = len(prompts) if name == "all" else right.count(name)
        print(f"{name:<14}{count:>8}{scores[name]:>8.3f}{baseline[name]:>10.3f}")
    for language in sorted({p.language for p in prompts}):
        own = [a == p.category for a, p in zip(said, prompts, strict=True) if p.language == language]
        print(f"{language:<14}{len(own):>8}{sum(own) / len(own):>8.3f}  right")
    print(f"ECE {error:.3f}; {spent * 1e3:.2f} ms a prompt")
    if errors:
        for prompt, guess in zip(prompts, guesses, strict=True):
            if guess.category != prompt.category:
                print(f"   {prompt.category:<12}{guess.category:<12}{guess.probability:.2f} {prompt.text[:80]!r}")
    return {"macro_f1": scores["all"], "keywords": baseline["all"], "ece": error, "ms": spent * 1e3}


def main() -> None:
    """Train where asked, then measure."""
    parser = argparse.ArgumentParser(description="Train and measure the categories of prompts.")
    parser.add_argument("--write", action="store_true", help="write the weights into the package")
    parser.add_argument("--errors", action="store_true", help="list what is wrong")
    args = parser.parse_args()
    if args.write:
        categories.WEIGHTS.write_bytes(train(read(HERE / "prompts" / "train.txt"), args.errors))
    measure(read(HERE / "prompts" / "held_out.txt"), errors=args.errors)


if __name__ == "__main__":
    main()
