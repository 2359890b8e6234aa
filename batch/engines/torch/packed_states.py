"""Packed steps of models with recurrent state: attention as in any packed step, the states stacked row upon row.

A state has no mask that would hide padding, so the tokens of a pass are a rectangle without any: the rows of a pass
have the same number of tokens each. Prompts go in by pieces of which many rows have the same; where a model cannot go
on from a state by several tokens (Mamba's first kind), token by token beside the rows that decode. What prompts begin
with is computed once: its states are copied to each row, and its keys and values shared.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import torch
from transformers import cache_utils

from batch.engines.torch import recurrent
from batch.engines.torch.native import INT8
from batch.engines.torch.packed import PackedRunner, decodes
from batch.engines.torch.packed_native import NativePackedRunner
from batch.engines.torch.packed_plain import PlainPackedRunner
from batch.engines.torch.sequence import Sequence
from batch.engines.torch.single import CACHES
from batch.engines.torch.slots import Prefix, SlotCache, SlotLayer
from batch.engines.torch.states import KNOWN
from batch.engines.torch.turns import forward_options

_Linear: Any = getattr(cache_utils, "LinearAttentionLayer", None)  # not in transformers before 5.3
_Both: Any = getattr(cache_utils, "LinearAttentionAndFullAttentionLayer", object)
PASS_TOKENS = 1024  # of prompts, at most
PIECE = 256
CHUNK = 6  # the longest chunk of Mamba-2 in a pass, as a power of two
TRIED = (13, 2)  # tokens of the pieces that show whether a state can be gone on from: few, before it is forgotten
NEAR, ROUNDED = 1e-3, 3e-2  # of the largest number of each kind; the latter where keys and values are rounded
PREFIXES = 4  # rows for which one prefix's states are kept
Key = tuple[int, str, int]  # of a state: its layer, kind and number


class BothLayer(SlotLayer, _Both):  # type: ignore[misc]
    """A layer with keys and values and with states."""

    def __init__(self, cache: SlotCache, states: int) -> None:
        _Linear.__init__(self, number_of_states=states)
        SlotLayer.__init__(self, cache)

    def lazy_initialization(self, *args: Any, **kwargs: Any) -> None:
        """Keys and values come by place, states by name."""
        (SlotLayer if args else _Linear).lazy_initialization(self, *args, **kwargs)


class RowStates:
    """The states of all rows in all layers; the layers see those of the rows of a pass."""

    def __init__(self, layers: list[Any], most: int) -> None:
        self._layers = [layer for layer in layers if isinstance(layer, _Linear)]
        if not self._layers:
            raise TypeError("no layer with a state")
        self._most = most  # rows
        self._held: dict[Key, torch.Tensor] = {}  # [rows, …]
        self._bytes = 0

    def bytes_per_row(self) -> int:
        """What those of a row take; 0 before the first pass."""
        found = sum(held.shape[1:].numel() * held.element_size() for held in self._held.values())
        self._bytes = max(self._bytes, found)
        return self._bytes

    def enter(self, rows: list[int], *, fresh: bool) -> None:
        """Show the layers the states of these rows, or none yet."""
        in_line = rows == list(range(len(rows)))
        for place, layer in enumerate(self._layers):
            for kind, number, states, initialized in _kinds(layer):
                held = None if fresh else self._held.get((place, kind, number))
                states[number] = None if held is None else held[: len(rows)] if in_line else held[rows]
                initialized[number] = held is not None
                layer.has_previous_state[number] = not fresh

    def leave(self, rows: list[int]) -> None:
        """Keep what the layers have now."""
        in_line = rows == list(range(len(rows)))
        for place, layer in enumerate(self._layers):
            for kind, number, states, _ in _kinds(layer):
                found = states[number]
                if found is None:
                    continue
                held = self._room((place, kind, number), max(rows) + 1, found)
                if not (in_line and found.data_ptr() == held.data_ptr()):
                    held[rows] = found
                states[number] = None

    def copy(self, source: int, target: int) -> None:
        """Put one row in another's place."""
        for held in self._held.values():
            held[target] = held[source]

    def take(self, row: int) -> dict[Key, torch.Tensor]:
        """A copy of a row's."""
        return {key: held[row].clone() for key, held in self._held.items()}

    def put(self, row: int, taken: dict[Key, torch.Tensor]) -> None:
        """Give a row such a copy."""
        for key, states in taken.items():
            self._room(key, row + 1, states.unsqueeze(0))[row] = states

    def forget(self) -> None:
        """There are no rows."""
        self.bytes_per_row()
        self._held.clear()

    def _room(self, key: Key, rows: int, like: torch.Tensor) -> torch.Tensor:
        held = self._held.get(key)
        had = 0 if held is None else len(held)
        if held is None or had < rows:
            bigger = like.new_zeros(max(rows, min(2 * had, self._most)), *like.shape[1:])
            if held is not None:
                bigger[:had] = held
            self._held[key] = held = bigger
        return held


