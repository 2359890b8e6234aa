"""Rows with recurrent state side by side: the states stacked row upon row, keys and values beside them as a rectangle.

Prompts run by themselves, those of one length together, since a state has no mask that would hide padding; every step
after that is one pass for all rows.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from transformers import cache_utils

from batch.engines.torch.cache import SharedCache, SharedLayer, Window
from batch.engines.torch.rectangle import BatchRunner
from batch.engines.torch.sequence import Sequence
from batch.engines.torch.single import CACHES

# Not in transformers before 5.3, where such models bring caches of their own.
_Linear: Any = getattr(cache_utils, "LinearAttentionLayer", None)
_Both: Any = getattr(cache_utils, "LinearAttentionAndFullAttentionLayer", object)
# Models may have kinds of their own, which keep more than these.
KNOWN = {
    *("DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer", "LinearAttentionLayer"),
    *("LinearAttentionAndFullAttentionLayer", "LinearAttentionAndSlidingWindowAttentionLayer"),
}


class BothLayer(SharedLayer, _Both):  # type: ignore[misc]
    """A layer with keys and values and with states."""

    def __init__(self, window: Window, states: int) -> None:
        _Linear.__init__(self, number_of_states=states)
        SharedLayer.__init__(self, window)

    def lazy_initialization(self, *args: Any, **kwargs: Any) -> None:
        """Keys and values come by place, states by name."""
        (SharedLayer if args else _Linear).lazy_initialization(self, *args, **kwargs)


class StateCache(SharedCache):
    """Layers as the model's config wants them; states have exactly the rows that there are."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self._config = config
        self.layers = [self._made(layer) for layer in self.fresh().layers]
        self.layer_class_to_replicate = None
        if not any(isinstance(layer, _Linear) for layer in self.layers):
            raise TypeError("no layer with a state")

    def fresh(self) -> Any:
        """A cache for prompts by themselves."""
        return cache_utils.DynamicCache(config=self._config)

    def _made(self, layer: Any) -> Any:
        both, keyed = isinstance(layer, _Linear), isinstance(layer, cache_utils.CacheLayerMixin)
        if type(layer).__name__ not in KNOWN:
            raise TypeError(f"{type(layer).__name__} keeps what is not stacked")
        if both and keyed:
            return BothLayer(self.window, layer.number_of_states)
        return self._new_layer() if keyed else layer

    @property
    def keyed(self) -> bool:
        """Whether any layer has keys and values."""
        return any(isinstance(layer, SharedLayer) for layer in self.layers)

    def take(self, filled: Any, rows: list[int], end: int) -> None:
        """Rows of a fresh cache as the next ones, their newest keys and values before the column `end`."""
        first = self.window.last
        for ours, theirs in zip(self.layers, filled.layers, strict=True):
            if isinstance(ours, SharedLayer) and theirs.is_initialized:
                if not ours.is_initialized:
                    SharedLayer.lazy_initialization(ours, theirs.keys, theirs.values)
                for target, source in ((ours.keys, theirs.keys), (ours.values, theirs.values)):
                    target[first : first + len(rows), :, end - source.shape[2] : end] = source[rows]
            if isinstance(ours, _Linear):
                for name in ("conv", "recurrent"):
                    _stack(ours, theirs, name, rows, first)
        self.window.last = first + len(rows)

    def reserve(self, rows: int, columns: int) -> None:
        """Make room, of which states need none."""
        states = self.layers
        self.layers = [layer for layer in states if isinstance(layer, SharedLayer)]
        super().reserve(rows, columns)
        self.layers = states

    def copy_row(self, source: int, target: int, start: int, end: int) -> None:
        """Put one row in another's place."""
        super().copy_row(source, target, start, end)
        for states, key in self._states():
            states[key][target] = states[key][source]

    def cut(self, rows: int) -> None:
        """Only the first rows stay."""
        self.window.last = rows
        for states, key in self._states():
            states[key] = states[key][:rows]

    def bytes_per_row(self) -> int:
        """What the states of a row take in all layers."""
        tensors = (states[key] for states, key in self._states())
        return sum(tensor.shape[1:].numel() * tensor.element_size() for tensor in tensors)

    def _states(self) -> Iterator[tuple[dict[int, torch.Tensor], int]]:
        for layer in self.layers:
            if isinstance(layer, _Linear):
                for states in (layer.conv_states, layer.recurrent_states):
                    yield from ((states, key) for key, tensor in states.items() if tensor is not None)

    def _tensors(self) -> list[torch.Tensor]:
        return [tensor for layer in self.layers if isinstance(layer, SharedLayer) for tensor in layer.tensors()]


