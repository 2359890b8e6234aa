"""Logits to tokens on MLX, for one row each: samplers, and what is done to logits before them."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from batch.engines.schema import Constraint
from batch.options import SamplingOptions


def make_sampler(mx: Any, sampling: SamplingOptions) -> Callable[[Any], Any] | None:
    """A row's own sampler, with random numbers of its own; None picks the likeliest token.

    Temperature, top-k, top-p and min-p in that order, as transformers and the torch engine apply them.
    """
    if sampling.temperature == 0 or sampling.top_p == 0:
        return None
    from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p

    seed = int.from_bytes(os.urandom(8), "little") if sampling.seed is None else sampling.seed
    key = mx.random.key(seed % 2**64)

    def sample(logprobs: Any) -> Any:  # logprobs: [1, vocabulary]
        nonlocal key
        key, this = mx.random.split(key)
        scores = _normalised(mx, logprobs / sampling.temperature)
        if 0 < sampling.top_k < scores.shape[-1]:
            scores = _normalised(mx, apply_top_k(scores, sampling.top_k))
        if sampling.top_p < 1:
            scores = apply_top_p(scores, sampling.top_p)
        if sampling.min_p > 0:
            scores = apply_min_p(scores, sampling.min_p)
        return mx.random.categorical(scores, key=this)

    return sample


def _normalised(mx: Any, scores: Any) -> Any:
    return scores - mx.logsumexp(scores, axis=-1, keepdims=True)


def make_processors(
    mx: Any,
    sampling: SamplingOptions,
    prompt: int,
    constraint: Constraint | None,
    raw: deque[Any] | None,
    own_penalty: float = 1.0,
) -> list[Callable[[Any, Any], Any]]:
    """What is done to a row's logits before a token is picked. seen: [tokens], the prompt too; logits: [1, vocabulary].

    Repetition penalty of CTRL (Keskar 2019): the logits of all tokens seen divided, or multiplied below 0; as the
    options have it, or `own_penalty`, the model's, where they name none. Then the tokens that the row's schema does not
    allow go. `raw` is given the model's own log probabilities of each token to come, where there is anything that would
    change them. `prompt` is the length of the row's prompt in tokens.
    """
    penalty = own_penalty if sampling.repetition_penalty is None else sampling.repetition_penalty
    given = prompt

    def keep(seen: Any, logits: Any) -> Any:
        assert raw is not None
        raw.append((logits - mx.logsumexp(logits, axis=-1, keepdims=True))[0])
        return logits

    def penalise(seen: Any, logits: Any) -> Any:
        scores = logits[:, seen]
        logits[:, seen] = mx.where(scores < 0, scores * penalty, scores / penalty)
        return logits

    def constrain(seen: Any, logits: Any) -> Any:
        nonlocal given
        assert constraint is not None
        for token in seen[given:].tolist():
            constraint.take(token)
        given = max(given, seen.shape[0])
        mask = mx.array(_bits(constraint.mask(), logits.shape[-1]))
        return mx.where(mask, logits, -math.inf)

    processors: list[Callable[[Any, Any], Any]] = []
    if penalty != 1.0:
        processors.append(penalise)
    if constraint is not None:
        processors.append(constrain)
    if processors and raw is not None:
        processors.insert(0, keep)
    return processors


def _bits(mask: bytes, size: int) -> Any:
    """A bit mask, lowest bit first, as `size` booleans; what it has no bits for is not allowed."""
    import numpy as np

    bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")[:size]
    return np.pad(bits, (0, size - bits.shape[0])).astype(bool)
