"""The KV cache of packed steps without the native kernels: a slot a row for what is its own; and shared prefixes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import torch

from batch.engines.torch.latents import Latents

C = TypeVar("C", bound="SlotCache")
ROUND = 64  # columns are allocated in multiples of this


@dataclass(slots=True, eq=False)
class Prefix:
    """Keys and values of tokens that prompts begin with, computed once. Shapes: [1, heads, length, head size]."""

    length: int
    layers: list[tuple[torch.Tensor, torch.Tensor]]
    users: int = 0  # running rows
    pointers: Any = None  # where the kernels find it; kept by stacked.py
    states: dict[Any, torch.Tensor] = field(default_factory=dict)  # of layers that have some, after its tokens
    extra: int = 0  # what those take, as tokens


class PlacedLayer:
    """A layer whose tokens are written where the step says: the model is asked neither for masks nor for positions."""

    is_sliding = False  # old columns are hidden by the mask
    keys: Any = None  # a tensor, as the values
    values: Any = None

    def __init__(self) -> None:
        self.is_initialized = False  # keys and values are there then

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """What a mask would span; none is made."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Positions are given to the model, never counted from here."""
        return 0

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1

    get_max_cache_shape = get_max_length  # its name in transformers 5.0


class SlotLayer(PlacedLayer):
    """Keys and values of one layer. Shapes: [slots, heads, columns, head size]; a row's own tokens begin at 0."""

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()
        self.cache = cache
        self.heads, self.sizes = 0, (0, 0)  # of a key, and of a value
        # The step's keys and values, as the model gave them to the cache.
        self.fresh: tuple[torch.Tensor, torch.Tensor] = (torch.empty(0), torch.empty(0))
        self._repeated: bool | None = None  # whether what is attended to is no more than those, repeated

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate for states of this shape, [batch, heads, tokens, head size]."""
        self.allocate(key_states.shape[1], (key_states.shape[3], value_states.shape[3]), key_states)

    def allocate(self, heads: int, sizes: tuple[int, int], like: torch.Tensor) -> None:
        """Zeroed: what a mask hides must still be a number."""
        cache = self.cache
        self.heads, self.sizes = heads, sizes
        self.keys, self.values = (
            cache.zeros((cache.slots, heads, cache.columns, cell), cache.dtype or like.dtype, like.device)
            for cell in cache.cells(sizes)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Hear of the step's tokens; the attention function writes what it sees of them, and reads the slots itself."""
        if self.cache.reading is not None:
            raise ValueError("a layer before this one attends in a way of its own")
        self.fresh = key_states, value_states
        self.cache.reading = self
        return self.fresh

    def write(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """The step's tokens to their slots, [rows, heads, tokens, size]; values of no elements are in the keys."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self.cache.put(self.keys, keys.transpose(1, 2).flatten(0, 1))
        if values.shape[-1]:
            self.cache.put(self.values, values.transpose(1, 2).flatten(0, 1), values=True)

    def unrepeated(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What to keep of the keys and values that are attended to: once what is only repeated for a group of heads."""
        if self._repeated is None:
            self._repeated = all(map(_repeats, self.fresh, (keys, values)))
        return self.fresh if self._repeated else (keys, values)


class SlotCache:
    """All layers: a rectangle of slots, and row i has slot i.

    `dtype`: of keys and values, None for the model's own; `rows`: how many there will be at most.
    """

    def __init__(self, dtype: torch.dtype | None, rows: int) -> None:
        self.dtype = dtype
        self.rows = rows
        self.limit = 2**62  # tokens to hold; one row may always be as long as it is
        self.slots = self.columns = 0
        self.writes: tuple[torch.Tensor, torch.Tensor] = (torch.empty(0), torch.empty(0))  # slot, column of each token
        self.reading: SlotLayer | None = None  # the layer whose attention comes next
        self.at = 0  # its place
        self._latents: dict[int, Latents | None] = {}  # by layer
        self._bias: torch.Tensor | None = None  # [heads, columns]
        self._slopes: torch.Tensor | None = None  # [heads]
        self.layers: list[Any] = []  # those with keys and values are `SlotLayer`s

    def kept(self) -> Iterator[SlotLayer]:
        """The layers that hold keys and values by now."""
        yield from (layer for layer in self.layers if isinstance(layer, SlotLayer) and layer.is_initialized)

    def new_layer(self) -> SlotLayer:
        """A layer without memory."""
        return SlotLayer(self)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's, as a model calls it."""
        while len(self.layers) <= layer_idx:
            self.layers.append(self.new_layer())
        layer: SlotLayer = self.layers[layer_idx]
        self.at = layer_idx
        return layer.update(key_states, value_states, *args, **kwargs)

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Memory for a layer."""
        return torch.zeros(shape, dtype=dtype, device=device)

    def layer(self, index: int, heads: int, size: int, like: torch.Tensor) -> SlotLayer:
        """A layer, allocated; for who writes to it without `update`."""
        while len(self.layers) <= index:
            self.layers.append(self.new_layer())
        layer: SlotLayer = self.layers[index]
        if not layer.is_initialized:
            layer.allocate(heads, (size, size), like)
        return layer

    def of(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[int, SlotLayer]:
        """The layer that was given these very keys and values in this step; ValueError where there is none."""
        for index, layer in enumerate(self.layers):
            if isinstance(layer, SlotLayer) and layer.fresh[0] is keys and layer.fresh[1] is values:
                return index, layer
        raise ValueError("a layer attends to what no layer keeps")

    def latents(self, index: int, make: Callable[[], Latents | None]) -> Latents | None:
        """What turns a layer's latents into keys and values, made once; None where it keeps those."""
        if index not in self._latents:
            self._latents[index] = make()
        return self._latents[index]

    def bias(self, columns: int, make: Callable[[int], torch.Tensor]) -> torch.Tensor:
        """What is added to the scores of at least so many columns, the same in all layers."""
        if self._bias is None or self._bias.shape[1] < columns:
            self._bias = make(max(2 * columns, 4 * ROUND))
        return self._bias

    def slopes(self, make: Callable[[int], torch.Tensor]) -> torch.Tensor:
        """What is added to scores for each further column, [heads]; ValueError where it is not the same for all."""
        if self._slopes is None:
            bias = make(ROUND).float()
            slopes = (bias[:, -1] - bias[:, 0]) / (ROUND - 1)
            near = 1e-6 * max(1.0, float(bias.abs().max()))  # what float32 itself rounds away
            if not torch.allclose(bias - bias[:, :1], slopes[:, None] * torch.arange(ROUND), rtol=1e-4, atol=near):
                raise ValueError("what is added to the scores is no slope")
            self._slopes = slopes.contiguous()
        return self._slopes

    def cells(self, sizes: tuple[int, int]) -> tuple[int, int]:
        """Numbers that a column takes for a key and for a value of these sizes."""
        return sizes

    def takes(self, tokens: int) -> int:
        """The columns that so many tokens of a row take."""
        return tokens

    def grow(self, needed: list[int]) -> None:
        """Room for this many columns of each row."""
        slots, columns = len(needed), max(needed, default=0)
        if max(slots, self.rows) * columns <= self.limit:
            self._reserve(max(slots, self.rows), columns)
        else:
            self._reserve(slots, columns, exactly=True)

    def place(self, rows: list[int], columns: list[int], device: torch.device) -> None:
        """Where the tokens of the next pass are written to."""
        self.reading = None
        self.writes = (torch.tensor(rows, device=device), torch.tensor(columns, device=device))

    def put(self, held: torch.Tensor, new: torch.Tensor, *, values: bool = False) -> None:
        """Write what a pass's tokens have, [tokens, heads, size], into a layer's keys or values."""
        slot, column = self.writes
        held[slot, :, column] = new.to(held.dtype)

    def drop(self, row: int, last: int) -> None:
        """Give up a row; the `last` one moves into the gap.

        Free slots hold zeros: what is not a number would spread to the next tenant, hidden by its mask or not.
        """
        for layer in self.kept():
            for tensor in (layer.keys, layer.values):
                if row != last:
                    tensor[row] = tensor[last]
                tensor[last].zero_()

    def take_prefix(self, row: int, length: int) -> Prefix:
        """The first tokens of a row as a prefix to share."""
        return self.prefix(length, lambda cached: cached[row : row + 1, :, :length].clone())

    def prefix(self, length: int, take: Callable[[torch.Tensor], torch.Tensor]) -> Prefix:
        """What is taken of each layer's keys and values as a prefix."""
        nothing, held = torch.empty(0), set(self.kept())
        parts = [
            (take(layer.keys), take(layer.values)) if layer in held else (nothing, nothing) for layer in self.layers
        ]
        return Prefix(length, parts)

    def bytes_per_token(self) -> int:
        """What one column of one slot takes in all layers; 0 before the first forward pass."""
        return sum(
            t.shape[1] * t.shape[3] * t.element_size() for layer in self.kept() for t in (layer.keys, layer.values)
        )

    def _reserve(self, slots: int, columns: int, *, exactly: bool = False) -> None:
        """Make room for that many slots and columns; columns far beyond are given back, `exactly`: slots as well."""
        least = -(-columns // ROUND) * ROUND
        slots = slots if exactly else max(slots, self.slots)
        enough = least <= self.columns <= least + 2 * ROUND
        if slots == self.slots and (least == self.columns if exactly else enough):
            return
        rows, width = min(slots, self.slots), min(least, self.columns)
        self.slots, self.columns = slots, self.columns if enough and not exactly else least
        self._move(rows, width)

    def _move(self, rows: int, width: int) -> None:
        """The layers into new memory, with what the first rows have in their first columns."""
        for layer in self.kept():
            old = layer.keys, layer.values
            layer.allocate(layer.heads, layer.sizes, old[0])
            for new, kept in zip((layer.keys, layer.values), old, strict=True):
                new[:rows, :, :width] = kept[:rows, :, :width]


def _repeats(held: torch.Tensor, seen: torch.Tensor) -> bool:
    """Whether it is the same, each head once or several times in line; [1, heads, tokens, size]."""
    if seen is held:
        return True
    times, rest = divmod(seen.shape[1], held.shape[1])
    return not rest and torch.equal(held.repeat_interleave(times, dim=1), seen)


def cache_for(model: Any, kind: type[C]) -> type[C]:
    """That kind of cache as this model asks for it: transformers' own classes ask for a `Cache`."""
    from batch.engines.torch.lean.model import LeanModel

    known: Any = _as_known  # what remembers takes no type that is given by name alone
    made: type[C] = kind if isinstance(model, LeanModel) else known(kind)
    return made


@cache
def _as_known(kind: Any) -> Any:
    from transformers.cache_utils import Cache, CacheLayerMixin

    class KnownLayer(SlotLayer, CacheLayerMixin):  # type: ignore[misc]
        """A layer as transformers knows one."""

    class KnownCache(kind, Cache):  # type: ignore[misc]
        """All layers, as transformers knows them."""

        def __init__(self, *args: Any) -> None:
            Cache.__init__(self, layer_class_to_replicate=self.new_layer)
            kind.__init__(self, *args)

        def new_layer(self) -> SlotLayer:
            """A layer without memory."""
            return KnownLayer(self)

    return KnownCache
