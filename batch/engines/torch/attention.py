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

from batch.engines.torch.native import Columns, Kernels, Rows
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
    # by sliding window, and query heads a KV head
    masks: dict[tuple[int | None, int], torch.Tensor | None] = field(default_factory=dict)


@dataclass(slots=True)
class Native:
    """The step for the native kernels."""

    kernels: Kernels
    table: torch.Tensor  # the pages of each row
    runs: list[tuple[int, int, int, int]]  # tokens in line: row, columns before, tokens, place of the prefix
    longest: int  # keys that a token sees
    prefixes: list[Prefix]
    blocks: dict[int, Rows] = field(default_factory=dict)  # by query heads a KV head
    starts: dict[int | None, torch.Tensor] = field(default_factory=dict)  # first column seen, by sliding window

    def rows(self, group: int) -> Rows:
        """Where the tokens are, for a layer of so many query heads a KV head; ValueError where those are too many."""
        if group not in self.blocks:
            if not 0 < group <= self.kernels.lanes:
                raise ValueError(f"the native attention does not do {group} query heads a KV head")
            self.blocks[group] = Rows.of(self.runs, self.kernels.lanes // group, self.longest)
        return self.blocks[group]

    def first(self, window: int | None, rows: Rows) -> torch.Tensor:
        """The first column that each token still sees."""
        if window not in self.starts:
            lengths = rows.lengths
            self.starts[window] = torch.zeros_like(lengths) if window is None else (lengths - window).clamp_(min=0)
        return self.starts[window]


@dataclass(slots=True)
class Plan:
    """What a step attends to: `native`, or else segments and shared prefixes."""

    cache: SlotCache
    segments: list[Segment]
    shared: list[tuple[Prefix, torch.Tensor | slice]]  # a prefix, and the tokens of the rows that begin with it
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
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Query: [1, heads, tokens, head size]; returns [1, tokens, heads, head size]."""
    strange = [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]
    plan: Plan = _now.plan
    layer = plan.cache.reading
    if strange or layer is None or attention_mask is not None:
        raise ValueError(f"the packed attention does not do this: {strange}")
    plan.cache.reading = None
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    q = query[0].transpose(0, 1).contiguous()
    return attend(plan, module.layer_idx, layer, q, scale, sliding_window).unsqueeze(0), None


def attend(
    plan: Plan, index: int, layer: SlotLayer, query: torch.Tensor, scale: float, window: int | None
) -> torch.Tensor:
    """Query: [tokens, heads, size], contiguous; returns [tokens, heads, size of a value]."""
    tokens, size = query.shape[0], query.shape[2]
    keys, values = layer.keys, layer.values
    out = query.new_empty(*query.shape[:2], values.shape[-1])
    if (native := plan.native) is not None:
        if keys.shape != values.shape or query.dtype != torch.float32:
            raise ValueError("the native attention does not do this")
        far = [prefix.layers[index] for prefix in native.prefixes]
        where = native.rows(query.shape[1] // keys.shape[1])
        held = Columns(keys, values, native.table, far)
        native.kernels.attend(query, scale, held, where, native.first(window, where), out)
        return out
    q = query.view(tokens, keys.shape[1], -1, size)  # [tokens, KV heads, group, size]
    grouped = out.view(*q.shape[:3], -1)
    q = q.to(keys.dtype)
    weight = q.new_empty(q.shape[:3], dtype=torch.float32)  # log of the sum of exponentials
    for segment in plan.segments:
        place = slice(segment.first, segment.last)
        slots = slice(segment.slot, segment.slot + len(segment.lengths))
        near = keys[slots, :, : segment.width], values[slots, :, : segment.width]
        mask = _mask(segment, q.shape[2], window, q)
        if segment.decode:
            grouped[place], weight[place] = _attend_few(q[place], *near, mask, scale)
        else:
            grouped[place], weight[place] = _together(q[place], *near, mask, scale)
    for prefix, rows in plan.shared:
        far_out, far_weight = _together(q[rows], *prefix.layers[index], None, scale)
        share = torch.sigmoid(far_weight - weight[rows]).unsqueeze(-1).to(out.dtype)
        grouped[rows] = torch.lerp(grouped[rows], far_out.to(out.dtype), share)
    return out


def _together(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Many tokens [n, KV heads, group, size] over the same keys [1, KV heads, columns, size]."""
    n, heads, group, size = q.shape
    flat = q.permute(1, 0, 2, 3).reshape(1, heads, n * group, size)
    out, weight = _attend(flat, keys, values, mask, scale)
    return out.view(heads, n, group, -1).transpose(0, 1), weight.reshape(heads, n, group).transpose(0, 1)


def _attend(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention, and the log of the sum of exponentials; q: [batch, heads, queries, size]."""
    if q.device.type == "cpu" and keys.shape[-1] == values.shape[-1]:
        out, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, keys, values, 0.0, False, attn_mask=mask, scale=scale
        )
        return out, weight
    return _attend_few(q, keys, values, mask, scale)


def _attend_few(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for few queries over many keys, where plain products read the cache at twice the kernel's speed."""
    batch, heads, queries, _ = q.shape
    scores = torch.bmm((q * scale).flatten(0, 1), keys.flatten(0, 1).transpose(1, 2)).float()
    scores = scores.view(batch, heads, queries, -1)
    if mask is not None:
        scores += mask
    largest = scores.amax(dim=-1, keepdim=True)
    shares = scores.sub_(largest).exp_()
    total = shares.sum(dim=-1, keepdim=True)
    out = torch.bmm(shares.to(values.dtype).flatten(0, 1), values.flatten(0, 1)).view(batch, heads, queries, -1)
    return out.div_(total), total.log_().add_(largest).squeeze(-1)


def _mask(segment: Segment, group: int, window: int | None, like: torch.Tensor) -> torch.Tensor | None:
    """What to add to the scores; made once a step. [slots, 1, group, columns], or [1, 1, tokens × group, columns]."""
    if (window, group) in segment.masks:
        return segment.masks[window, group]
    lengths = torch.tensor(segment.lengths)
    columns = torch.arange(segment.width)
    if segment.decode:
        last = (lengths - 1).unsqueeze(1)  # the newest column of each slot
    else:
        new = segment.last - segment.first
        last = torch.arange(segment.lengths[0] - new, segment.lengths[0]).repeat_interleave(group).unsqueeze(1)
    seen = columns <= last
    if window is not None:
        seen &= columns > last - window
    mask = None
    if not bool(seen.all()):
        mask = torch.zeros(seen.shape, dtype=torch.float32 if segment.decode else like.dtype).masked_fill_(
            ~seen, float("-inf")
        )
        mask = mask[:, None, None].expand(-1, 1, group, -1) if segment.decode else mask[None, None]
        mask = mask.to(like.device)
    segment.masks[window, group] = mask
    return mask


def register() -> None:
    """Make it known to transformers, where a model of its classes can be about: importing them takes seconds."""
    if "transformers.modeling_utils" in sys.modules:
        from transformers import AttentionInterface, AttentionMaskInterface

        AttentionInterface.register(NAME, packed_attention)
        AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
