"""Attention of a packed step: every token of every row in one line, each row over its own slot and its shared prefix.

Made known to transformers (`register`), so that its model classes call it. A shared prefix is attended to once for all
its rows, as one matrix product, and joined with each row's own part by the log of the sum of exponentials, as in
cascade inference (FlashInfer) and Hydragen (Juravsky 2024). Query heads of a group stand side by side, so that no key
or value is repeated for them.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from typing import Any

import torch

from batch.engines.torch.latents import latents_of
from batch.engines.torch.native import Columns, Kernels, Rows
from batch.engines.torch.reach import Reach, reach_of
from batch.engines.torch.slots import Prefix, SlotCache, SlotLayer

NAME = "ai_router_packed"
CALL_BYTES = 2**20  # what one more call costs, as bytes of one layer's cache that could be read in its time


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
    # by reach, and query heads a KV head
    masks: dict[tuple[Reach | None, int], torch.Tensor | None] = field(default_factory=dict)


@dataclass(slots=True)
class Shared:
    """A prefix, and the tokens of the rows that begin with it."""

    prefix: Prefix
    tokens: list[int]  # their places in the step
    positions: list[int]
    # by reach, and query heads a KV head: the tokens that see any of it, and what hides a part of it from them
    masks: dict[tuple[Reach | None, int], tuple[torch.Tensor | slice, torch.Tensor | None]] = field(
        default_factory=dict
    )

    def seen(self, reach: Reach | None, group: int, like: torch.Tensor) -> tuple[torch.Tensor | slice, Any]:
        """Places of the tokens that see any of it, none perhaps, and what to add to their scores."""
        if (reach, group) not in self.masks:
            places, mask = torch.tensor(self.tokens), None
            if reach is not None and bool((first := reach.first(torch.tensor(self.positions))).any()):
                sees = first < self.prefix.length
                places, first = places[sees], first[sees].repeat_interleave(group)
                hidden = torch.arange(self.prefix.length) < first.unsqueeze(1)
                mask = _hide(hidden, like.dtype)[None, None].to(like.device)
            self.masks[reach, group] = _neighbours(places, like.device), mask
        return self.masks[reach, group]


@dataclass(slots=True)
class Native:
    """The step for the native kernels."""

    kernels: Kernels
    table: torch.Tensor  # the pages of each row
    runs: list[tuple[int, int, int, int]]  # tokens in line: row, columns before, tokens, place of the prefix
    longest: int  # keys that a token sees
    prefixes: list[Prefix]
    blocks: dict[int, Rows] = field(default_factory=dict)  # by query heads a KV head
    starts: dict[Reach | None, torch.Tensor] = field(default_factory=dict)  # first column seen, by reach

    def rows(self, group: int) -> Rows:
        """Where the tokens are, for a layer of so many query heads a KV head; ValueError where those are too many."""
        if group not in self.blocks:
            if not 0 < group <= self.kernels.lanes:
                raise ValueError(f"the native attention does not do {group} query heads a KV head")
            self.blocks[group] = Rows.of(self.runs, self.kernels.lanes // group, self.longest)
        return self.blocks[group]

    def first(self, reach: Reach | None, rows: Rows) -> torch.Tensor:
        """The first column that each token still sees, of its prefix and its row together."""
        if reach not in self.starts:
            positions = rows.lengths - 1
            if reach is not None and self.prefixes:
                before = torch.tensor([*(prefix.length for prefix in self.prefixes), 0])  # the last is for place -1
                positions += before[rows.which]
            self.starts[reach] = torch.zeros_like(positions) if reach is None else reach.first(positions)
        return self.starts[reach]


@dataclass(slots=True)
class Plan:
    """What a step attends to: `native`, or else segments and shared prefixes."""

    cache: SlotCache
    segments: list[Segment]
    shared: list[Shared]
    native: Native | None = None


_now = threading.local()


def set_plan(plan: Plan | None) -> None:
    """The plan of this thread's step."""
    _now.plan = plan


def current_plan() -> Plan | None:
    """The plan of this thread's step; None outside of packed steps."""
    return getattr(_now, "plan", None)


