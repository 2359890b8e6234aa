"""Whether compiled kernels give what torch gives; run as a process of its own, as wrong ones may end it or never end.

python -m batch.engines.torch.checking kernels.so
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

import torch

from batch.engines.torch.building import WRONG
from batch.engines.torch.kv_int8 import unpacked
from batch.engines.torch.native import CACHE_DTYPES, INT8, Columns, Kernels, Rows
from batch.engines.torch.structs import Stored
from batch.engines.torch.troubles import out_of_memory


def agrees(kernels: Kernels) -> bool:
    """Whether each function gives what torch gives."""
    from torch.nn import functional as F

    draw = functools.partial(torch.randn, generator=torch.Generator().manual_seed(0))
    x, weight = draw(5, 96), draw(96)
    rows, scales = kernels.quantise(x)
    kernels.rescale(back := rows.float() - 128, scales, weight)
    checks = [
        (kernels.rms_norm(x, weight, 1e-6), F.rms_norm(x, (96,), weight, 1e-6), 1e-5),
        (kernels.swiglu(30 * x), F.silu(30 * x[:, :48]) * (30 * x[:, 48:]), 1e-3),
        (kernels.geglu(5 * x), F.gelu(5 * x[:, :48], approximate="tanh") * (5 * x[:, 48:]), 1e-3),
        ((back - weight - x) / scales[:, None], torch.zeros(5, 96), 0.51),  # half a step
        (kernels.largest(x), x.argmax(-1), 0),
    ]
    checks += _state_checks(kernels, draw) + _stored_checks(kernels, draw)
    if kernels.panel:
        checks += _product_checks(kernels, draw, 8, 51) + _product_checks(kernels, draw, 8, 200)
        checks += _product_checks(kernels, draw, 4, 96)
    for bits in (32, 16) if kernels.pairs else (32,):
        checks += _float_checks(kernels, draw, bits, 51) + _float_checks(kernels, draw, bits, 600)
    for size in (64, 128, 24):
        for dtype in CACHE_DTYPES:
            checks += _attention_checks(kernels, draw, size, dtype)
    return all(bool(((ours - theirs).abs() <= limit).all()) for ours, theirs, limit in checks)


def _product_checks(
    kernels: Kernels, draw: Callable[..., torch.Tensor], bits: int, inputs: int
) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """The packed product at every height of a block, beside the exact sums."""
    from batch.engines.torch.gemm import PackedProduct, keeps, round_weight

    rounded, bias = round_weight(draw(70, inputs), bits), draw(70)
    layer, norm = PackedProduct(kernels, rounded, bias), (draw(inputs), 1e-6)
    pairs, weight = PackedProduct(kernels, rounded, bias).pair(), rounded.weight()
    step = 0.3  # of one input, where another order of a sum rounds it to the next whole number
    checks = []
    for rows in (*range(1, 14), 113):
        x, residual = draw(rows, inputs), draw(rows, 70)
        x[1::2, rows % 51] *= 60  # which a row keeps as it is
        for ready, ours, limit in (
            (x, layer(x, residual=residual), 5e-3),
            (kernels.rms_norm(x, *norm), layer(x, norm=norm, residual=residual), step),
        ):
            kept = keeps(ready)
            quantised, scales = kernels.quantise(ready.masked_fill(kept, 0))
            sums = (quantised.float() - 128) @ weight.T * scales[:, None] + ready.masked_fill(~kept, 0) @ weight.T
            checks.append((ours, sums + bias + residual, limit))
        checks += [(pairs(x), layer(x), 0.0), (pairs(x, gated=True), kernels.swiglu(layer(x)), 1e-4)]
        checks.append((layer.largest(x, norm).float(), layer(x, norm=norm).argmax(-1).float(), 0.0))
    return checks


def _float_checks(
    kernels: Kernels, draw: Callable[..., torch.Tensor], bits: int, inputs: int
) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """The product of floats at every height of a block."""
    from batch.engines.torch.gemm import FloatProduct

    kind = torch.float32 if bits == 32 else torch.bfloat16
    weight, bias = (draw(*size).to(kind).float() for size in ((70, inputs), (70,)))
    layer, pairs = (FloatProduct(kernels, weight, bias, bits) for _ in range(2))
    pairs.pair()
    checks = []
    for rows in (*range(1, 14), 20, 60):
        x, norm, residual = draw(rows, inputs), (draw(inputs), 1e-6), draw(rows, 70)
        for ready, ours in (
            (x, layer(x, residual=residual)),
            (kernels.rms_norm(x, *norm), pairs(x, norm=norm, residual=residual)),
        ):
            sums = (ready.to(kind).double() @ weight.double().T).float()
            checks.append((ours, sums + bias + residual, 1e-3))
        checks += [(pairs(x), layer(x), 0.0), (pairs(x, gated=True), kernels.swiglu(layer(x)), 1e-4)]
        checks.append((layer.largest(x, norm).float(), layer(x, norm=norm).argmax(-1).float(), 0.0))
    return checks


def _stored_checks(
    kernels: Kernels, draw: Callable[..., torch.Tensor]
) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """Rows of halves of a float, and of blocks of eight bits (types 1 and 8), in panels of three."""
    checks, places = [], torch.tensor([4, 0, -1, 2, 2, 1])
    halves, steps = draw(5, 96).half(), draw(5, 3, 1).half()
    eight = (50 * draw(5, 3, 32)).clamp(-127, 127).to(torch.int8)
    blocks = torch.cat([steps.view(torch.uint8).view(5, 3, 2), eight.view(torch.uint8)], 2).flatten(1)
    for kind, raw, exact in (
        (1, halves.view(torch.uint8), halves.float()),
        (8, blocks, (eight.float() * steps.float()).flatten(1)),
    ):
        stored = (Stored * 1)(Stored(kind, 5, raw.numel(), raw.data_ptr()))
        kernels.read_stored(stored, places, 96, 3, out := torch.empty(2, 96, 3))
        wanted = exact[places].masked_fill((places < 0)[:, None], 0)
        checks.append((out.transpose(1, 2).flatten(0, 1), wanted, 0.0))
    return checks


def _state_checks(
    kernels: Kernels, draw: Callable[..., torch.Tensor]
) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """A step of states whose rates are one for a head, and of such as have one for each number."""
    checks = []
    for heads, wide, size, rates in ((6, 9, 40, -draw(6).abs()), (6, 1, 16, -draw(6, 16).abs())):
        state, x, steps = draw(3, heads, wide, size), draw(3, heads, wide), draw(3, heads).abs()
        b, c = draw(3, 2, size), draw(3, 2, size)
        near, far = (part.repeat_interleave(heads // 2, 1)[:, :, None] for part in (b, c))
        decay = (steps[..., None] * (rates if rates.dim() == 2 else rates[:, None])).exp()[:, :, None]
        moved = state * decay + (steps[..., None] * x)[..., None] * near
        out = kernels.state_step(state, x, steps, rates, b, c)
        checks += [(state, moved, 1e-4), (out, (moved * far).sum(-1), 1e-3)]
    return checks


def _attention_checks(
    kernels: Kernels, draw: Callable[..., torch.Tensor], size: int, dtype: torch.dtype
) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """What the kernels give, what torch gives, and how far apart they may be."""
    heads, kv_heads, page, prefix = 4, 2, kernels.page, 150  # which runs go through in more than one chunk
    # Three single tokens, a run of 40 tokens after a prefix, and one of 3 without.
    runs = [(2, 6, 1, 0), (0, 0, 1, -1), (1, 3, 1, 0), (4, 2, 40, 0), (3, 0, 3, -1)]
    at = Rows.of(runs, kernels.lanes // (heads // kv_heads), longest=prefix + 42)
    tokens = len(at.rows)
    own, shared = (
        [_filled(kernels, draw(count, kv_heads, page, size), dtype, values) for values in (False, True)]
        for count in (10, -(-prefix // page))
    )
    table = torch.tensor([[9, 1], [4, 0], [2, 7], [5, 6], [8, 3]])
    far = [part.transpose(0, 1).flatten(1, 2)[None] for part in shared]
    far = [(part if dtype is INT8 else part[:, :, :prefix]).contiguous() for part in far]
    cache = Columns(own[0], own[1], table, [(far[0], far[1])], [prefix])
    qkv, norms, angle = draw(tokens, 8 * size), (draw(size), draw(size), 1e-6), draw(tokens, size)
    rotary = angle.cos(), angle.sin()
    newest = at.lengths - 1
    pages, columns = cache.table[at.rows, newest // page], newest % page
    q = kernels.set_cache(qkv, norms, rotary, pages, columns, cache.keys, cache.values)
    parts = qkv.view(tokens, 8, size)
    turned = [
        _turned(torch.rms_norm(part, (size,), norm, 1e-6), rotary)
        for part, norm in zip(parts[:, :6].split([heads, kv_heads], 1), norms[:2], strict=True)
    ]
    # Of numbers below 16; of sums.
    rounding, near = {torch.float32: (1e-4, 1e-4), torch.bfloat16: (2**-4, 0.05), INT8: (0.08, 5e-3)}[dtype]
    keys, values = (_plain(part, size, values=i > 0) for i, part in enumerate(own))
    checks = [
        (q, turned[0], 1e-4),
        (keys[pages, :, columns], turned[1], rounding),
        (values[pages, :, columns], parts[:, 6:], rounding),
    ]
    kernels.write_pages(parts[:, :2].transpose(0, 1).contiguous().transpose(0, 1), pages, columns, cache.keys)
    both = zip(shared, own, (False, True), strict=True)
    plain = [tuple(_plain(part, size, values=values) for part in parts) for *parts, values in both]
    checks.append((plain[0][1][pages, :, columns], parts[:, :2], rounding))
    before = prefix * (at.which + 1)  # columns of each token's prefix
    ways = (
        (300, None, None, None),
        (30, None, draw(heads), None),
        (6, 2.0, None, None),
        (100, None, None, draw(heads) / 8),
    )
    for window, cap, sinks, slopes in ways:
        first = (before + at.lengths - window).clamp(min=0)
        out = torch.empty_like(q)
        kernels.attend(q, 0.3, cache, at, first, out, cap=cap, sinks=sinks, slopes=slopes)
        for t in range(tokens):
            seen = slice(int(first[t]), int(before[t] + at.lengths[t]))
            k, v = (
                torch.cat([_in_line(a)[:, : int(before[t])], _in_line(b[cache.table[at.rows[t]]])], 1)[:, seen]
                for a, b in plain
            )
            scores = q[t].view(kv_heads, 2, size) @ k.transpose(1, 2) * 0.3
            scores = scores if cap is None else cap * (scores / cap).tanh()
            if slopes is not None:
                scores = scores + slopes.view(kv_heads, 2, 1) * torch.arange(k.shape[1])
            if sinks is not None:
                scores = torch.cat([scores, sinks.view(kv_heads, 2, 1)], -1)
            shares = scores.softmax(-1)[..., : k.shape[1]]
            checks.append((out[t], (shares @ v).view(heads, size), near))
    return checks


def _filled(kernels: Kernels, x: torch.Tensor, dtype: torch.dtype, values: bool) -> torch.Tensor:
    """Pages of these numbers, [pages, heads, page, size]."""
    if dtype is not INT8:
        return x.to(dtype)
    count, heads, page, size = x.shape
    made = torch.zeros(count, heads, page, kernels.cell(dtype, size), dtype=dtype)
    places = torch.arange(count * page)
    kernels.write_pages(x.transpose(1, 2).flatten(0, 1), places // page, places % page, made, values=values)
    return made


def _plain(pages: torch.Tensor, size: int, *, values: bool) -> torch.Tensor:
    return unpacked(pages, size, values=values) if pages.dtype is INT8 else pages.float()


def _in_line(pages: torch.Tensor) -> torch.Tensor:
    """[pages, heads, page, size] to [heads, columns, size]."""
    return pages.transpose(0, 1).flatten(1, 2)


def _turned(x: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """x: [tokens, heads, size]."""
    a, b = x.chunk(2, -1)
    return x * rotary[0][:, None] + torch.cat([-b, a], -1) * rotary[1][:, None]


def main(path: str) -> int:
    """0 where they agree, WRONG where they do not; raises where there is no memory to see."""
    try:
        with torch.inference_mode():
            return 0 if agrees(Kernels(ctypes.CDLL(path))) else WRONG
    except (OSError, AttributeError, ValueError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        return WRONG


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
