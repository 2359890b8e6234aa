"""What kind of task a prompt is, with a calibrated probability: hashed features and a linear softmax, no library.

The weights (`categories.bin`) come from `examples/routing/train_categories.py`, which says how good they are on
prompts of other families than it learned from.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ai_router.routing.cues import CATEGORIES
from ai_router.routing.features import BUCKETS, features

WEIGHTS = Path(__file__).with_name("categories.bin")
UNSURE = 0.40  # below this probability of the likeliest, a prompt is `general`
_HEAD = struct.Struct("<HHf")  # categories, buckets, the size of one step of the weights


@dataclass(frozen=True, slots=True)
class Guess:
    """A category, and how likely it is right (0 to 1, calibrated)."""

    category: str
    probability: float


def category_of(text: str) -> Guess:
    """The category of a prompt; `general` where none is likely."""
    return guess_of(probabilities(text))


def guess_of(shares: Sequence[float]) -> Guess:
    """The category that these probabilities say."""
    best = max(range(len(CATEGORIES)), key=shares.__getitem__)
    if shares[best] < UNSURE:
        best = CATEGORIES.index("general")
    return Guess(CATEGORIES[best], shares[best])


def probabilities(text: str) -> list[float]:
    """Of each of `CATEGORIES`; they add up to 1."""
    return shares_of(features(text))


def shares_of(found: tuple[Sequence[int], Sequence[float]]) -> list[float]:
    """The same of a prompt's `features`."""
    biases, rows, step = _weights()
    scores = [float(bias) for bias in biases]
    for bucket, weight in zip(*found, strict=True):
        for n, value in enumerate(rows[bucket]):
            scores[n] += weight * value
    top = max(scores)
    shares = [math.exp((score - top) * step) for score in scores]
    total = sum(shares)
    return [share / total for share in shares]


@cache
def _weights() -> tuple[Sequence[int], list[Sequence[int]], float]:
    """The biases, a row of weights a bucket, and the size of one step of them. Read once."""
    data = WEIGHTS.read_bytes()
    count, buckets, step = _HEAD.unpack_from(data)
    if (count, buckets) != (len(CATEGORIES), BUCKETS):
        raise ValueError(f"{WEIGHTS.name} was made for other categories or features; train it anew")
    values = array("h")
    values.frombytes(data[_HEAD.size :])
    rows: list[Sequence[int]] = [tuple(values[n : n + count]) for n in range(count, len(values), count)]
    return tuple(values[:count]), rows, float(step)


def packed(biases: Sequence[float], rows: Sequence[Sequence[float]]) -> bytes:
    """Weights as the file has them: 16 bits each, little-endian on every machine this runs on."""
    most = max(max(map(abs, biases)), max(max(map(abs, row)) for row in rows))
    step = most / 32000
    values = array("h", [round(b / step) for b in biases])
    for row in rows:
        values.extend(round(value / step) for value in row)
    return _HEAD.pack(len(biases), len(rows), step) + values.tobytes()
