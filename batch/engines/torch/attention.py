"""Attention of a packed step: every token of every row in one line, each row over its own slot and its shared prefix.

Made known to transformers (`register`), so that its model classes call it. A shared prefix is attended to once for all
its rows, as one matrix product, and joined with each row's own part by the log of the sum of exponentials, as in
cascade inference (FlashInfer) and Hydragen (Juravsky 2024). Query heads of a group stand side by side, so that no key
or value is repeated for them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from batch.engines.torch.latents import latents_of
from batch.engines.torch.native import Columns, Kernels, Rows
from batch.engines.torch.reach import Reach, reach_of
from batch.engines.torch.segments import Segment, Shared
from batch.engines.torch.slots import Prefix, SlotCache, SlotLayer

NAME = "ai_router_packed"
CALL_BYTES = 2**20  # what one more call costs, as bytes of one layer's cache that could be read in its time


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

    @property
    def columns(self) -> int:
        """The most that a row has with its prefix; of segments."""
        return max((max(segment.before) + segment.width for segment in self.segments), default=0)


class Extra(NamedTuple):
    """What else makes scores, in some families."""

    cap: float | None = None  # what they are held below
    sinks: torch.Tensor | None = None  # [heads], one more score of each for nothing at all
    bias: torch.Tensor | None = None  # [heads, columns], added to them; `slopes`, [heads], where the kernels do that
    slopes: torch.Tensor | None = None


PLAIN = Extra()
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
    """Query: [rows, heads, tokens, head size]; returns [rows, tokens, heads, head size].

    `softcap`: what scores are held below; `s_aux`: [heads], one more score of each head for nothing at all (sinks).
    """
    if attention_mask is not None or kwargs.get("position_bias") is not None:
        raise ValueError("the packed attention does not do this")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    out = packed(module, query, key, value, scale, window=sliding_window, cap=softcap, sinks=s_aux)
    return out, None


def packed(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    *,
    window: int | None = None,
    cap: float | None = None,
    sinks: torch.Tensor | None = None,
    bias: Callable[[int], torch.Tensor] | None = None,
) -> torch.Tensor:
    """The step's attention in a layer whose cache has just heard of its keys and values.

    All: [rows, heads, tokens, size], the step's tokens row by row, one row where they are all in line; returns
    [rows, tokens, heads, size]. `bias`: of so many columns, [heads, columns], what is added to the scores.
    """
    plan: Plan = _now.plan
    cache, layer = plan.cache, plan.cache.reading
    q, size, latents = query.transpose(1, 2).flatten(0, 1), value.shape[-1], None
    if layer is None:  # Gemma 3n: the keys and values of a layer before
        index, layer = cache.of(key, value)
    else:
        index, cache.reading = cache.at, None
        fresh = layer.fresh
        latents = cache.latents(index, lambda: latents_of(module, fresh[0], query))
        if latents is not None:
            layer.write(torch.cat(fresh, -1), fresh[1][..., :0])
            q = latents.ask(q)
        else:
            key, value = layer.unrepeated(key, value)
            if plan.native is not None and size < key.shape[-1]:  # whose keys and values are of one size
                value = torch.nn.functional.pad(value, (0, key.shape[-1] - size))
            layer.write(key, value)
    extra = Extra(
        cap,
        None if sinks is None else sinks.detach().float().contiguous(),
        None if bias is None or plan.native is not None else cache.bias(plan.columns, bias),
        None if bias is None or plan.native is None else cache.slopes(bias),
    )
    out = attend(plan, index, layer, q.contiguous(), scale, reach_of(module, window), extra)
    out = latents.answer(out) if latents is not None else out[..., :size]
    return out.unflatten(0, (query.shape[0], -1))


def attend(
    plan: Plan,
    index: int,
    layer: SlotLayer,
    query: torch.Tensor,
    scale: float,
    reach: Reach | None,
    extra: Extra = PLAIN,
) -> torch.Tensor:
    """Query: [tokens, heads, size], contiguous; returns [tokens, heads, size of a value]."""
    size = query.shape[2]
    keys, values = read(layer.keys, layer.values)
    out = query.new_empty(*query.shape[:2], size if plan.native is not None else values.shape[-1])
    if plan.native is not None:
        _attend_native(plan.native, index, (keys, values), query, out, scale, reach, extra)
        return out
    cap, sinks, bias, _ = extra
    q = query.view(query.shape[0], keys.shape[1], -1, size)  # [tokens, KV heads, group, size]
    grouped, group = out.view(*q.shape[:3], -1), q.shape[2]
    q = q.to(keys.dtype)
    weight = q.new_empty(q.shape[:3], dtype=torch.float32)  # log of the sum of exponentials
    for segment in plan.segments:
        place = slice(segment.first, segment.last)
        slots = slice(segment.slot, segment.slot + len(segment.lengths))
        near = keys[slots, :, : segment.width], values[slots, :, : segment.width]
        mask = segment.mask(reach, q, bias)
        how = _attend_few if segment.decode else _together
        grouped[place], weight[place] = how(q[place], *near, mask, scale, cap)
    for shared in plan.shared:
        rows, mask = shared.seen(reach, q, bias)
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
    scale: float,
    reach: Reach | None,
    extra: Extra,
) -> None:
    if held[0].shape != held[1].shape or query.dtype != torch.float32:
        raise ValueError("the native attention does not do this")
    heads, kv_heads, most = query.shape[1], held[0].shape[1], native.kernels.lanes
    prefixes = [read(*prefix.layers[index]) for prefix in native.prefixes]
    columns = Columns(*held, native.table, prefixes, [prefix.length for prefix in native.prefixes])
    if kv_heads > 1 or heads <= most:
        where = native.rows(heads // kv_heads)
        first = native.first(reach, where)
        native.kernels.attend(
            query, scale, columns, where, first, out, cap=extra.cap, sinks=extra.sinks, slopes=extra.slopes
        )
        return
    for begin in range(0, heads, most):  # more than the kernel takes together
        part = slice(begin, begin + most)
        q = query[:, part].contiguous()
        sinks, slopes = (None if x is None else x[part].contiguous() for x in (extra.sinks, extra.slopes))
        mixed, where = torch.empty_like(q), native.rows(q.shape[1])
        first = native.first(reach, where)
        native.kernels.attend(q, scale, columns, where, first, mixed, cap=extra.cap, sinks=sinks, slopes=slopes)
        out[:, part] = mixed


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


def register() -> None:
    """Make it known to transformers, where a model of its classes can be about: importing them takes seconds."""
    if "transformers.modeling_utils" in sys.modules:
        from transformers import AttentionInterface, AttentionMaskInterface

        AttentionInterface.register(NAME, packed_attention)
        AttentionMaskInterface.register(NAME, _no_mask)


def _no_mask(*args: Any, config: Any = None, **kwargs: Any) -> torch.Tensor | None:
    """None, but for MPT, which wants to turn it into another type."""
    return torch.empty(0) if getattr(config, "model_type", "") == "mpt" else None
