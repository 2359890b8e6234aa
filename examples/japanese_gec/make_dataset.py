"""Write data/{train,valid,test}.jsonl: Japanese sentences with one grammar error each, and their corrections.

The sentences come from the generator of the demo model (../demo_model/japanese.py). Half of the rows and more are of
the two error types that model was never trained on, `causative` and `passive`; the others keep what it knows. No
correct sentence of one split appears in another, nor did any of `test` in the demo model's training.

    python examples/japanese_gec/make_dataset.py
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "demo_model"))

import japanese  # noqa: E402
from japanese_frames import Pair  # noqa: E402

SEED = 7
# Rows of each split: the two new types each, right sentences in those forms, and all the types known before.
COUNTS = {"train": (600, 150, 650), "valid": (40, 10, 50), "test": (100, 50, 250)}


def right_sentences(seed: int, split: str) -> Iterator[Pair]:
    """Causative and passive sentences without an error, so that the form alone is no reason to change one."""
    for pair in japanese.pairs(seed + 1, split, "causative"):
        yield Pair(pair.right, pair.right, "none")
        passive = next(japanese.pairs(seed + 1, split, "passive"))
        seed += 1
        yield Pair(passive.right, passive.right, "none")


def rows(split: str, seed: int = SEED) -> list[dict[str, object]]:
    """All rows of one split, in an order that depends on the seed alone."""
    new, right, known = COUNTS[split]
    found = [row for kind in japanese.KEPT_BACK for row in japanese.rows(seed, new, split, kind)]
    rng = random.Random(f"japanese-gec-{split}-{seed}")
    seen: set[str] = set()
    for pair in right_sentences(seed, split):
        if len(seen) >= right:
            break
        if pair.right not in seen:
            seen.add(pair.right)
            found.append(japanese.row(pair, rng))
    found += japanese.rows(seed, known, split)
    rng.shuffle(found)
    return found


def main() -> None:
    """Write the three files."""
    (HERE / "data").mkdir(exist_ok=True)
    for split in COUNTS:
        made = rows(split)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
        (HERE / "data" / f"{split}.jsonl").write_text(lines, encoding="utf-8")
        print(f"{split}: {len(made)} rows")


if __name__ == "__main__":
    main()