def group_slots(slots: list[int], lengths: list[int], call_cost: float) -> list[tuple[int, int]]:
    """Runs [first, last) of neighbouring slots to read together: padding to the longest costs less than a call.

    `call_cost`: what a call costs, as columns of one slot.
    """
    groups: list[tuple[int, int]] = []
    first = 0
    for i in range(1, len(slots)):
        longest = max(lengths[first:i])
        grown = max(longest, lengths[i])
        padding = grown - lengths[i] + (grown - longest) * (i - first)
        if slots[i] != slots[i - 1] + 1 or padding > call_cost:
            groups.append((first, i))
            first = i
    if slots:
        groups.append((first, len(slots)))
    return groups


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Query: [1, heads, tokens, head size]; returns [1, tokens, heads, head size].

    `softcap`: what scores are held below; `s_aux`: [heads], one more score of each head for nothing at all (sinks).
    """
    plan: Plan = _now.plan
    layer = plan.cache.reading
    if layer is None or attention_mask is not None or kwargs.get("position_bias") is not None:
        raise ValueError("the packed attention does not do this")
    plan.cache.reading = None
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    index, q = module.layer_idx, query[0].transpose(0, 1)
    latents = plan.cache.latents(index, lambda: latents_of(module, layer.fresh[0], query))
    if latents is not None:
        layer.write(torch.cat(layer.fresh, -1), layer.fresh[1][..., :0])
        q = latents.ask(q)
    else:
        layer.write(*layer.unrepeated(key, value))
    sinks = None if s_aux is None else s_aux.detach().float().contiguous()
    out = attend(plan, index, layer, q.contiguous(), scale, reach_of(module, sliding_window), cap=softcap, sinks=sinks)
    return (out if latents is None else latents.answer(out)).unsqueeze(0), None


def attend(
    plan: Plan,
    index: int,
    layer: SlotLayer,
    query: torch.Tensor,
    scale: float,
    reach: Reach | None,
    *,
    cap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Query: [tokens, heads, size], contiguous; sinks: [heads]; returns [tokens, heads, size of a value]."""
    size = query.shape[2]
    keys, values = read(layer.keys, layer.values)
    out = query.new_empty(*query.shape[:2], values.shape[-1])
    if plan.native is not None:
        _attend_native(plan.native, index, (keys, values), query, out, (scale, reach, cap, sinks))
        return out
    q = query.view(query.shape[0], keys.shape[1], -1, size)  # [tokens, KV heads, group, size]
    grouped, group = out.view(*q.shape[:3], -1), q.shape[2]
    q = q.to(keys.dtype)
    weight = q.new_empty(q.shape[:3], dtype=torch.float32)  # log of the sum of exponentials
    for segment in plan.segments:
        place = slice(segment.first, segment.last)
        slots = slice(segment.slot, segment.slot + len(segment.lengths))
        near = keys[slots, :, : segment.width], values[slots, :, : segment.width]
        mask = _mask(segment, group, reach, q)
        how = _attend_few if segment.decode else _together
        grouped[place], weight[place] = how(q[place], *near, mask, scale, cap)
    for shared in plan.shared:
        rows, mask = shared.seen(reach, group, q)
        if not isinstance(rows, slice) and not len(rows):
            continue
        far_out, far_weight = _together(q[rows], *read(*shared.prefix.layers[index]), mask, scale, cap)
        share = torch.sigmoid(far_weight - weight[rows]).unsqueeze(-1)
        grouped[rows] = torch.lerp(grouped[rows], far_out.to(out.dtype), share.to(out.dtype))
        if sinks is not None:
            weight[rows] = torch.logaddexp(weight[rows], far_weight)
    if sinks is not None:
        grouped *= torch.sigmoid(weight - sinks.view(-1, group)).unsqueeze(-1).to(out.dtype)
    return out