def _state_cache(model: Any) -> StateCache:
    """A cache as the model wants it: MiniMax has a class of its own, which names the states otherwise."""
    own = getattr(sys.modules[type(model).__module__], "MiniMaxCache", None)
    if own is None:
        return StateCache(model.config)

    class Named:
        def get_linear_cache(self: Any, layer_idx: int) -> torch.Tensor | None:
            return getattr(self.layers[layer_idx], "recurrent_states", {}).get(0)

        def set_linear_cache(self: Any, layer_idx: int, linear_cache: torch.Tensor) -> None:
            layer = self.layers[layer_idx]
            layer.recurrent_states[0] = linear_cache
            layer.is_recurrent_states_initialized[0] = True

        def __len__(self: Any) -> int:
            return len(self.layers)

    class Fresh(Named, own):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            cache_utils.DynamicCache.__init__(self, config=model.config)

    class Stacked(Named, StateCache, own):  # type: ignore[misc, valid-type]
        def fresh(self) -> Any:
            return Fresh()

    return Stacked(model.config)


class StatesRunner(BatchRunner):
    """All rows in one pass a token, over keys and values they share and states of their own."""

    name = "rows with states"

    def __init__(self, model: Any, max_batch: int) -> None:
        super().__init__(model, max_batch)
        if _Linear is None:
            raise TypeError("this transformers keeps no states by layer")
        takes = inspect.signature(model.forward).parameters
        self._kept = next(name for name in CACHES if name in takes)
        self._masked = "attention_mask" in takes
        self._states = self._cache = _state_cache(model)

    @property
    def bytes_per_row(self) -> int:
        """Of states in all layers; 0 before the first pass."""
        return self._states.bytes_per_row()

    def prefill(self, sequences: list[Sequence]) -> torch.Tensor:
        """Take sequences in, as new rows that end where the others do; prompts of one length share a pass."""
        self._reserve(len(sequences), max(len(s.prompt) + len(s.tokens) for s in sequences))
        self._states.window.last = len(self.rows)
        groups: dict[int, list[int]] = {}
        for place, sequence in enumerate(sequences):
            groups.setdefault(len(sequence.prompt) + len(sequence.tokens), []).append(place)
        logits: list[Any] = [None] * len(sequences)
        filled: list[tuple[list[int], Any]] = []
        for length, places in groups.items():
            cache = self._states.fresh()
            ids = torch.tensor([sequences[place].known(0, length) for place in places])
            for place, row in zip(places, self._run(ids, cache, torch.arange(length).expand_as(ids)), strict=True):
                logits[place] = row
            filled.append((places, cache))
        # Only when all passes went well are there new rows.
        self.rows += [sequences[place] for places, _ in filled for place in places]
        for places, cache in filled:
            self._states.take(cache, list(range(len(places))), self._end)
        return torch.stack(logits)

    def decode(self) -> torch.Tensor:
        """One more column: the newest token of every row."""
        self._reserve(0, 0, columns=1)
        self._end += 1
        lengths = torch.tensor([[s.cached + 1] for s in self.rows])
        width = int(lengths.max())
        window = self._states.window
        window.first, window.last, window.new = 0, len(self.rows), 1
        window.start, window.end = self._end - width, self._end
        position = torch.arange(width) - (width - lengths)  # [rows, width]; below 0 is padding
        mask = (position >= 0).long() if self._states.keyed and self._masked else None
        ids = torch.tensor([[s.last_token] for s in self.rows])
        return self._run(ids, self._states, position[:, -1:], mask)

    def release(self, sequences: Iterable[Sequence], *, broken: bool = False) -> None:
        """Give up rows; the last row moves into each gap."""
        super().release(sequences, broken=broken)
        self._states.cut(len(self.rows))

    def _run(self, ids: torch.Tensor, cache: Any, position: torch.Tensor, mask: Any = None) -> torch.Tensor:
        device = self._model.device
        options = dict(self._options)
        if options.pop("position_ids", False):
            options["position_ids"] = position.to(device)
        if mask is not None:
            options["attention_mask"] = mask.to(device)
        out = self._model(input_ids=ids.to(device), **{self._kept: cache}, use_cache=True, **options)
        if getattr(out, self._kept, cache) is not cache:
            raise TypeError(f"{type(self._model).__name__} keeps its state elsewhere")
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits


def _stack(ours: Any, theirs: Any, name: str, rows: list[int], first: int) -> None:
    """Add states of these rows behind the `first` ones of a layer."""
    mine, new = getattr(ours, f"{name}_states"), getattr(theirs, f"{name}_states")
    initialized = getattr(ours, f"is_{name}_states_initialized")
    for key, tensor in new.items():
        if tensor is None:
            continue
        held = mine.get(key)
        mine[key] = tensor[rows] if not first or held is None else torch.cat([held[:first], tensor[rows]])
        initialized[key] = True
        ours.has_previous_state[key] = theirs.has_previous_state[key]
        if name == "conv":
            ours.conv_kernel_size[key] = theirs.conv_kernel_size[key]
            ours.device, ours.dtype = theirs.device, theirs.dtype
