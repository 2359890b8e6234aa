"""A model put into fewer bits layer by layer while it is read, and what that costs measured in passing.

Each layer runs twice over the trial's text, as it was read on what the layers before gave as they were read, and
changed on what they gave changed. So the whole model is judged, and no more than a layer of it is ever there in
float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from batch.engines.torch import linear
from batch.engines.torch.lean.weights import Source

TOKENS = 32  # whose logits are compared at a time: of a large vocabulary they take more memory than a layer


@dataclass(frozen=True, slots=True)
class Cost:
    """What rounding costs on a text: see `precision.compare`."""

    same: float  # the share of likeliest tokens
    perplexity: float  # as a multiple
    lost: float  # the mean KL divergence, in nats


def change(source: Source, how: Callable[[nn.Module], Any], ids: list[int] | None = None) -> Cost | None:
    """Fill the model of a source and change each layer as it comes, the head last; what it costs on these tokens.

    `how` is called with each layer, its projections fused, and with the whole model at the end. Errors of reading are
    raised.
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
    head = model.lm_head
    how(model)
    if streams is None or ids is None:
        return None
    with torch.inference_mode():
        exact, changed = (model.model.norm(stream[0]) for stream in streams)
        return _cost(lambda part: head(exact[part]), lambda part: model.lm_head(changed[part]), ids)


def _cost(exact: Callable[[slice], torch.Tensor], found: Callable[[slice], torch.Tensor], ids: list[int]) -> Cost:
    same, lost, losses = 0, 0.0, [0.0, 0.0]
    following = torch.tensor(ids[1:])
    for first in range(0, len(ids), TOKENS):
        part = slice(first, first + TOKENS)
        one, other = exact(part).float(), found(part).float()
        same += int((one.argmax(-1) == other.argmax(-1)).sum())
        logs = one.log_softmax(-1), other.log_softmax(-1)
        lost += float(F.kl_div(logs[1], logs[0], reduction="sum", log_target=True))
        after = following[part]
        for place, log in enumerate(logs):
            losses[place] += float(F.nll_loss(log[: len(after)], after, reduction="sum"))
    perplexity = float(torch.tensor((losses[1] - losses[0]) / max(len(ids) - 1, 1)).exp())
    worst = float("inf")  # NaN is no precision to run in
    return Cost(
        same / len(ids), perplexity if perplexity == perplexity else worst, lost / len(ids) if lost == lost else worst
    )
