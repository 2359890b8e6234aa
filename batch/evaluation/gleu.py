"""GLEU for grammatical error correction (Napoles et al. 2015, as corrected in 2016): n-grams of hypothesis, source and
reference. It is not the GLEU of machine translation that NLTK has.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Literal

ORDER = 4
Tokens = Sequence[str]


def gleu_stats(source: Tokens, hypothesis: Tokens, reference: Tokens, *, counted: bool = False) -> list[int]:
    """Hypothesis and reference length, then for n = 1 to 4 the n-grams that count and all n-grams of the hypothesis.

    What counts is what hypothesis and reference share, less what the hypothesis has from the source and should not.
    The official script takes an n-gram for right altogether once it occurs in the reference, and no sentence below 0;
    `counted` compares the numbers of occurrences instead, as the paper says.
    """
    length = len(hypothesis)
    stats = [length, len(reference)]
    if hypothesis == reference:
        for n in range(1, ORDER + 1):
            total = max(length - n + 1, 0)
            stats += (total, total)
        return stats
    for n in range(1, ORDER + 1):
        total = max(length - n + 1, 0)
        right = 0
        if total:
            in_source, in_reference = _ngrams(source, n), _ngrams(reference, n)
            for gram, times in _ngrams(hypothesis, n).items():
                wanted, given = in_reference.get(gram, 0), in_source.get(gram, 0)
                right += min(times, wanted)
                if counted:
                    right -= max(min(times, given) - wanted, 0)
                elif not wanted:
                    right -= min(times, given)
        stats += (right if counted else max(right, 0), total)
    return stats


def gleu_score(stats: Sequence[float]) -> float:
    """GLEU from summed statistics, 0 to 1; 0 where an order has nothing that counts."""
    length, wanted = stats[:2]
    if min(stats[: 2 + 2 * ORDER]) <= 0:
        return 0.0
    precision = sum(math.log(stats[2 * n] / stats[2 * n + 1]) for n in range(1, ORDER + 1)) / ORDER
    return math.exp(min(0.0, 1 - wanted / length) + precision)


def gleu(
    sources: Sequence[Tokens],
    hypotheses: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    *,
    form: Literal["official", "counted"] = "official",
    samples: int = 500,
) -> float:
    """Corpus GLEU over one or several sets of references (each as long as the sources).

    With several, the mean over `samples` draws of one reference a sentence, seeded as in the official script.
    """
    table = _table(sources, hypotheses, references, counted=form == "counted")
    if len(references) == 1:
        return gleu_score(_sums(table[0]))
    scores = []
    for sample in range(samples):
        draw = random.Random(sample * 101)
        chosen = [draw.randint(0, len(references) - 1) for _ in sources]
        scores.append(gleu_score(_sums([table[which][at] for at, which in enumerate(chosen)])))
    return sum(scores) / len(scores)


def sentence_gleu(
    sources: Sequence[Tokens],
    hypotheses: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    *,
    form: Literal["official", "counted"] = "official",
) -> list[float]:
    """The GLEU of each sentence, unsmoothed: its mean over the references."""
    table = _table(sources, hypotheses, references, counted=form == "counted")
    return [sum(map(gleu_score, of_one)) / len(of_one) for of_one in zip(*table, strict=True)]


def _table(
    sources: Sequence[Tokens], hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]], *, counted: bool
) -> list[list[list[int]]]:
    return [
        [gleu_stats(s, h, r, counted=counted) for s, h, r in zip(sources, hypotheses, refs, strict=True)]
        for refs in references
    ]


def _sums(rows: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*rows, strict=True)]


def _ngrams(tokens: Tokens, n: int) -> Counter[tuple[str, ...]]:
    if n == 1:
        return Counter((token,) for token in tokens)
    return Counter(zip(*(tokens[at:] for at in range(n)), strict=False))
