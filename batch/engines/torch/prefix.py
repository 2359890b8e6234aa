"""Which prompts begin alike: hash-chained blocks of tokens, counted as prompts come by."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch.engines.torch.slots import Prefix

BLOCK = 16  # tokens; a shared prefix is whole blocks
MIN_BLOCKS = 2
REMEMBERED = 100_000  # block chains; the longest unseen go first


class PrefixStore:
    """Counts how many prompts went through each chain of blocks, and keeps the prefixes that were computed."""

    def __init__(self, budget_tokens: int) -> None:
        self.budget = budget_tokens
        self._seen: OrderedDict[int, int] = OrderedDict()  # chain of blocks -> prompts
        self._prefixes: OrderedDict[int, Prefix] = OrderedDict()  # least recently used first
        self.hits = self.computed = 0

    def add(self, prompt: list[int]) -> None:
        """Count a prompt that has come."""
        for chain in _chains(prompt):
            self._seen[chain] = self._seen.pop(chain, 0) + 1
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def choose(self, prompt: list[int]) -> tuple[int, int]:
        """The chain and length of the prefix that is worth most, tokens times other prompts; length 0 for none."""
        best = (0, 0)
        most = 0
        for depth, chain in enumerate(_chains(prompt), 1):
            others = self._seen.get(chain, 1) - 1
            if others <= 0:
                break
            if depth >= MIN_BLOCKS and depth * others >= most:
                best, most = (chain, depth * BLOCK), depth * others
        return best

    def get(self, chain: int) -> Prefix | None:
        """A computed prefix."""
        prefix = self._prefixes.get(chain)
        if prefix is not None:
            self._prefixes.move_to_end(chain)
            self.hits += 1
        return prefix

    def put(self, chain: int, prefix: Prefix) -> None:
        """Keep a prefix; those that no row uses make room for it."""
        self._prefixes[chain] = prefix
        self.computed += 1
        for old, unused in list(self._prefixes.items()):
            if sum(p.length + p.extra for p in self._prefixes.values()) <= self.budget:
                break
            if not unused.users and old != chain:
                del self._prefixes[old]


def _chains(prompt: list[int]) -> list[int]:
    """The hash of each whole block with all before it; the prompt's last token is always left to compute."""
    chains: list[int] = []
    chain = 0
    for at in range(BLOCK, len(prompt), BLOCK):
        chain = hash((chain, *prompt[at - BLOCK : at]))
        chains.append(chain)
    return chains
