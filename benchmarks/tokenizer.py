"""Batches of texts through the batch inference API beside the calls of the `tokenizers` library, on one tokenizer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from batch.inference import BatchItem, BatchTokenizer, DetokenizeBatchRequest, TokenizeBatchRequest
from benchmarks.common import ROOT, Row, Skipped

DEMO = ROOT / "ai_router" / "demo"
WORDS = """a stack queue hash table which item does the search return in order 日本語 the first 12 sorted, list; and
why?"""
SHARE = 0.95  # of the library's throughput


def measure(quick: bool) -> list[Row]:
    """Throughput of 1,000 texts as a share of `encode_batch`'s, and of 1,000 rows as one of `decode_batch`'s."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise Skipped('needs the "local" extra') from None
    rng = random.Random(7)
    count, rounds = (50, 1) if quick else (1000, 9)
    texts = [" ".join(rng.choices(WORDS.split(), k=rng.randint(10, 300))) for _ in range(count)]
    library = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    ours = BatchTokenizer(DEMO)
    requests = [BatchItem(i, TokenizeBatchRequest(text)) for i, text in enumerate(texts)]
    rows = [encoding.ids for encoding in library.encode_batch(texts, add_special_tokens=False)]
    back = [BatchItem(i, DetokenizeBatchRequest(row)) for i, row in enumerate(rows)]
    assert [r.data.tokens for r in ours.encode_batch(requests) if r.data] == rows
    pairs: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
        (
            "encode_batch",
            lambda: ours.encode_batch(requests),
            lambda: [e.ids for e in library.encode_batch(texts, add_special_tokens=False)],
        ),
        (
            "decode_batch",
            lambda: ours.decode_batch(back),
            lambda: library.decode_batch(rows, skip_special_tokens=False),
        ),
    ]
    tokens = sum(map(len, rows))
    return [_compare(name, own, other, tokens, rounds) for name, own, other in pairs]


def _compare(name: str, own: Callable[[], Any], other: Callable[[], Any], tokens: int, rounds: int) -> Row:
    """The best of several turns each, taken in alternation, so that whoever else works here slows both."""
    best = {own: float("inf"), other: float("inf")}
    for _ in range(rounds):
        for work in best:
            start = time.perf_counter()
            work()
            best[work] = min(best[work], time.perf_counter() - start)
    share = best[other] / best[own]
    measured = f"{share:.0%} ({tokens / best[own] / 1e6:.2f} M/s)"
    return Row(f"tokenizer {name}, throughput of tokenizers' own", f"≥ {SHARE:.0%}", measured, share >= SHARE)
