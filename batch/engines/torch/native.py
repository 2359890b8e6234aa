"""The C sources beside this, compiled once for this machine and used where they agree with torch; else there is torch.

`AI_ROUTER_NATIVE=0` in the environment turns it off.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from batch.engines.torch.gemm import Int8Product

SWITCH = "AI_ROUTER_NATIVE"
HERE = Path(__file__).parent
SOURCES = ("kernels.c", "attention.c", "gemm.c")
HEADERS = ("kernels.h", "pairs.h")
# Sums may be regrouped, which vectors need; NaN and infinity keep their meaning, so this is not -ffast-math.
FLAGS = (
    *("-O3", "-march=native", "-std=gnu11", "-fopenmp", "-shared", "-fPIC"),
    *("-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros"),
)
COMPILE_SECONDS = 60
LARGEST_HEAD = 1024  # of a key in kernels.c
LANES, PAGE = 32, 32  # QUERIES and COLUMNS of attention.c
CACHE_DTYPES = (torch.float32, torch.bfloat16)

_Pointer, _Int, _Float = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class _Shape(ctypes.Structure):
    _fields_ = [(name, _Int) for name in ("heads", "kv_heads", "size", "columns", "threads")]


class Kernels:
    """The compiled functions over tensors: float32, contiguous, on the CPU; nothing here checks that again."""

    def __init__(self, library: ctypes.CDLL) -> None:
        def function(name: str, *types: Any) -> Any:
            found = getattr(library, name)
            found.argtypes, found.restype = types, None
            return found

        p, i, f, c = _Pointer, _Int, _Float, ctypes.c_int
        self._rms_norm = function("rms_norm", p, p, p, i, i, f, ctypes.c_int)
        self._swiglu = function("swiglu", p, p, i, i, ctypes.c_int)
        self._quantise = function("quantise", p, p, p, i, i, ctypes.c_int)
        self._rescale = function("rescale", p, p, p, i, i, ctypes.c_int)
        self._largest = function("largest", p, p, i, i, ctypes.c_int)
        self._attend = function("attend", *(p, p, f, i, p, p, p, i, p, p, p, p, p, p, p, p, p, i, i, p))
        self._set = {
            torch.float32: function("set_f32", *(types := (p, p, p, p, f, p, p, p, p, i, p, p, p))),
            torch.bfloat16: function("set_bf16", *types),
        }
        self._int8_linear = function("int8_linear", *(p, p, p, p, i, i, p, p, f, c, c, p, i, p, p, p, c))
        self.panel = int(library.gemm_outputs())  # outputs that the int8 product packs together; 0 where it is not

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """x: [..., n]; weight: [n]."""
        out = torch.empty_like(x)
        n = x.shape[-1]
        self._rms_norm(x.data_ptr(), weight.data_ptr(), out.data_ptr(), x.numel() // n, n, eps, torch.get_num_threads())
        return out

    def swiglu(self, x: torch.Tensor) -> torch.Tensor:
        """silu(gate) · up. x: [..., 2n], the gates first; returns [..., n]."""
        n = x.shape[-1] // 2
        out = x.new_empty(*x.shape[:-1], n)
        self._swiglu(x.data_ptr(), out.data_ptr(), x.numel() // (2 * n), n, torch.get_num_threads())
        return out

    def quantise(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows as uint8 around 128, and the scale of each. x: [rows, n]."""
        rows, n = x.shape
        out, scales = torch.empty(rows, n, dtype=torch.uint8), torch.empty(rows)
        self._quantise(x.data_ptr(), out.data_ptr(), scales.data_ptr(), rows, n, torch.get_num_threads())
        return out, scales

    def rescale(self, x: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Each row times its scale, and the bias, in place. x: [rows, n]."""
        rows, n = x.shape
        self._rescale(
            x.data_ptr(),
            scales.data_ptr(),
            None if bias is None else bias.data_ptr(),
            rows,
            n,
            torch.get_num_threads(),
        )

    def int8_linear(
        self,
        layer: Int8Product,
        x: torch.Tensor,
        norm: tuple[torch.Tensor, float] | None,
        gated: bool,
        residual: torch.Tensor | None,
    ) -> torch.Tensor:
        """x: [rows, in]; returns [rows, out]. The rest as in `Int8Product`."""
        rows = x.shape[0]
        work = torch.empty(rows, layer.weight.shape[1] * 4, dtype=torch.uint8)
        scales, out = torch.empty(rows), torch.empty(rows, layer.outputs // 2 if gated else layer.outputs)
        self._int8_linear(
            *(layer.weight.data_ptr(), layer.scale.data_ptr(), layer.offsets.data_ptr()),
            *(None if layer.bias is None else layer.bias.data_ptr(), layer.inputs, layer.outputs, x.data_ptr()),
            *((norm[0].data_ptr(), norm[1]) if norm else (None, 0.0)),
            *(layer.paired, gated, None if residual is None else residual.data_ptr(), rows),
            *(work.data_ptr(), scales.data_ptr(), out.data_ptr(), torch.get_num_threads()),
        )
        return out

    def largest(self, x: torch.Tensor) -> torch.Tensor:
        """The place of each row's largest element, int64; -1 where that is not finite or one is NaN. x: [rows, n]."""
        out = torch.empty(x.shape[0], dtype=torch.int64)
        self._largest(x.data_ptr(), out.data_ptr(), *x.shape, torch.get_num_threads())
        return out

    def set_cache(
        self,
        qkv: torch.Tensor,
        norms: tuple[torch.Tensor, torch.Tensor, float] | None,
        rotary: tuple[torch.Tensor, torch.Tensor],
        slots: torch.Tensor,
        columns: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> torch.Tensor:
        """Norms of queries and keys, and the rotation; keys and values go to their pages, and the columns in them.

        qkv: [tokens, (heads + 2 KV heads) × size]; rotary: cosine and sine, [tokens, size]; keys and values: the cache,
        [pages, KV heads, PAGE, size]. Returns the queries, [tokens, heads, size].
        """
        _, kv_heads, most, size = keys.shape
        tokens = qkv.shape[0]
        heads = qkv.shape[1] // size - 2 * kv_heads
        q = qkv.new_empty(tokens, heads, size)
        shape = _Shape(heads, kv_heads, size, most, torch.get_num_threads())
        self._set[keys.dtype](
            ctypes.addressof(shape),
            qkv.data_ptr(),
            norms[0].data_ptr() if norms else None,
            norms[1].data_ptr() if norms else None,
            norms[2] if norms else 0.0,
            rotary[0].data_ptr(),
            rotary[1].data_ptr(),
            slots.data_ptr(),
            columns.data_ptr(),
            tokens,
            q.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
        )
        return q

    def attend(
        self, q: torch.Tensor, scale: float, cache: Columns, rows: Rows, first: torch.Tensor, out: torch.Tensor
    ) -> None:
        """Attention of tokens in line, each over its own columns from `first` on and its shared prefix.

        q and out: [tokens, heads, size]; first: the first column that each token sees. At most LANES query heads a KV
        head, and keys and values of one size.
        """
        _, heads, size = q.shape
        keys, values = cache.keys, cache.values
        shape = _Shape(heads, keys.shape[1], size, keys.shape[2], torch.get_num_threads())
        count = max(len(cache.prefixes), 1)
        far_keys = (_Pointer * count)(*[k.data_ptr() for k, _ in cache.prefixes])
        far_values = (_Pointer * count)(*[v.data_ptr() for _, v in cache.prefixes])
        lengths = (_Int * count)(*[k.shape[2] for k, _ in cache.prefixes])
        self._attend(
            *(ctypes.addressof(shape), q.data_ptr(), scale, keys.dtype == torch.bfloat16),
            *(keys.data_ptr(), values.data_ptr(), cache.table.data_ptr(), cache.table.shape[1]),
            *(ctypes.addressof(far_keys), ctypes.addressof(far_values), ctypes.addressof(lengths)),
            *(rows.rows.data_ptr(), first.data_ptr(), rows.lengths.data_ptr(), rows.which.data_ptr()),
            *(rows.begins.data_ptr(), rows.ends.data_ptr(), len(rows.begins), rows.longest, out.data_ptr()),
        )


@dataclass(slots=True)
class Columns:
    """A layer's cache, [pages, KV heads, PAGE, size], and its shared prefixes, [1, KV heads, length, size]."""

    keys: torch.Tensor
    values: torch.Tensor
    table: torch.Tensor  # the pages of each row, int64
    prefixes: list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(slots=True)
class Rows:
    """Where the tokens of a step are; tensors are int64."""

    rows: torch.Tensor  # of each token, in the table of pages
    lengths: torch.Tensor  # columns of the row that the token sees, its own the last; [tokens]
    which: torch.Tensor  # the place of its shared prefix, or -1; [tokens]
    begins: torch.Tensor  # blocks [begin, end): tokens of one row, or one each of several with the same prefix
    ends: torch.Tensor
    longest: int  # keys that a token sees, the prefix's included

    @classmethod
    def of(cls, runs: list[tuple[int, int, int, int]], group: int, longest: int) -> Rows:
        """From runs of tokens in line: row, columns before, tokens, place of the prefix."""
        rows, lengths, which, begins, ends = ([], [], [], [], [])  # type: ignore[var-annotated]
        block = LANES // group
        alone = False  # whether the last run was a single token
        for row, before, count, prefix in runs:
            at = len(rows)
            if alone and count == 1 and which[-1] == prefix and at - begins[-1] < block:
                ends[-1] += 1
            else:
                begins += range(at, at + count, block)
                ends += (min(begin + block, at + count) for begin in range(at, at + count, block))
            alone = count == 1
            rows += [row] * count
            lengths += range(before + 1, before + count + 1)
            which += [prefix] * count
        lists = (rows, lengths, which, begins, ends)
        tensors = [torch.tensor(values, dtype=torch.int64) for values in lists]
        return cls(tensors[0], tensors[1], tensors[2], tensors[3], tensors[4], longest)


@functools.cache
def kernels() -> Kernels | None:
    """The kernels, compiled if this machine has not done so yet; None where they cannot be had or are switched off."""
    if os.environ.get(SWITCH, "1") == "0":
        return None
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang"))), None)
    if compiler is None or os.name != "posix":
        return None
    try:
        library = _library(compiler)
        found = Kernels(ctypes.CDLL(str(library)))
        with torch.inference_mode():
            return found if _agrees(found) else None
    except (OSError, subprocess.SubprocessError, AttributeError):
        return None


def _library(compiler: str) -> Path:
    """The compiled file, in a folder that nobody else may write to."""
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=COMPILE_SECONDS, check=True).stdout
    flags = [*FLAGS, "-mprefer-vector-width=512"] if platform.machine() in ("x86_64", "AMD64") else list(FLAGS)
    text = b"".join((HERE / name).read_bytes() for name in (*HEADERS, *SOURCES))
    key = hashlib.sha256(text + version + repr((compiler, flags, _processor())).encode()).hexdigest()
    folder = _folder()
    library = folder / f"kernels-{key[:32]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / "kernels.so"
            command = [compiler, *flags, *(str(HERE / name) for name in SOURCES), "-o", str(made), "-lm"]
            subprocess.run(command, capture_output=True, timeout=COMPILE_SECONDS, check=True)
            made.replace(library)
    return library


def _folder() -> Path:
    import platformdirs

    folder = platformdirs.user_cache_path("ai-router") / "kernels"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(f"{folder} is open to others")
    return folder


def _processor() -> str:
    """What the code is compiled for: another machine may share the cache folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    except OSError:
        return platform.processor()


def _agrees(kernels: Kernels) -> bool:
    """Whether each function gives what torch gives."""
    from torch.nn import functional as F

    draw = functools.partial(torch.randn, generator=torch.Generator().manual_seed(0))
    x, weight = draw(5, 96), draw(96)
    rows, scales = kernels.quantise(x)
    kernels.rescale(back := rows.float() - 128, scales, weight)
    checks = [
        (kernels.rms_norm(x, weight, 1e-6), F.rms_norm(x, (96,), weight, 1e-6), 1e-5),
        (kernels.swiglu(30 * x), F.silu(30 * x[:, :48]) * (30 * x[:, 48:]), 1e-3),
        ((back - weight - x) / scales[:, None], torch.zeros(5, 96), 0.51),  # half a step
        (kernels.largest(x), x.argmax(-1), 0),
    ]
    if kernels.panel:
        checks += _product_checks(kernels, draw)
    for size in (64, 128, 24):
        for dtype in CACHE_DTYPES:
            checks += _attention_checks(kernels, draw, size, dtype)
    return all(bool(((ours - theirs).abs() <= limit).all()) for ours, theirs, limit in checks)


def _product_checks(
    kernels: Kernels, draw: Callable[..., torch.Tensor]
) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """The int8 product at every height of a block, beside the exact sums."""
    from batch.engines.torch.gemm import Int8Product

    weight, scale, bias = (40 * draw(70, 51)).clamp(-127, 127).to(torch.int8), draw(70).abs() / 100, draw(70)
    layer, norm = Int8Product(kernels, weight, scale, bias), (draw(51), 1e-6)
    pairs = Int8Product(kernels, weight, scale, bias).pair()
    step = 0.05  # of one input, where another order of a sum rounds it to the next whole number
    checks = []
    for rows in (*range(1, 14), 113):
        x, residual = draw(rows, 51), draw(rows, 70)
        for ready, ours, limit in (
            (x, layer(x, residual=residual), 1e-4),
            (kernels.rms_norm(x, *norm), layer(x, norm=norm, residual=residual), step),
        ):
            quantised, scales = kernels.quantise(ready)
            sums = (quantised.int() - 128) @ weight.int().T
            checks.append((ours, sums * scale * scales[:, None] + bias + residual, limit))
        checks += [(pairs(x), layer(x), 0.0), (pairs(x, gated=True), kernels.swiglu(layer(x)), 1e-4)]
    return checks


def _attention_checks(
    kernels: Kernels, draw: Callable[..., torch.Tensor], size: int, dtype: torch.dtype
) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """What the kernels give, what torch gives, and how far apart they may be."""
    heads, kv_heads = 4, 2
    # Three single tokens, a run of 40 tokens after a prefix of 7, and one of 3 without.
    runs = [(2, 6, 1, 0), (0, 0, 1, -1), (1, 3, 1, 0), (4, 2, 40, 0), (3, 0, 3, -1)]
    at = Rows.of(runs, heads // kv_heads, longest=7 + 42)
    tokens = len(at.rows)
    cache = Columns(
        draw(10, kv_heads, PAGE, size).to(dtype),
        draw(10, kv_heads, PAGE, size).to(dtype),
        torch.tensor([[9, 1], [4, 0], [2, 7], [5, 6], [8, 3]]),
        [(draw(1, kv_heads, 7, size).to(dtype), draw(1, kv_heads, 7, size).to(dtype))],
    )
    qkv, norms, angle = draw(tokens, 8 * size), (draw(size), draw(size), 1e-6), draw(tokens, size)
    rotary = angle.cos(), angle.sin()
    newest = at.lengths - 1
    pages, columns = cache.table[at.rows, newest // PAGE], newest % PAGE
    q = kernels.set_cache(qkv, norms, rotary, pages, columns, cache.keys, cache.values)
    parts = qkv.view(tokens, 8, size)
    turned = [
        _turned(torch.rms_norm(part, (size,), norm, 1e-6), rotary)
        for part, norm in zip(parts[:, :6].split([heads, kv_heads], 1), norms[:2], strict=True)
    ]
    rounding, near = (1e-4, 1e-4) if dtype == torch.float32 else (2**-4, 0.05)  # of numbers below 16; of sums
    checks = [
        (q, turned[0], 1e-4),
        (cache.keys[pages, :, columns].float(), turned[1], rounding),
        (cache.values[pages, :, columns].float(), parts[:, 6:], rounding),
    ]
    first = (at.lengths - 30).clamp(min=0)
    out = torch.empty_like(q)
    kernels.attend(q, 0.3, cache, at, first, out)
    for t in range(tokens):
        own = slice(int(first[t]), int(at.lengths[t]))
        k, v = (
            torch.cat(
                [
                    far[0][:, : 7 * (int(at.which[t]) + 1)],
                    own_pages[cache.table[at.rows[t]]].transpose(0, 1).flatten(1, 2)[:, own],
                ],
                1,
            ).float()
            for far, own_pages in zip(cache.prefixes[0], (cache.keys, cache.values), strict=True)
        )
        scores = q[t].view(kv_heads, 2, size) @ k.transpose(1, 2) * 0.3
        checks.append((out[t], (scores.softmax(-1) @ v).view(heads, size), near))
    return checks


def _turned(x: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """x: [tokens, heads, size]."""
    a, b = x.chunk(2, -1)
    return x * rotary[0][:, None] + torch.cat([-b, a], -1) * rotary[1][:, None]
