"""All decoder layers of a model in one call of the kernels (stack.c), in a packed step that is like that."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from batch.engines.torch.attention import Native, Plan, attend, current_plan, read
from batch.engines.torch.gemm import Product
from batch.engines.torch.native import Kernels, span
from batch.engines.torch.reach import Reach
from batch.engines.torch.slots import Prefix, SlotCache
from batch.engines.torch.structs import Held, Layer

Norm = tuple[torch.Tensor, float]  # weight and epsilon
Rotary = tuple[torch.Tensor, torch.Tensor]  # cosine and sine, [1, tokens, size]


@dataclass(frozen=True, slots=True)
class Mixing:
    """What an attention does between its projections: norms of the heads, rotation into the slots, and attending."""

    kernels: Kernels
    layer: int
    heads: int
    kv_heads: int
    size: int
    norms: tuple[torch.Tensor, torch.Tensor, float] | None  # of queries and of keys, and their epsilon
    scale: float
    whole: Any  # who knows the sliding window

    @property
    def window(self) -> int | None:
        """The sliding window now: a trial may have made it narrow."""
        found: int | None = getattr(self.whole, "sliding_window", None)
        return found

    def __call__(self, plan: Plan, qkv: torch.Tensor, rotary: Rotary) -> torch.Tensor:
        """qkv: [tokens, (heads + 2 KV heads) × size]; returns [tokens, heads × size]."""
        cosine, sine = rotary
        held = plan.cache.layer(self.layer, self.kv_heads, self.size, qkv)
        slots, columns = plan.cache.writes
        q = self.kernels.set_cache(qkv, self.norms, (cosine[0], sine[0]), slots, columns, held.keys, held.values)
        reach = None if self.window is None else Reach(self.window)
        return attend(plan, self.layer, held, q, self.scale, reach).flatten(1)


@dataclass(frozen=True, slots=True)
class Parts:
    """A decoder layer of packed products, which do norms, gates and residuals too."""

    mixing: Mixing
    first: Norm
    second: Norm
    qkv: Product
    project: Product
    both: Product
    down: Product

    def __call__(self, plan: Plan, x: torch.Tensor, rotary: Rotary) -> torch.Tensor:
        """x: [tokens, hidden], contiguous."""
        mixed = self.mixing(plan, self.qkv(x, norm=self.first), rotary)
        x = self.project(mixed, residual=x)
        return self.down(self.both(x, norm=self.second, gated=True), residual=x)

    def described(self) -> Layer:
        """It as the kernels are told of it; its reach is still to be said."""
        mixing, norms = self.mixing, self.mixing.norms
        heads = [span(norm) if norm is not None else (None, 0) for norm in (norms[:2] if norms else (None, None))]
        first, second = span(self.first[0]), span(self.second[0])
        return Layer(
            *(product.described for product in (self.qkv, self.project, self.both, self.down)),
            *(first[0], second[0], heads[0][0], heads[1][0], first[1], second[1], heads[0][1], heads[1][1]),
            *(self.first[1], self.second[1], norms[2] if norms else 0.0, mixing.scale),
            *(mixing.heads, mixing.kv_heads, mixing.size, 0),
        )


@dataclass(frozen=True, slots=True)
class Around:
    """A decoder layer of which only the attention is known: after it comes what the model has, a mixture of experts."""

    mixing: Mixing
    first: Norm
    qkv: Product
    project: Product
    norm: Callable[[torch.Tensor], torch.Tensor]
    rest: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, plan: Plan, x: torch.Tensor, rotary: Rotary) -> torch.Tensor:
        """x: [tokens, hidden], contiguous."""
        x = self.project(self.mixing(plan, self.qkv(x, norm=self.first), rotary), residual=x)
        return self.rest(self.norm(x.unsqueeze(0)))[0].add_(x)


class Stack:
    """The layers of a body: the first of them runs all, the others leave what they are given."""

    def __init__(self, layers: Sequence[Parts]) -> None:
        self._layers = layers
        self._kernels = layers[0].mixing.kernels
        self._described = (Layer * len(layers))(*(layer.described() for layer in layers))
        self._windows: tuple[int | None, ...] = (None,) * len(layers)
        self._windowed = any(layer.mixing.window is not None for layer in layers)
        self._keys: Any = None  # of the first layer, when `_held` was made
        self._held: ctypes.Array[Held] | None = None

    @classmethod
    def of(cls, layers: Sequence[Parts]) -> Stack | None:
        """None where they are not alike enough for one call."""
        alike = {(x.mixing.heads, x.mixing.kv_heads, x.mixing.size, x.qkv.inputs, x.both.outputs) for x in layers}
        most = layers[0].mixing.kernels.lanes
        together = len(alike) == 1 and layers[0].mixing.heads // layers[0].mixing.kv_heads <= most
        return cls(layers) if together and len(layers) > 1 else None

    @staticmethod
    def runs() -> bool:
        """Whether this is a step in which the first layer does it all."""
        plan = current_plan()
        return plan is not None and plan.native is not None

    def forward_of(self, index: int, original: Callable[..., Any]) -> Callable[..., torch.Tensor]:
        """What takes the place of a layer's `forward`."""

        def forward(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            plan = current_plan()
            if plan is None or plan.native is None:
                usual: torch.Tensor = original(hidden_states, *args, **kwargs)
                return usual
            if index:
                return hidden_states  # the first has done it all
            x = hidden_states[0].clone(memory_format=torch.contiguous_format)
            self._run(plan, plan.native, x, kwargs["position_embeddings"])
            return x.unsqueeze(0)

        return forward

    def _run(self, plan: Plan, native: Native, x: torch.Tensor, rotary: Rotary) -> None:
        mixing = self._layers[0].mixing
        rows = native.rows(mixing.heads // mixing.kv_heads)
        firsts = [native.first(None if window is None else Reach(window), rows) for window in self._reaches()]
        cache = self._cache(plan.cache, x), plan.cache.layers[mixing.layer].keys.dtype, native.table
        cosine, sine = rotary
        prefixes = self._prefixes(native.prefixes, cache[1])
        self._kernels.run_layers(
            self._described, x, (cosine[0], sine[0]), plan.cache.writes, cache, prefixes, rows, firsts
        )

    def _reaches(self) -> list[int | None]:
        """The windows that layers have now, each once; the layers are told which is theirs."""
        if not self._windowed:
            return [None]
        windows = tuple(layer.mixing.window for layer in self._layers)
        kinds = list(dict.fromkeys(windows))
        if windows != self._windows:
            self._windows = windows
            for described, window in zip(self._described, windows, strict=True):
                described.reach = kinds.index(window)
        return kinds

    def _cache(self, cache: SlotCache, x: torch.Tensor) -> ctypes.Array[Held]:
        """Where all layers keep theirs; it moves when there are more pages."""
        every = [layer.mixing for layer in self._layers]
        first = cache.layer(every[0].layer, every[0].kv_heads, every[0].size, x)
        if self._held is None or first.keys is not self._keys:
            held = [cache.layer(mixing.layer, mixing.kv_heads, mixing.size, x) for mixing in every]
            kind = first.keys.dtype
            both = [(span(layer.keys, kind), span(layer.values, kind)) for layer in held]
            if len({count for parts in both for _, count in parts}) > 1:
                raise ValueError("the layers' caches are not alike")
            made = [Held(keys, values, count) for (keys, count), (values, _) in both]
            self._held, self._keys = (Held * len(made))(*made), first.keys
        return self._held

    def _prefixes(self, prefixes: list[Prefix], kind: torch.dtype) -> tuple[torch.Tensor, ...]:
        """Where the keys of prefixes lie, and their values, [prefixes × layers]; lengths; a layer's elements."""
        for prefix in prefixes:
            if prefix.pointers is None:
                held = [read(*prefix.layers[layer.mixing.layer]) for layer in self._layers]
                spans = [[span(part, kind) for part in parts] for parts in held]
                counts = {count for parts in spans for _, count in parts}
                places = torch.tensor([[at for at, _ in parts] for parts in spans], dtype=torch.int64)
                prefix.pointers = places.t().contiguous(), counts.pop() if len(counts) == 1 else -1
        none = torch.empty(0, dtype=torch.int64)
        keys, values = (torch.cat([none, *(prefix.pointers[0][which] for prefix in prefixes)]) for which in (0, 1))
        lengths = torch.tensor([prefix.length for prefix in prefixes], dtype=torch.int64)
        return keys, values, lengths, torch.tensor([prefix.pointers[1] for prefix in prefixes], dtype=torch.int64)