def _kinds(layer: Any) -> Iterator[tuple[str, int, dict[int, Any], dict[int, bool]]]:
    for kind in ("conv", "recurrent"):
        states, initialized = getattr(layer, f"{kind}_states"), getattr(layer, f"is_{kind}_states_initialized")
        for number in range(layer.number_of_states):
            yield kind, number, states, initialized


class StatesMixin(PackedRunner):
    """What a packed runner does otherwise where layers have states."""

    def __init__(self, model: Any, max_batch: int, **options: Any) -> None:
        if _Linear is None:
            raise TypeError("this transformers keeps no states by layer")
        takes = inspect.signature(model.forward).parameters
        self._kept = next(name for name in CACHES if name in takes)
        self._options = forward_options(model)
        self._group: tuple[list[int], bool] = [], True  # rows of the pass, and whether they have no state yet
        super().__init__(model, max_batch, **options)  # type: ignore[arg-type]
        self._cache.layers = [self._made(layer) for layer in cache_utils.DynamicCache(config=model.config).layers]
        if self._cache.dtype is INT8 and not any(isinstance(layer, SlotLayer) for layer in self._cache.layers):
            raise ValueError("it keeps states, and neither keys nor values")
        self._states = RowStates(self._cache.layers, max_batch + 1)
        self._chunked = [
            m for m in model.modules() if hasattr(m, "A_log") and type(getattr(m, "chunk_size", None)) is int
        ]
        self._goes_on = True
        self._goes_on = self._can_go_on()

    @property
    def bytes_per_row(self) -> int:
        """Of states in all layers, with a share of those that prefixes keep; 0 before the first pass."""
        bytes_per_row = self._states.bytes_per_row()
        return bytes_per_row + (-(-bytes_per_row // PREFIXES) if self.prefixes is not None else 0)

    def find_sizes(self, seconds: float = 0.0) -> int | None:  # type: ignore[override]
        """Not measured."""
        return None

    def advance(self, newcomers: list[Sequence]) -> tuple[list[Sequence], torch.Tensor | None]:
        """A token for every row; of newcomers' prompts all before it, where that can be done by pieces."""
        self._admit(newcomers)
        self._take_in([i for i, row in enumerate(self.rows) if not decodes(row)])
        return self._pass([(i, 1) for i in range(len(self.rows))])

    def prefill(self, sequences: list[Sequence]) -> torch.Tensor:
        """Take sequences in with whole prompts; logits of each one's first token."""
        self._admit(sequences)
        rows = [self.rows.index(sequence) for sequence in sequences]
        self._take_in(rows)
        while any(self.rows[i].pending > 1 for i in rows):
            self._pass([(i, 1) for i in rows if self.rows[i].pending > 1])
        logits = self._pass([(i, 1) for i in rows])[1]
        assert logits is not None
        return logits

    def release(self, sequences: Iterable[Sequence], *, broken: bool = False) -> None:
        """Give up rows; the last row moves into each gap."""
        super().release(sequences, broken=broken)
        if not self.rows:
            self._states.forget()

    def _made(self, layer: Any) -> Any:
        keyed = isinstance(layer, cache_utils.CacheLayerMixin)
        if type(layer).__name__ not in KNOWN:
            raise TypeError(f"{type(layer).__name__} keeps what is not stacked")
        if isinstance(layer, _Linear):
            return _known_both()(self._cache, layer.number_of_states) if keyed else layer
        return self._cache.new_layer() if keyed else layer

    def _can_go_on(self) -> bool:
        """Whether several tokens after a state give the logits and the states that all tokens in one pass give."""
        tokens = [1 + (7 * i * i + 3 * i) % 19 for i in range(sum(TRIED))]
        found: list[list[torch.Tensor]] = []
        for counts in ([sum(TRIED)], TRIED):
            first, logits = 0, torch.empty(0)
            for count in counts:
                logits = self._run_alone(tokens[first : first + count], first)
                first += count
            found.append([logits, *self._states.take(0).values()])
            self._drop(0, 0)
        self._states.forget()
        near = NEAR if self._cache.dtype is None else ROUNDED
        return all(
            bool((ours - whole).abs().max() <= near * whole.abs().max()) for whole, ours in zip(*found, strict=True)
        )

    def _take_in(self, rows: list[int]) -> None:
        """All tokens of these rows but their newest, as far as they can be run by pieces."""
        while left := {i: self.rows[i].pending - 1 for i in rows if self._by_pieces(i)}:
            size, group = _piece(left) if self._goes_on else (min(left.values()), list(left))
            size = min(size, PIECE) if self._goes_on else size
            together = max(1, PASS_TOKENS // size)
            for first in range(0, len(group), together):
                self._pass([(i, size) for i in group[first : first + together]])

    def _by_pieces(self, i: int) -> bool:
        """Whether tokens of a row before its newest are to be run by pieces; else they go one by one."""
        row = self.rows[i]
        return row.pending > 1 and (self._goes_on or not row.filled)

    def _pieces(self, length: int) -> list[tuple[int, int]]:
        return super()._pieces(length) if self._goes_on else [(0, length)]

    def _begin(self, row: int, prefix: Prefix) -> None:
        self._states.put(row, prefix.states)

    def _take_prefix(self, row: int, length: int) -> Prefix:
        prefix = super()._take_prefix(row, length)
        prefix.states = self._states.take(row)
        assert self.prefixes is not None
        prefix.extra = self.prefixes.budget * PREFIXES // max(self._cache.rows, PREFIXES)
        return prefix

    def _drop(self, row: int, last: int) -> None:
        super()._drop(row, last)
        if row != last:
            self._states.copy(last, row)

    def _run_alone(self, tokens: list[int], first: int) -> torch.Tensor:
        self._group = [len(self.rows)], not first
        return super()._run_alone(tokens, first)

    def _pass(self, parts: list[tuple[int, int]], *, brief: bool = False) -> tuple[list[Sequence], torch.Tensor | None]:
        """As it is, but a pass for the rows that have as many tokens each, and a state or none."""
        groups: dict[tuple[int, bool], list[int]] = {}
        for i, count in parts:
            groups.setdefault((count, not self.rows[i].filled), []).append(i)
        found: dict[int, torch.Tensor] = {}
        for (count, fresh), rows in groups.items():
            rows.sort(key=lambda i: (not decodes(self.rows[i]), i))  # as those who plan it want them
            self._group = rows, fresh
            done, logits = super()._pass([(i, count) for i in rows])
            if logits is not None:
                found |= dict(zip(map(id, done), logits, strict=True))
        done = [self.rows[i] for i, _ in parts if id(self.rows[i]) in found]
        return done, torch.stack([found[id(row)] for row in done]) if done else None

    def _logits(self, tokens: list[int], positions: list[int], ends: list[int], **only: bool) -> torch.Tensor:
        rows, fresh = self._group
        device, count = self._model.device, len(tokens) // len(rows)
        options = dict(self._options)
        if "logits_to_keep" in options and not ends:
            options["logits_to_keep"] = torch.empty(0, dtype=torch.int64, device=device)
        if options.pop("position_ids", False):
            options["position_ids"] = torch.tensor(positions, device=device).view(-1, count)
        self._states.enter(rows, fresh=fresh)
        ids = torch.tensor(tokens, device=device).view(-1, count)
        with self._narrow_chunks(count):
            out = self._model(input_ids=ids, **{self._kept: self._cache}, use_cache=True, **options)
        if getattr(out, self._kept, self._cache) is not self._cache:
            raise TypeError(f"{type(self._model).__name__} keeps its state elsewhere")
        self._states.leave(rows)
        if not ends:
            return torch.empty(0)
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits if len(ends) == len(rows) else logits[[end // count for end in ends]]

    @contextlib.contextmanager
    def _narrow_chunks(self, count: int) -> Iterator[None]:
        """Mamba-2 fills a piece up to whole chunks, at a cost of their length squared."""
        usual = [module.chunk_size for module in self._chunked]
        try:
            for module, most in zip(self._chunked, usual, strict=True):
                module.chunk_size = min(most, 1 << min(CHUNK, (count - 1).bit_length()))
            yield
        finally:
            for module, most in zip(self._chunked, usual, strict=True):
                module.chunk_size = most


def _piece(left: dict[int, int]) -> tuple[int, list[int]]:
    """How many tokens which rows are to run next, of what is left of each: in few passes, by parts of powers of two."""
    bits = 0
    for count in left.values():
        bits |= count
    counts = set(left.values())
    most = max(counts)
    if len(counts) <= bits.bit_count():  # by rows that have the same
        return most, [i for i, count in left.items() if count == most]
    size = 1 << (most.bit_length() - 1)
    return min(size, PIECE), [i for i, count in left.items() if count >= min(size, PIECE)]


@cache
def _known_both() -> Any:
    class KnownBothLayer(BothLayer, cache_utils.CacheLayerMixin):  # type: ignore[misc]
        """A layer as transformers knows one."""

    return KnownBothLayer


class NativeStatesRunner(StatesMixin, NativePackedRunner):
    """With the native kernels."""

    name = "packed with states, native kernels"

    def __init__(self, model: Any, max_batch: int, **options: Any) -> None:
        recurrent.adapt(model)
        super().__init__(model, max_batch, **options)


class PlainStatesRunner(StatesMixin, PlainPackedRunner):
    """With torch's own attention."""

    name = "packed with states"
