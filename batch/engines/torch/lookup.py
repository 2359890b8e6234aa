"""Guesses at a row's next tokens: what followed its newest ones where they stood before, in its prompt or its answer.

One pass runs guesses beside the newest token, and costs hardly more than without them while it waits for the weights;
those that are what the model says anyway are taken, the rest is as if it had never been (prompt lookup decoding,
Saxena 2023; speculative decoding, Leviathan 2023). Only greedy rows guess, so an answer stays what it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch.engines.torch.sequence import Sequence

NGRAMS = (3, 2, 1)  # newest tokens that are looked up, the most first
MOST_ROWS = 4  # that decode; with more of them a pass is bound by arithmetic
PASS_TOKENS = 12  # of a pass, guesses included: the rows of one block of the products
LONGEST_REST = 32  # steps from a guess to the next, after those that were wrong again and again


class Lookup:
    """Of one row: where its n-grams ended last, and how well guesses did."""

    __slots__ = ("_ends", "_misses", "_read", "_rest", "_trust")

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}
        self._read = 0  # tokens whose n-grams are known
        self._trust = 2 * PASS_TOKENS // 3  # tokens of a guess
        self._misses = self._rest = 0

    def guess(self, known: list[int], most: int) -> list[int]:
        """At most so many tokens that may follow these."""
        for end in range(max(self._read, 1), len(known)):
            for size in NGRAMS:
                if size <= end:
                    self._ends[tuple(known[end - size : end])] = end
        self._read = len(known)
        if self._rest > 0:
            self._rest -= 1
            return []
        starts = (self._ends.get(tuple(known[-size:])) for size in NGRAMS)
        start = next((start for start in starts if start is not None), len(known))
        return known[start : start + min(most, self._trust)]

    def heard(self, guessed: int, right: int) -> None:
        """Hear how many tokens of a guess were what the model said."""
        if right == guessed:
            self._trust = min(2 * self._trust, PASS_TOKENS)
            self._misses = 0
        elif right:
            self._trust, self._misses = right + 1, 0
        else:
            self._trust = max(2, self._trust // 2)
            self._rest = min(2**self._misses, LONGEST_REST) - 1
            self._misses += 1


def guess(rows: list[Sequence]) -> bool:
    """Let rows guess; whether any did. None does where one is still at its prompt, or there are too many."""
    if not rows or len(rows) > MOST_ROWS or not all(row.tokens and row.pending == 1 for row in rows):
        return False
    room = PASS_TOKENS // len(rows) - 1
    for row in rows:
        most = min(room, row.max_tokens - len(row.tokens) - 1)
        if most > 0 and row.takes_likeliest:
            if row.lookup is None:
                row.lookup = Lookup()
            row.guessed = row.lookup.guess(row.prompt + row.tokens, most)
    return any(row.guessed for row in rows)


def settle(row: Sequence, right: int) -> None:
    """Forget a row's guesses, of which so many were right; what the cache has of the others is written over."""
    row.lookup.heard(len(row.guessed), right)
    row.guessed = []
    row.filled = min(row.filled, len(row.prompt) + len(row.tokens) - 1)
