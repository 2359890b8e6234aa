"""The KV cache of packed steps with the native kernels: pages that rows take as they grow, as in vLLM (Kwon 2023)."""

from __future__ import annotations

import contextlib
import math

import numpy
import torch

from batch.engines.torch.mapped import Mapped
from batch.engines.torch.native import INT8, Kernels
from batch.engines.torch.slots import Prefix, SlotCache

FIRST = 64  # pages to begin with
FEW = 4  # rows, for which large pages would take far more memory than they ever write to
MOST = 2**32  # a limit of more says that none is known yet


class PageCache(SlotCache):
    """All layers, [pages, heads, page, head size]; `table` says which pages row i has.

    No key is ever moved: a row gives its pages back when it goes. Address space is taken for all pages within the limit
    at once, memory only as they are written to, in large pages where the system has them: reading many short rows is
    bound by looking up addresses.

    `layers`: of a model whose layers all keep alike. What these have in a page then lies together, so that no layer has
    a large page of its own that is written to in part: a page has a place for each layer's keys and for its values, and
    a layer's keys begin at its first one, `apart` places from each other. 0 where that is not known.
    """

    def __init__(self, dtype: torch.dtype | None, rows: int, kernels: Kernels, layers: int = 0) -> None:
        super().__init__(dtype, rows)
        self._kernels = kernels
        self.columns = self.page = kernels.page
        self.table = numpy.zeros((0, 0), dtype=numpy.int64)  # places, [rows, most pages of a row]
        self._taken: list[int] = []  # pages of each row
        self._free: list[int] = []  # places; the last given back is the next taken: the processor may still hold it
        self.apart = 2 * layers or 1
        self._together: Mapped | None = None  # of all layers
        self._given = 0  # places of a page that are some layer's

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Memory that is taken as it is written to."""
        unit = math.prod(shape[1:]) * dtype.itemsize
        if not unit or not shape[0]:
            return torch.zeros(shape, dtype=dtype)
        large = self.rows > FEW
        if self.apart == 1:
            return Mapped(shape[0] * unit, large=large).bytes.view(dtype).view(shape)
        if self._together is None:
            self._together, self._given = Mapped(shape[0] * self.apart * unit, large=large), 0
        if self._given == self.apart or len(self._together.bytes) != shape[0] * self.apart * unit:
            raise ValueError("the layers do not keep alike")
        places = (shape[0] - 1) * self.apart + 1
        first, self._given = self._given * unit, self._given + 1
        return self._together.bytes[first : first + places * unit].view(dtype).view(places, *shape[1:])

    def cells(self, sizes: tuple[int, int]) -> tuple[int, int]:
        """As it is; in eight bits with their steps. ValueError where those are of no use."""
        if self.dtype is not INT8:
            return sizes
        if sizes[0] != sizes[1]:
            raise ValueError("keys and values in eight bits are of one size each")
        cell = self._kernels.cell(INT8, sizes[0])
        return cell, cell

    def takes(self, tokens: int) -> int:
        """The columns of the pages that so many tokens need."""
        return -(-tokens // self.page) * self.page

    def has_room(self, rows: int) -> bool:
        """Whether so many rows could have one page more each within the limit."""
        return sum(self._taken) + rows <= self.limit // self.page

    def grow(self, needed: list[int]) -> None:
        """Pages for this many columns of each row."""
        most = -(-max(needed, default=0) // self.page)
        rows, width = self.table.shape
        if len(needed) > rows or most > width:
            bigger = numpy.zeros((max(len(needed), self.rows, rows), max(2 * width, most)), dtype=numpy.int64)
            bigger[:rows, :width] = self.table
            self.table = bigger
        self._taken += [0] * (len(needed) - len(self._taken))
        for row, columns in enumerate(needed):
            for place in range(self._taken[row], -(-columns // self.page)):
                if not self._free:
                    self._extend()
                self.table[row, place] = self._free.pop()
                self._taken[row] += 1

    def place(self, rows: list[int], columns: list[int], device: torch.device) -> None:
        """Where the tokens of the next pass are written to: a page, and the column in it."""
        self.reading = None
        at = numpy.asarray(columns)
        pages = self.table[numpy.asarray(rows), at // self.page]
        self.writes = (torch.from_numpy(pages), torch.from_numpy(at % self.page))

    def put(self, held: torch.Tensor, new: torch.Tensor, *, values: bool = False) -> None:
        """Write what a pass's tokens have, [tokens, heads, size], into a layer's keys or values."""
        new = new.float()
        x = new if new.stride(2) == 1 else new.contiguous()
        self._kernels.write_pages(x, *self.writes, held, values=values)

    def drop(self, row: int, last: int) -> None:
        """Give a row's pages back; the last row's place in the table goes into the gap.

        Whatever they hold may stay: the kernel reads no column that its row has not written.
        """
        self._free += self.table[row, : self._taken[row]][::-1].tolist()
        self.table[row] = self.table[last]
        self._taken[row] = self._taken[last]
        self._taken.pop()

    def take_prefix(self, row: int, length: int) -> Prefix:
        """The first tokens of a row as a prefix to share."""
        pages = torch.from_numpy(self.table[row, : -(-length // self.page)])

        def together(cached: torch.Tensor) -> torch.Tensor:
            found = cached[pages].transpose(0, 1).flatten(1, 2)  # [heads, columns, size]
            whole = cached.dtype is INT8  # whose pages are no columns one after the other
            return (found if whole else found[:, :length]).unsqueeze(0).contiguous()

        return self.prefix(length, together)

    def _extend(self) -> None:
        """More pages: all that the limit allows; or twice as many where it is not known, is reached or is too much."""
        if not self._extend_to_limit():
            self._resize(max(FIRST, 2 * self.slots))

    def _extend_to_limit(self) -> bool:
        if self.slots < self.limit // self.page < MOST:
            with contextlib.suppress(MemoryError):  # address space may be limited too
                self._resize(self.limit // self.page)
                return True
        return False

    def _resize(self, pages: int) -> None:
        """This many pages in all, or as before where there is no memory for them."""
        had, self.slots = self.slots, pages
        before, self._together = self._together, None
        held = sorted(((layer, layer.keys, layer.values) for layer in self.kept()), key=lambda own: own[1].data_ptr())
        try:
            for layer, keys, _ in held:
                layer.allocate(layer.heads, layer.sizes, keys)
        except MemoryError:
            self.slots, self._together, self._given = had, before, 2 * len(held)
            for layer, keys, values in held:
                layer.keys, layer.values = keys, values
            raise
        if before is not None and self._together is not None:
            before.move_to(self._together, len(before.bytes))
            held.clear()
        while held:  # each is let go once it is copied, so that only one is there twice
            layer, keys, values = held.pop()
            layer.keys[:had], layer.values[:had] = keys, values
        self._free = [*range((pages - 1) * self.apart, (had - 1) * self.apart, -self.apart), *self._free]
