"""Attention of a long prompt over caches of floats and of eight bits, in each library of a wheel that runs here.

`python -m benchmarks attention`. 128 tokens behind 1,800 columns, one thread, by its processor time. A library whose
vectors do not fit the registers of its processors shows itself beside its own cache in eight bits, whose loops are
others. Each one is compiled first, a minute for two cores.
"""

from __future__ import annotations

import ctypes
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import Row, Skipped

BEFORE, NEW, HEADS = 1800, 128, 2  # columns, tokens, heads of keys
SHAPES = ((3, 64), (7, 64), (4, 128))  # query heads a head of keys, size; the second has no code of its own
ROUNDS = 5
MOST = 2.0  # of the time over eight bits


def measure(quick: bool) -> list[Row]:
    """Rows of the table."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            row
            for level, kernels in _libraries(quick)
            for group, size in (SHAPES[:1] if quick else SHAPES)
            for row in _rows(level, kernels, group, size, 20 if quick else BEFORE)
        ]
    finally:
        torch.set_num_threads(threads)


def _libraries(quick: bool) -> Iterator[tuple[str, Any]]:
    """Each level's, or with `quick` the one that is there."""
    from batch.engines.local import processor
    from batch.engines.torch import native, recipe

    if quick:
        if (there := native.kernels()) is None:
            raise Skipped(f"no native kernels: {native.why_not()}")
        yield "here", there
        return
    compiler, features = shutil.which("cc"), processor.features()
    if compiler is None:
        raise Skipped("no C compiler")
    for level in recipe.levels():
        if level.needs <= set(features):
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder)
                made = recipe.build(compiler, recipe.flags(level.flags), place / "parts", place)
                yield level.name, native.Kernels(ctypes.CDLL(str(made)))


def _rows(level: str, kernels: Any, group: int, size: int, before: int) -> list[Row]:
    import torch

    from batch.engines.torch.native import CACHE_DTYPES, Columns, Rows

    generator = torch.Generator().manual_seed(size)
    count = before + NEW
    pages = -(-count // kernels.page)
    columns = torch.arange(count)
    table, none = torch.arange(pages).view(1, -1), torch.zeros(NEW, dtype=torch.int64)
    q, out = torch.randn(NEW, HEADS * group, size, generator=generator), torch.empty(NEW, HEADS * group, size)
    numbers = [torch.randn(count, HEADS, size, generator=generator) for _ in range(2)]
    rows = Rows.of([(0, before, NEW, -1)], kernels.lanes // group, longest=count)
    times: dict[Any, float] = {}
    for dtype in CACHE_DTYPES:
        held = []
        for values, x in enumerate(numbers):
            held.append(torch.zeros(pages, HEADS, kernels.page, kernels.cell(dtype, size), dtype=dtype))
            kernels.write_pages(x, columns // kernels.page, columns % kernels.page, held[-1], values=bool(values))
        cache = Columns(held[0], held[1], table, [], [])
        for _ in range(ROUNDS):
            start = time.thread_time()
            kernels.attend(q, size**-0.5, cache, rows, none, out)
            times[dtype] = min(times.get(dtype, 1e9), time.thread_time() - start)
    least = times[torch.uint8]
    return [
        Row(
            f"{level}: attention over {dtype}, {group} x {size}".replace("torch.", ""),
            f"<= {MOST:g} x uint8's" if dtype != torch.uint8 else "",
            f"{found * 1e3:.1f} ms, {found / least:.2f} x",
            found <= MOST * least if dtype != torch.uint8 else None,
        )
        for dtype, found in times.items()
    ]
