"""A model put into fewer bits layer by layer while it is read, and what that costs measured in passing.

Each layer runs twice over the trial's text, as it was read on what the layers before gave as they were read, and
changed on what they gave changed. So the whole model is judged, and no more than a layer of it, or a part of its head,
is ever there in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from batch.engines.torch import linear
from batch.engines.torch.lean.weights import Source

PART = 2**20  # numbers of a head that are read at a time
LOGITS = 2**18  # that are compared at a time: five tables of so many are there at once
WHOLE = 64  # outputs that are a multiple of every panel


@dataclass(frozen=True, slots=True)
class Cost:
    """What rounding costs on a text: see `precision.compare`."""

    same: float  # the share of likeliest tokens
    perplexity: float  # as a multiple
    lost: float  # the mean KL divergence, in nats


def change(source: Source, how: Callable[[nn.Module], Any], ids: list[int] | None = None) -> Cost | None:
    """Fill the model of a source and change each layer as it comes, the head last; what it costs on these tokens.

    `how` is called with each layer, its projections fused, and at the end with what holds a part of the head as a model
    holds its own, for each of them. Errors of reading are raised.
    """
    model = source.model
    streams: tuple[torch.Tensor, torch.Tensor] | None = None  # of the layers as they were, and changed
    rotary: Any = None
    for layer in source.layers():
        linear.fuse(layer)
        before = None
        if ids is not None:
            with torch.inference_mode():
                if streams is None:
                    first = model.model.embed_tokens(torch.tensor([ids]))
                    streams, rotary = (first, first), model.model.rotary(torch.arange(len(ids))[None], first.dtype)
                before = layer(streams[0], position_embeddings=rotary)
        how(layer)
        if before is not None and streams is not None:
            with torch.inference_mode():
                streams = before, layer(streams[1], position_embeddings=rotary)
    costs: _Costs | None = None
    with torch.inference_mode():
        if streams is not None and ids is not None:
            exact, changed = (model.model.norm(stream[0]) for stream in streams)
            costs = _Costs(exact, changed, ids)
    head = source.head
    most = min(PART // head.inputs, LOGITS // len(ids)) if ids else PART // head.inputs
    few = max(most // WHOLE, 1) * WHOLE
    parts: list[nn.Module] = []
    if few < head.rows:
        _change_head(source, how, slice(WHOLE), None, parts)
        if linear.joined([parts.pop()]) is None:
            few = head.rows  # its product cannot be put together of parts
    for first in range(0, head.rows, few):
        _change_head(source, how, slice(first, min(first + few, head.rows)), costs, parts)
    model.lm_head = (linear.joined(parts) if len(parts) > 1 else None) or parts[0]
    return None if costs is None else costs.found()


def _change_head(
    source: Source, how: Callable[[nn.Module], Any], rows: slice, costs: _Costs | None, parts: list[nn.Module]
) -> None:
    """Some outputs of the head, changed and added to the others."""
    weights = source.head.floats(rows)
    part = linear.without_numbers(weights.shape[1], len(weights), bias=False)
    part.weight = nn.Parameter(weights, requires_grad=False)
    how(held := _Head(part))
    with torch.inference_mode():
        if costs is not None:
            costs.add(rows.start, part(costs.exact), held.lm_head(costs.changed))
    parts.append(held.lm_head)


class _Head(nn.Module):  # type: ignore[misc]
    """A part of a head, as a model holds its own: of the whole one every part would have all layers looked through."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.lm_head = part

    def get_output_embeddings(self) -> nn.Module:
        """The part, or what was put in its place."""
        head: nn.Module = self.lm_head
        return head


class _Costs:
    """What a text's logits, and those of a changed model, are apart, as they come by parts of the vocabulary.

    Of each token the largest logit so far, and sums of exponentials beside it.
    """

    def __init__(self, exact: torch.Tensor, changed: torch.Tensor, ids: list[int]) -> None:
        """exact, changed: what goes into the head, [tokens, hidden]."""
        self.exact, self.changed = exact, changed
        self._following = torch.tensor(ids[1:])
        tokens = len(ids)
        self._most = torch.full((2, tokens), -torch.inf)
        self._likeliest = torch.zeros(2, tokens, dtype=torch.long)
        self._sums = torch.zeros(2, tokens, dtype=torch.double)
        self._apart = torch.zeros(tokens, dtype=torch.double)  # Σ exp(logit) · (logit − the other's), of the exact
        self._after = torch.zeros(2, tokens - 1)  # the logits of those that follow

    def add(self, first: int, exact: torch.Tensor, changed: torch.Tensor) -> None:
        """Logits of the vocabulary from `first` on, [tokens, some]."""
        here = (self._following >= first) & (self._following < first + exact.shape[1])
        places = (self._following - first)[here, None]
        apart = exact - changed
        for which, logits in enumerate((exact.float(), changed.float())):
            self._after[which, here] = logits[:-1][here].gather(1, places)[:, 0]
            most, at = logits.max(-1)
            larger = most > self._most[which]
            self._likeliest[which] = at.add_(first).where(larger, self._likeliest[which])
            most = torch.maximum(most, self._most[which])
            less = (self._most[which] - most).double().exp()
            shares = (logits - most[:, None]).exp_()
            self._sums[which] = self._sums[which] * less + shares.sum(-1, dtype=torch.double)
            if which == 0:
                self._apart = self._apart * less + shares.mul_(apart).sum(-1, dtype=torch.double)
            self._most[which] = most

    def found(self) -> Cost:
        """Of the whole vocabulary."""
        logs = self._sums.log() + self._most
        lost = float((self._apart / self._sums[0] - logs[0] + logs[1]).mean())
        losses = (logs[:, :-1] - self._after).mean(-1)
        perplexity = float((losses[1] - losses[0]).exp())
        same = float((self._likeliest[0] == self._likeliest[1]).double().mean())
        worst = float("inf")  # NaN is no precision to run in
        return Cost(same, perplexity if perplexity == perplexity else worst, lost if lost == lost else worst)
