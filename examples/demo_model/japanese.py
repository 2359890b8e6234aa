"""Generator of Japanese sentences with one named grammar error each, and their corrections.

Every row is drawn from a seed. A row belongs to the split its correct sentence hashes to, so no correct
sentence of one split appears in another, whatever the seed and count.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Iterator

from japanese_frames import FRAMES, Pair, voice_clause

SYSTEM = "あなたは日本語の文法修正を専門とするAIアシスタントです。"
PROMPTS: tuple[tuple[str, float], ...] = (
    ("Please correct the grammar in the following Japanese sentence: {text}", 3.0),
    ("次の日本語文を文法的に正しく修正してください：{text}", 3.0),
    ("[FIX] {text}", 2.0),
    ("Correct this Japanese sentence: {text}", 2.0),
    ("Correct the grammar of the following Japanese sentence.\n{text}", 1.0),
    ("Please correct the following Japanese sentence:\n{text}", 1.0),
    ("Fix the grammar: {text}", 1.0),
    ("次の文の文法を直してください：{text}", 1.0),
    ("次の文を修正してください。\n{text}", 1.0),
    ("文法を修正してください: {text}", 1.0),
)


# Error types the demo model is not trained on: drawn only where `error_type` asks for them.
KEPT_BACK = ("causative", "passive")
CORRECT_SHARE = 0.12


def split_of(right: str) -> str:
    """The split a correct sentence belongs to: "test" (6 %), "valid" (4 %) or "train"."""
    bucket = int.from_bytes(hashlib.sha256(right.encode()).digest()[:4], "big") % 100
    return "test" if bucket < 6 else "valid" if bucket < 10 else "train"


def pairs(seed: int, split: str, error_type: str | None = None) -> Iterator[Pair]:
    """An endless stream of pairs of one split, optionally of one error type."""
    rng = random.Random(f"japanese-{split}-{seed}")
    frames, weights = [f for f, _ in FRAMES], [w for _, w in FRAMES]
    if error_type in KEPT_BACK:
        frames, weights = [voice_clause], [1.0]
    while True:
        pair = rng.choices(frames, weights)[0](rng)
        if rng.random() < CORRECT_SHARE:
            pair = Pair(pair.right, pair.right, "none")
        elif pair.wrong == pair.right:
            continue
        if split_of(pair.right) == split and error_type in (None, pair.error_type):
            yield pair


def row(pair: Pair, rng: random.Random) -> dict[str, object]:
    """One chat row in one of the prompt forms, with the error type as metadata."""
    prompt = rng.choices([p for p, _ in PROMPTS], [w for _, w in PROMPTS])[0]
    messages = [{"role": "system", "content": SYSTEM}] if rng.random() < 0.4 else []
    bare = rng.random() < 0.08  # both without the full stop
    messages.append({"role": "user", "content": prompt.format(text=pair.wrong[:-1] if bare else pair.wrong)})
    messages.append({"role": "assistant", "content": pair.right[:-1] if bare else pair.right})
    return {"messages": messages, "error_type": pair.error_type}


def rows(seed: int, count: int, split: str, error_type: str | None = None) -> list[dict[str, object]]:
    """`count` rows of one split with distinct sentences, the same for the same arguments."""
    rng = random.Random(f"japanese-rows-{split}-{seed}")
    seen: set[str] = set()
    found: list[dict[str, object]] = []
    for pair in pairs(seed, split, error_type):
        if len(found) >= count:
            break
        if pair.wrong not in seen:
            seen.add(pair.wrong)
            found.append(row(pair, rng))
    return found


def main() -> None:
    """Write one split as JSON lines to standard output."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--split", choices=("train", "valid", "test"), default="train")
    parser.add_argument("--error-type", help="only this error type, e.g. counter")
    args = parser.parse_args()
    for item in rows(args.seed, args.count, args.split, args.error_type):
        print(json.dumps(item, ensure_ascii=False))


if __name__ == "__main__":
    main()