def read(keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What is attended to: values have no elements where they are part of the keys."""
    return keys, values if values.shape[-1] else keys


def _attend_native(
    native: Native,
    index: int,
    held: tuple[torch.Tensor, torch.Tensor],
    query: torch.Tensor,
    out: torch.Tensor,
    how: tuple[float, Reach | None, float | None, torch.Tensor | None],
) -> None:
    scale, reach, cap, sinks = how
    if held[0].shape != held[1].shape or query.dtype != torch.float32:
        raise ValueError("the native attention does not do this")
    heads, kv_heads, most = query.shape[1], held[0].shape[1], native.kernels.lanes
    columns = Columns(*held, native.table, [read(*prefix.layers[index]) for prefix in native.prefixes])
    if kv_heads == 1 and heads > most:  # more than the kernel takes together
        for first in range(0, heads, most):
            part = slice(first, first + most)
            q, own = query[:, part].contiguous(), None if sinks is None else sinks[part].contiguous()
            mixed, where = torch.empty_like(q), native.rows(q.shape[1])
            native.kernels.attend(q, scale, columns, where, native.first(reach, where), mixed, cap=cap, sinks=own)
            out[:, part] = mixed
        return
    where = native.rows(heads // kv_heads)
    native.kernels.attend(query, scale, columns, where, native.first(reach, where), out, cap=cap, sinks=sinks)


def _together(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    cap: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Many tokens [n, KV heads, group, size] over the same keys [1, KV heads, columns, size]."""
    n, heads, group, size = q.shape
    flat = q.permute(1, 0, 2, 3).reshape(1, heads, n * group, size)
    out, weight = _attend(flat, keys, values, mask, scale, cap)
    return out.view(heads, n, group, -1).transpose(0, 1), weight.reshape(heads, n, group).transpose(0, 1)


def _attend(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    cap: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention, and the log of the sum of exponentials; q: [batch, heads, queries, size]."""
    if q.device.type == "cpu" and keys.shape[-1] == values.shape[-1] and cap is None:
        out, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, keys, values, 0.0, False, attn_mask=mask, scale=scale
        )
        return out, weight
    return _attend_few(q, keys, values, mask, scale, cap)


def _attend_few(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    cap: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for few queries over many keys, where plain products read the cache at twice the kernel's speed."""
    batch, heads, queries, _ = q.shape
    scores = torch.bmm((q * scale).flatten(0, 1), keys.flatten(0, 1).transpose(1, 2)).float()
    scores = scores.view(batch, heads, queries, -1)
    if cap is not None:
        scores.div_(cap).tanh_().mul_(cap)
    if mask is not None:
        scores += mask
    largest = scores.amax(dim=-1, keepdim=True)
    shares = scores.sub_(largest).exp_()
    total = shares.sum(dim=-1, keepdim=True)
    out = torch.bmm(shares.to(values.dtype).flatten(0, 1), values.flatten(0, 1)).view(batch, heads, queries, -1)
    return out.div_(total), total.log_().add_(largest).squeeze(-1)


def _mask(segment: Segment, group: int, reach: Reach | None, like: torch.Tensor) -> torch.Tensor | None:
    """What to add to the scores; made once a step. [slots, 1, group, columns], or [1, 1, tokens × group, columns]."""
    if (reach, group) in segment.masks:
        return segment.masks[reach, group]
    lengths, before = torch.tensor(segment.lengths), torch.tensor(segment.before)
    columns = torch.arange(segment.width)
    if segment.decode:
        last = (lengths - 1).unsqueeze(1)  # the newest column of each slot
        before = before.unsqueeze(1)
    else:
        new = segment.last - segment.first
        last = torch.arange(segment.lengths[0] - new, segment.lengths[0]).repeat_interleave(group).unsqueeze(1)
    hidden = columns > last
    if reach is not None:
        hidden |= columns < reach.first(last + before) - before
    mask = None
    if bool(hidden.any()):
        mask = _hide(hidden, torch.float32 if segment.decode else like.dtype)
        mask = mask[:, None, None].expand(-1, 1, group, -1) if segment.decode else mask[None, None]
        mask = mask.to(like.device)
    segment.masks[reach, group] = mask
    return mask


def _hide(hidden: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, float("-inf"))


def _neighbours(places: torch.Tensor, device: torch.device) -> torch.Tensor | slice:
    """Places in line, as a slice where they are neighbours."""
    together = len(places) > 0 and int(places[-1] - places[0]) == len(places) - 1
    return slice(int(places[0]), int(places[-1]) + 1) if together else places.to(device)


def register() -> None:
    """Make it known to transformers, where a model of its classes can be about: importing them takes seconds."""
    if "transformers.modeling_utils" in sys.modules:
        from transformers import AttentionInterface, AttentionMaskInterface

        AttentionInterface.register(NAME, packed_attention)
        AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
