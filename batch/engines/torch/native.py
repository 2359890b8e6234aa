"""The C sources beside this as functions over tensors: checked at every call, and used where they agree with torch.

How they are compiled, and when they are left alone, is in building.py. `AI_ROUTER_NATIVE=0` in the environment turns
them off.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from batch.engines.torch.building import found
from batch.engines.torch.structs import LETTERS

if TYPE_CHECKING:
    from batch.engines.torch.gemm import Product

CACHE_DTYPES = (torch.float32, torch.bfloat16, torch.uint8)  # in the order of kv_int8.h
INT8 = torch.uint8  # of a cache in eight bits, whose columns have steps beside their numbers
NO_MEMORY = -1  # of kernels.h
LARGE, ALIKE = 2**18, 16  # numbers from which on a product's rows are taken in multiples of so many

# Their arguments, as LETTERS has them.
_FUNCTIONS = {
    "rms_norm": "pipipifc",
    "swiglu": "piipic",
    "geglu": "piipic",
    "quantise": "pipipic",
    "rescale": "pipipic",
    "largest": "pipic",
    "attend": "piffpipicpipiiiipiippppippppippiipic",
    "set_cache": "pippifppippipicppiiiiic",
    "write_pages": "piiippiccpiiiic",
    "state_step": "pipipipippipiiiiiic",
    "packed_linear": "ppipifcpiipic",
    "packed_largest": "ppipifipic",
    "run_experts": "pippiipipic",
    "read_stored": "pipiiiipic",
    "run_layers": "pipiiippippicppii" + 5 * "ppi" + "ic",
}


def _room(rows: int, columns: int) -> torch.Tensor:
    """[rows, columns], not written to yet.

    A large vocabulary's logits come in sizes of a few kinds, so that what one step frees fits the next: in memory of
    any size, as rows come and go, each would lie beyond the last.
    """
    whole = rows if rows * columns < LARGE else -(-rows // ALIKE) * ALIKE
    return torch.empty(whole, columns)[:rows]


def span(x: torch.Tensor, dtype: torch.dtype = torch.float32) -> tuple[int, int]:
    """Where a tensor lies, and its elements; ValueError where it is of another kind or not in one piece."""
    if x.dtype is not dtype or not x.is_contiguous():
        raise ValueError(f"the native kernels want {dtype} in one piece, not {x.dtype} with strides {x.stride()}")
    return x.data_ptr(), x.numel()


def _optional(x: torch.Tensor | None) -> tuple[int | None, int]:
    return (None, 0) if x is None else span(x)


class Kernels:
    """The compiled functions over tensors: contiguous, on the CPU, float32 unless said otherwise.

    Each function is told how large all memory is that it was given, and touches none where that does not fit: then
    ValueError is raised, MemoryError where it has no room to work in.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._functions: dict[str, Any] = {}
        for name, letters in _FUNCTIONS.items():
            function = self._functions[name] = getattr(library, name)
            function.argtypes, function.restype = [LETTERS[letter] for letter in letters], ctypes.c_int

        def size(name: str) -> int:
            function = getattr(library, name)
            function.argtypes, function.restype = [], ctypes.c_int64
            return int(function())

        self.page = size("page_columns")  # columns of a page
        self.lanes = size("block_queries")  # most query heads a KV head
        self.largest_head = size("largest_head")
        self.panel = size("gemm_outputs")  # outputs that the product of few bits has in a panel; 0 where it is not
        self.float_panel = size("float_outputs")  # that of floats
        library.float_bits.argtypes, library.float_bits.restype = [ctypes.c_int64], ctypes.c_int
        self.pairs = bool(library.float_bits(16))  # whether there is one of bfloat16
        library.int8_cell.argtypes, library.int8_cell.restype = [ctypes.c_int64], ctypes.c_int64
        self._int8_cell = library.int8_cell
        self._block = library.stored_block
        self._block.argtypes, self._block.restype = [ctypes.c_int64], ctypes.c_int64

    def cell(self, dtype: torch.dtype, size: int) -> int:
        """What a head of so many numbers takes in a cache of that type, in elements of this."""
        return int(self._int8_cell(size)) if dtype is INT8 else size

    def _call(self, name: str, *arguments: Any) -> None:
        code = self._functions[name](*arguments)
        if code == NO_MEMORY:
            raise MemoryError(f"the native kernel {name} is out of memory")
        if code:
            raise ValueError(f"the native kernel {name} does not do these shapes (check {code})")

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """x: [..., n]; weight: [n]."""
        out = torch.empty_like(x)
        self._call("rms_norm", *span(x), *span(weight), *span(out), eps, torch.get_num_threads())
        return out

    def swiglu(self, x: torch.Tensor) -> torch.Tensor:
        """silu(gate) · up. x: [..., 2n], the gates first; returns [..., n]."""
        return self._gated("swiglu", x)

    def geglu(self, x: torch.Tensor) -> torch.Tensor:
        """gelu(gate) · up, with GELU's form by tanh; shapes as in `swiglu`."""
        return self._gated("geglu", x)

    def _gated(self, name: str, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[-1] // 2
        out = x.new_empty(*x.shape[:-1], n)
        self._call(name, *span(x), n, *span(out), torch.get_num_threads())
        return out

    def quantise(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows as uint8 around 128, and the scale of each. x: [rows, n]."""
        out, scales = torch.empty(x.shape, dtype=torch.uint8), torch.empty(x.shape[0])
        self._call("quantise", *span(x), *span(out, torch.uint8), *span(scales), torch.get_num_threads())
        return out, scales

    def rescale(self, x: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Each row times its scale, and the bias, in place. x: [rows, n]."""
        self._call("rescale", *span(x), *span(scales), *_optional(bias), torch.get_num_threads())

    def packed_linear(
        self,
        layer: Product,
        x: torch.Tensor,
        norm: tuple[torch.Tensor, float] | None,
        gated: bool,
        residual: torch.Tensor | None,
    ) -> torch.Tensor:
        """x: [rows, in]; returns [rows, out]. The rest as in `Product`."""
        rows = x.shape[0]
        out = _room(rows, layer.outputs // 2 if gated else layer.outputs)
        self._call(
            "packed_linear",
            *(ctypes.addressof(layer.described), *span(x), *((*span(norm[0]), norm[1]) if norm else (None, 0, 0.0))),
            *(gated, *_optional(residual), rows, *span(out), torch.get_num_threads()),
        )
        return out

    def packed_largest(self, layer: Product, x: torch.Tensor, norm: tuple[torch.Tensor, float]) -> torch.Tensor:
        """The place of each row's largest output, as `largest` gives it; int64, [rows]. x: [rows, in]."""
        out = torch.empty(x.shape[0], dtype=torch.int64)
        self._call(
            "packed_largest",
            *(ctypes.addressof(layer.described), *span(x), *span(norm[0]), norm[1]),
            *(x.shape[0], *span(out, torch.int64), torch.get_num_threads()),
        )
        return out

    def run_experts(
        self, experts: ctypes.Array[Any], index: torch.Tensor, shares: torch.Tensor, x: torch.Tensor, outputs: int
    ) -> torch.Tensor:
        """x: [tokens, in]; returns [tokens, outputs], of each the sum of what its experts say, by their shares.

        experts: of `Expert`, a product that is paired, and gated by silu, and the one after it; index: int64, [tokens,
        chosen], where one beyond the last says nothing; shares: [tokens, chosen].
        """
        out = torch.empty(len(x), outputs)
        which, told = span(index, torch.int64), span(shares)
        self._call(
            "run_experts",
            *(ctypes.addressof(experts), len(experts), which[0], told[0], _same([which, told]), index.shape[1]),
            *(*span(x), *span(out), torch.get_num_threads()),
        )
        return out

    def stored_block(self, kind: int) -> int:
        """Inputs of a block of weights of a type, by its number in ggml; 0 where `read_stored` does not know it."""
        return int(self._block(kind))

    def read_stored(
        self, stored: ctypes.Array[Any], places: torch.Tensor, inputs: int, panel: int, out: torch.Tensor
    ) -> None:
        """Rows of tensors of files, as floats in panels.

        stored: of `structs.Stored`; places: int64, for each output the number of its row through all of them, or -1 for
        zeros; out: float32, [places / panel, inputs, panel], or bfloat16, [places / panel, inputs / 2, panel, 2].
        """
        to, count = span(out, out.dtype)
        self._call(
            "read_stored",
            *(ctypes.addressof(stored), len(stored), *span(places, torch.int64), inputs, panel, 8 * out.itemsize),
            *(to, count * out.itemsize, torch.get_num_threads()),
        )

    def largest(self, x: torch.Tensor) -> torch.Tensor:
        """The place of each row's largest element, int64; -1 where that is not finite or one is NaN. x: [rows, n]."""
        out = torch.empty(x.shape[0], dtype=torch.int64)
        self._call("largest", *span(x), *span(out, torch.int64), torch.get_num_threads())
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
        [pages, KV heads, page, `cell` of size]. Returns the queries, [tokens, heads, size].
        """
        _, kv_heads, most, _ = keys.shape
        tokens, size = qkv.shape[0], rotary[0].shape[-1]
        heads = qkv.shape[1] // size - 2 * kv_heads
        q = qkv.new_empty(tokens, max(heads, 0), size)
        cosine, sine = (span(part) for part in rotary)
        places = [span(part, torch.int64) for part in (slots, columns)]
        cache = [span(part, keys.dtype) for part in (keys, values)]
        weights = [_optional(norm) for norm in (norms[:2] if norms else (None, None))]
        self._call(
            "set_cache",
            *(*span(qkv), weights[0][0], weights[1][0], _same(weights), norms[2] if norms else 0.0),
            *(cosine[0], sine[0], _same([cosine, sine]), places[0][0], places[1][0], _same([*places, (0, tokens)])),
            *(*span(q), CACHE_DTYPES.index(keys.dtype), cache[0][0], cache[1][0], _same(cache)),
            *(heads, kv_heads, size, most),
            torch.get_num_threads(),
        )
        return q

    def write_pages(
        self,
        x: torch.Tensor,
        slots: torch.Tensor,
        columns: torch.Tensor,
        pages: torch.Tensor,
        *,
        values: bool = False,
    ) -> None:
        """Each token's vectors, [tokens, heads, size] with any steps between them, to its page and the column in it.

        pages: of `CACHE_DTYPES`, [pages, heads, page, `cell` of size], `values` or keys, which lie otherwise in eight
        bits; slots, columns: int64, [tokens].
        """
        tokens, heads, size = x.shape
        if x.dtype is not torch.float32 or pages.dtype not in CACHE_DTYPES or (size > 1 and x.stride(2) != 1):
            raise ValueError(f"the native kernels do not write {x.dtype} with strides {x.stride()} to {pages.dtype}")
        held = x.untyped_storage().nbytes() // 4 - x.storage_offset()
        places = [span(part, torch.int64) for part in (slots, columns)]
        self._call(
            "write_pages",
            *(x.data_ptr(), held, x.stride(0), x.stride(1), places[0][0], places[1][0], _same([*places, (0, tokens)])),
            *(CACHE_DTYPES.index(pages.dtype), values, *span(pages, pages.dtype), heads, size, pages.shape[2]),
            torch.get_num_threads(),
        )

    def state_step(
        self,
        state: torch.Tensor,
        x: torch.Tensor,
        steps: torch.Tensor,
        rates: torch.Tensor,
        b: torch.Tensor,
        c: torch.Tensor,
    ) -> torch.Tensor:
        """A token's step of Mamba's states, in place; returns what they say, [rows, heads, wide].

        state: heads × wide × size numbers of each row; x: [rows, heads, wide]; steps: [rows, heads]; rates: [heads], or
        [heads, size]; b and c: [rows, size], or [rows, groups, size].
        """
        rows, heads, wide = x.shape
        out, size = torch.empty_like(x), state.shape[-1]
        groups = b.shape[1] if b.dim() == 3 else 1
        both = [span(part) for part in (b, c)]
        self._call(
            "state_step",
            *(*span(state), *span(x), *span(steps), *span(rates), both[0][0], both[1][0], _same(both), *span(out)),
            *(rows, heads, wide, size, groups, torch.get_num_threads()),
        )
        return out

    def attend(
        self,
        q: torch.Tensor,
        scale: float,
        cache: Columns,
        rows: Rows,
        first: torch.Tensor,
        out: torch.Tensor,
        *,
        cap: float | None = None,
        sinks: torch.Tensor | None = None,
        slopes: torch.Tensor | None = None,
    ) -> None:
        """Attention of tokens in line, each over its shared prefix and its own columns after it, from `first` on.

        q and out: [tokens, heads, size]; first: the first column that each token sees, of prefix and row together;
        cap: what scores are softened to; sinks: [heads], scores of nothing; slopes: [heads], what is added to a score
        for each place that a column is further on. At most `lanes` query heads a KV head, and keys and values of one
        size.
        """
        _, heads, size = q.shape
        keys, values = cache.keys, cache.values
        count = max(len(cache.prefixes), 1)
        far = [[span(part, keys.dtype) for part in parts] for parts in cache.prefixes]
        far_keys, far_values = ((ctypes.c_void_p * count)(*[parts[which][0] for parts in far]) for which in (0, 1))
        lengths = (ctypes.c_int64 * count)(*cache.lengths)
        counts = (ctypes.c_int64 * count)(*[_same(parts) for parts in far])
        own = [span(part, torch.int64) for part in (rows.rows, first, rows.lengths, rows.which)]
        blocks = [span(part, torch.int64) for part in (rows.begins, rows.ends)]
        self._call(
            "attend",
            *(*span(q), scale, cap or 0.0, *_optional(sinks), *_optional(slopes), CACHE_DTYPES.index(keys.dtype)),
            *(*span(keys, keys.dtype), *span(values, keys.dtype)),
            *(heads, keys.shape[1], size, span(cache.table, torch.int64)[0], *cache.table.shape),
            *(ctypes.addressof(part) for part in (far_keys, far_values, lengths, counts)),
            *(len(far), *(at for at, _ in own), _same(own)),
            *(*(at for at, _ in blocks), _same(blocks), rows.longest, *span(out), torch.get_num_threads()),
        )

    def run_layers(
        self,
        layers: ctypes.Array[Any],
        x: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor],
        places: tuple[torch.Tensor, torch.Tensor],
        cache: tuple[ctypes.Array[Any], torch.dtype, torch.Tensor],
        prefixes: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
        rows: Rows,
        firsts: list[torch.Tensor],
    ) -> None:
        """All layers of a step, in place.

        layers: of `Layer`; x: [tokens, hidden]; rotary: cosine and sine, [tokens, size]; places: the tokens' pages, and
        columns in them; cache: `Held` of each layer, the type of its numbers, and the pages of each row; prefixes:
        where their keys lie, and their values, [prefixes × layers], their lengths, and the elements that their keys
        have in a layer; firsts: the first column that each token sees, for each `reach` of the layers.
        """
        cosine, sine = (span(part) for part in rotary)
        slots, columns = (span(part, torch.int64) for part in places)
        held, dtype, table = cache
        keys, values, lengths, counts = (span(part, torch.int64) for part in prefixes)
        own = [span(part, torch.int64) for part in (rows.rows, rows.lengths, rows.which, *firsts)]
        blocks = [span(part, torch.int64) for part in (rows.begins, rows.ends)]
        seen = (ctypes.c_void_p * len(firsts))(*(at for at, _ in own[3:]))
        self._call(
            "run_layers",
            *(ctypes.addressof(layers), _same([(0, len(layers)), (0, len(held))]), *span(x), *x.shape),
            *(cosine[0], sine[0], _same([cosine, sine]), slots[0], columns[0], _same([slots, columns])),
            *(CACHE_DTYPES.index(dtype), ctypes.addressof(held), span(table, torch.int64)[0], *table.shape),
            *(keys[0], values[0], _same([keys, values]), lengths[0], counts[0], _same([lengths, counts])),
            *(own[0][0], ctypes.addressof(seen), len(firsts), own[1][0], own[2][0], _same(own)),
            *(*(at for at, _ in blocks), _same(blocks), rows.longest, torch.get_num_threads()),
        )


def _same(spans: list[tuple[Any, int]]) -> int:
    """The elements that all of them have; -1, which fits nothing, where they differ."""
    first = spans[0][1]
    return first if all(count == first for _, count in spans) else -1


@dataclass(slots=True)
class Columns:
    """A layer's cache, [pages, KV heads, page, cell], and its shared prefixes, [1, KV heads, columns, cell]."""

    keys: torch.Tensor
    values: torch.Tensor
    table: torch.Tensor  # the pages of each row, int64
    prefixes: list[tuple[torch.Tensor, torch.Tensor]]
    lengths: list[int] = field(default_factory=list)  # of prefixes, which in eight bits have whole pages


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
    def of(cls, runs: list[tuple[int, int, int, int]], block: int, longest: int) -> Rows:
        """From runs of tokens in line: row, columns before, tokens, place of the prefix; `block`: most tokens."""
        rows, lengths, which, begins, ends = ([], [], [], [], [])  # type: ignore[var-annotated]
        alone = False  # whether the last run was a single token
        for row, before, count, prefix in runs:
            at = len(rows)
            beside = alone and count == 1 and which[-1] == prefix and rows[-1] != row  # of one row each by itself
            if beside and at - begins[-1] < block:
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


_loaded: list[tuple[Kernels | None, str]] = []  # the kernels, or why there are none


def _load() -> tuple[Kernels | None, str]:
    if not _loaded:
        said = found()
        try:
            _loaded.append((Kernels(ctypes.CDLL(str(said.path))) if said.path else None, said.problem))
        except (OSError, AttributeError) as error:
            _loaded.append((None, f"the compiled kernels cannot be loaded: {error}"))
    return _loaded[0]


def kernels() -> Kernels | None:
    """The kernels; None where they cannot be had yet or at all, or are switched off: `why_not` says so."""
    return _load()[0]


def why_not() -> str:
    """Why there are no kernels, as a clause; "" where there are."""
    return _load()[1]


def origin() -> str:
    """Where the kernels are from, in words; "" without any."""
    return found().origin if kernels() is not None else ""


def forget() -> None:
    """Look for them again at the next call; for tests."""
    found.cache_clear()
    _loaded.clear()
