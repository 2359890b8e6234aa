"""How far back the layers of a model look, which their masks would say and a packed step is told by itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch


class Reach(NamedTuple):
    """The newest `size` tokens, a token's own among them; `chunked`: those of its own chunk of so many (Llama 4)."""

    size: int
    chunked: bool = False

    def first(self, positions: torch.Tensor) -> torch.Tensor:
        """The first position that a token at each of these sees."""
        if self.chunked:
            return positions // self.size * self.size
        return (positions + 1 - self.size).clamp_(min=0)


def reach_of(module: Any, window: int | None) -> Reach | None:
    """Of an attention that says this sliding window; None where it sees all."""
    if window is not None:
        return Reach(window)
    config, layer = getattr(module, "config", None), getattr(module, "layer_idx", None)
    kinds = getattr(config, "layer_types", None)
    if kinds and layer is not None and kinds[layer] == "chunked_attention":
        return Reach(config.attention_chunk_size, chunked=True)  # type: ignore[union-attr]
    return None
