"""The parts of a packed step without the native kernels, and what hides keys from its tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from batch.engines.torch.reach import Reach
from batch.engines.torch.slots import Prefix

Masks = dict[tuple[Reach | None, int, bool], torch.Tensor | None]  # by reach, query heads a KV head, and bias


@dataclass(slots=True)
class Segment:
    """Tokens [first, last) of the step: one new token each of neighbouring slots, or several of one slot."""

    first: int
    last: int
    slot: int
    lengths: list[int]  # columns of each slot, the new ones included; one entry where the tokens are of one slot
    decode: bool
    width: int  # columns that are read, the longest or more
    before: list[int]  # columns of each slot's shared prefix
    masks: Masks = field(default_factory=dict)

    def mask(self, reach: Reach | None, like: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor | None:
        """What to add to the scores of queries `like` these, [tokens, KV heads, group, size]; made once a step.

        [slots, 1 or KV heads, group, columns], or [1, 1 or KV heads, tokens × group, columns]. bias: [heads, columns],
        one for all layers.
        """
        kv_heads, group = like.shape[1:3]
        key = reach, group, bias is not None
        if key not in self.masks:
            mask = self._hides(reach, group, like)
            if bias is not None:
                mask = _sum(mask, self._biased(bias.view(kv_heads, group, -1)))
            dtype = torch.float32 if self.decode else like.dtype
            self.masks[key] = None if mask is None else mask.to(like.device, dtype)
        return self.masks[key]

    def _hides(self, reach: Reach | None, group: int, like: torch.Tensor) -> torch.Tensor | None:
        lengths, before = torch.tensor(self.lengths).unsqueeze(1), torch.tensor(self.before).unsqueeze(1)
        columns = torch.arange(self.width)
        last = lengths - 1  # the newest column of each slot
        if not self.decode:
            new = self.last - self.first
            last = torch.arange(self.lengths[0] - new, self.lengths[0]).repeat_interleave(group).unsqueeze(1)
        hidden = columns > last
        if reach is not None:
            hidden |= columns < reach.first(last + before) - before
        if not bool(hidden.any()):
            return None
        mask = hide(hidden)
        return mask[:, None, None].expand(-1, 1, group, -1) if self.decode else mask[None, None]

    def _biased(self, bias: torch.Tensor) -> torch.Tensor:
        """bias: [KV heads, group, columns]."""
        if not self.decode:
            own = bias[..., self.before[0] : self.before[0] + self.width]
            return own.repeat(1, self.last - self.first, 1).unsqueeze(0)
        places = torch.tensor(self.before).unsqueeze(1) + torch.arange(self.width)
        return bias[..., places].permute(2, 0, 1, 3)


@dataclass(slots=True)
class Shared:
    """A prefix, and the tokens of the rows that begin with it."""

    prefix: Prefix
    tokens: list[int]  # their places in the step
    positions: list[int]
    found: dict[tuple[Reach | None, int, bool], tuple[torch.Tensor | slice, torch.Tensor | None]] = field(
        default_factory=dict
    )

    def seen(
        self, reach: Reach | None, like: torch.Tensor, bias: torch.Tensor | None
    ) -> tuple[torch.Tensor | slice, torch.Tensor | None]:
        """Places of the tokens that see any of it, none perhaps, and what to add to their scores.

        The mask: [1, 1 or KV heads, tokens × group, columns].
        """
        kv_heads, group = like.shape[1:3]
        key = reach, group, bias is not None
        if key not in self.found:
            places, mask = torch.tensor(self.tokens), None
            if reach is not None and bool((first := reach.first(torch.tensor(self.positions))).any()):
                sees = first < self.prefix.length
                places, first = places[sees], first[sees].repeat_interleave(group)
                mask = hide(torch.arange(self.prefix.length) < first.unsqueeze(1))[None, None]
            if bias is not None:
                far = bias.view(kv_heads, group, -1)[..., : self.prefix.length]
                mask = _sum(mask, far.repeat(1, len(places), 1).unsqueeze(0))
            self.found[key] = (
                neighbours(places, like.device),
                None if mask is None else mask.to(like.device, like.dtype),
            )
        return self.found[key]


def hide(hidden: torch.Tensor) -> torch.Tensor:
    """What to add to scores of which some are hidden."""
    return torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))


def neighbours(places: torch.Tensor, device: torch.device) -> torch.Tensor | slice:
    """Places in line, as a slice where they are neighbours."""
    together = len(places) > 0 and int(places[-1] - places[0]) == len(places) - 1
    return slice(int(places[0]), int(places[-1]) + 1) if together else places.to(device)


def _sum(mask: torch.Tensor | None, bias: torch.Tensor) -> torch.Tensor:
    return bias if mask is None else mask.to(bias.device) + bias
