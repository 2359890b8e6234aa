"""The products of int8 and int4 alone: one row beside a plain read of the packed weights, 64 rows of both.

`python -m benchmarks products`. The weights are more than the caches hold, so that one row waits for memory as it does
in a large model; the plain read is a loop that adds up the same bytes in as many threads.
"""

from __future__ import annotations

import ctypes
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import Row, Skipped

INPUTS, OUTPUTS = 4096, 11_008  # of a layer of seven billion parameters
BYTES = 2**30  # of weights in four bits, more than any cache has
ROUNDS = 5
READ = """
#include <immintrin.h>
#include <stdint.h>
int64_t plain_read(const uint8_t *from, int64_t count, int threads) {
    int64_t sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
    {
        __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < count / 256; i++) {
            const uint8_t *at = from + 256 * i;
            a = _mm512_add_epi64(a, _mm512_loadu_si512(at)), b = _mm512_add_epi64(b, _mm512_loadu_si512(at + 64));
            c = _mm512_add_epi64(c, _mm512_loadu_si512(at + 128));
            d = _mm512_add_epi64(d, _mm512_loadu_si512(at + 192));
        }
        sum += _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, d)));
    }
    return sum;
}
"""


def measure(quick: bool) -> list[Row]:
    """Rows of the table."""
    import torch

    from batch.engines.torch.gemm import PackedProduct, round_weight
    from batch.engines.torch.native import kernels

    quick_loops = kernels()
    if quick_loops is None or not quick_loops.panel:
        raise Skipped("no VNNI product here")
    inputs, outputs = (256, 512) if quick else (INPUTS, OUTPUTS)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(outputs, inputs, generator=generator)
    layers: dict[int, list[PackedProduct]] = {}
    for bits in (4, 8):
        one = PackedProduct(quick_loops, round_weight(weight, bits), None)
        count = max(2, (2**20 if quick else BYTES) // _size(one))
        layers[bits] = [_copy(one) for _ in range(count)]
    read = _plain_read()
    times: dict[tuple[int, int], float] = {}
    plain: dict[int, float] = {}
    for bits, products in layers.items():
        for rows in (1, 64):
            x = torch.randn(rows, inputs, generator=generator)
            few = products if rows == 1 else products[:4]
            times[bits, rows] = _best(lambda x=x, few=few: [product(x) for product in few]) / len(few)  # type: ignore[misc]
        plain[bits] = _best(lambda products=products: [read(one) for one in products]) / len(products)  # type: ignore[misc]
    shares = {bits: plain[bits] / times[bits, 1] for bits in layers}
    beside = times[8, 64] / times[4, 64]
    rate = _size(layers[4][0]) / plain[4] / 1e9
    return [
        Row(
            "int4, one row: share of a plain read's speed",
            ">= 80 %",
            f"{shares[4]:.0%} of {rate:.1f} GB/s",
            shares[4] >= 0.8,
        ),
        Row("int8, one row: share of a plain read's speed", "", f"{shares[8]:.0%}", None),
        Row("int4, 64 rows: share of int8's speed", ">= 80 %", f"{beside:.0%}", beside >= 0.8),
        Row("int4, one row, beside int8's time", "", f"{times[8, 1] / times[4, 1]:.2f} x as fast", None),
    ]


def _size(product) -> int:  # type: ignore[no-untyped-def]
    return int(product.weight.numel() + 2 * product.steps.numel())


def _copy(product):  # type: ignore[no-untyped-def]
    from batch.engines.torch.gemm import PackedProduct

    parts = {name: getattr(product, name).clone() for name in ("weight", "steps", "offsets", "scale")}
    return PackedProduct.restored(product.kernels, product.bits, [product.outputs, product.inputs], False, parts)


def _best(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _plain_read():  # type: ignore[no-untyped-def]
    import torch

    compiler = shutil.which("cc")
    if compiler is None:
        raise Skipped("no C compiler for the plain read")
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "read.c"), Path(folder, "read.so")
        source.write_text(READ)
        flags = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
        loaded = ctypes.CDLL(str(library)).plain_read
    loaded.argtypes, loaded.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int], ctypes.c_int64
    threads = torch.get_num_threads()

    def read(product):  # type: ignore[no-untyped-def]
        for part in (product.weight, product.steps):
            loaded(part.data_ptr(), part.numel() * part.element_size(), threads)

    return read
