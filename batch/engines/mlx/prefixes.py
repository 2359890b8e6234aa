"""Beginnings that prompts share, such as a system prompt: computed once, kept for the life of the engine."""

from __future__ import annotations

import copy
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any

LEAST = 16  # tokens that are worth a cache of their own
KEPT = 16
KEPT_BYTES = 2**30
REMEMBERED = 8  # last prompts, so that one prompt after the other finds what it shares with the one before
CHUNK = 2048

Found = tuple[int, Any]  # tokens, and their caches, one a layer; (0, None) is nothing


class Prefixes:
    """Prompt caches by the tokens they hold; the least recently used go first."""

    def __init__(self, model: Any, stream: Any) -> None:
        import mlx.core as mx
        from mlx_lm.models import cache

        self._mx = mx
        self._library: Any = cache
        self._model = model
        self._stream = stream
        # A plain KV cache can be cut to any length, and is copied when it joins a batch, so it can be shared as it is.
        self._plain = all(type(c) is cache.KVCache for c in cache.make_prompt_cache(model))
        self._kept: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._recent: deque[list[int]] = deque(maxlen=REMEMBERED)
        self.shared_tokens = 0
        self.bytes_per_token = self._bytes_per_token()

    def find(self, prompts: Sequence[list[int]], coming: Sequence[list[int]]) -> list[Found]:
        """For each prompt the longest beginning that is worth sharing with the others, those to come among them.

        At least one token of a prompt is always left over.
        """
        others = [*prompts, *coming, *self._recent]
        found = [self._find(prompt, others) for prompt in prompts]
        self._recent.extend(prompts)
        return found

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def _find(self, prompt: list[int], others: Sequence[list[int]]) -> Found:
        most = len(prompt) - 1
        wanted = max((common(prompt, other, most) for other in others if other is not prompt), default=0)
        have, key = self._longest(prompt, most)
        if wanted - have >= LEAST:
            have, key = wanted, self._compute(prompt[:wanted], have, key)
        if key is None or have < LEAST:
            return 0, None
        self._kept.move_to_end(key)
        self.shared_tokens += have
        return have, self._copy(self._kept[key], len(key) - have)

    def _longest(self, prompt: list[int], most: int) -> tuple[int, tuple[int, ...] | None]:
        """The kept cache that serves most of the prompt's tokens."""
        best: tuple[int, tuple[int, ...] | None] = (0, None)
        for key in self._kept:
            length = common(prompt, key, most)
            if length > best[0] and (self._plain or length == len(key)):
                best = (length, key)
        return best

    def _compute(self, tokens: list[int], have: int, key: tuple[int, ...] | None) -> tuple[int, ...]:
        """Run the model over a beginning, on top of the part of it that is kept already."""
        if key is None:
            caches = self._library.make_prompt_cache(self._model)
        else:
            caches = copy.deepcopy(self._copy(self._kept[key], len(key) - have))
        with self._mx.stream(self._stream):
            for start in range(have, len(tokens), CHUNK):
                self._model(self._mx.array([tokens[start : start + CHUNK]]), cache=caches)
                self._mx.eval([c.state for c in caches])
        whole = tuple(tokens)
        self._kept[whole] = caches
        if self._plain and key is not None and have == len(key):
            del self._kept[key]  # the new one serves for it
        while len(self._kept) > 1 and (len(self._kept) > KEPT or self._bytes() > KEPT_BYTES):
            self._kept.popitem(last=False)
        # What was computed for the first to need it is not shared with anyone yet.
        self.shared_tokens -= len(tokens) - have
        return whole

    def _copy(self, caches: Any, surplus: int) -> Any:
        """A cache for one more prompt, without the last `surplus` tokens."""
        if not self._plain:
            return copy.deepcopy(caches)
        copies = [copy.copy(c) for c in caches]
        if surplus:
            self._library.trim_prompt_cache(copies, surplus)
        return copies

    def _bytes_per_token(self) -> int:
        """Of one row's cache; 0 where the caches do not grow with every token."""
        if not self._plain:
            return 0
        caches = self._library.make_prompt_cache(self._model)
        with self._mx.stream(self._stream):
            self._model(self._mx.array([[0]]), cache=caches)
            self._mx.eval([c.state for c in caches])
        return sum(kept.nbytes // kept.shape[2] for c in caches for kept in (c.keys, c.values))

    def _bytes(self) -> int:
        return sum(c.nbytes for caches in self._kept.values() for c in caches)


def common(a: Sequence[int], b: Sequence[int], most: int) -> int:
    """How many tokens two prompts begin with alike, at most `most`; by halving, since slices compare quickly."""
    low, high = 0, min(len(a), len(b), most)
    while low < high:
        middle = (low + high + 1) // 2
        if tuple(a[low:middle]) == tuple(b[low:middle]):
            low = middle
        else:
            high = middle - 1
    return low
