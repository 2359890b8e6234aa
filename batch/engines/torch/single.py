"""Runs every row in a forward pass of its own: right for any model, and slow."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch

from batch.engines.torch.held import bytes_of
from batch.engines.torch.sequence import Sequence
from batch.engines.torch.text import Detokenizer
from batch.engines.torch.turns import InTurns, forward_options
from batch.options import SamplingOptions

MEASURED = (4, 20)  # tokens of two prompts, by which memory is reckoned
CACHES = ("past_key_values", "cache_params", "state")  # what models call what they keep of a row


class SingleRunner(InTurns):
    """Rows one after the other, over what the model itself keeps of each; or over nothing, where `cached` is False.

    `positions`: whether the model is told where a row's new tokens stand, which some count wrongly by themselves.
    Rotary embeddings that change with a row's length (`border`) make what was kept wrong: a row that crosses it is run
    anew from its first token, and for dynamic ones so is every token after it.
    """

    together = False
    ragged = True  # what a row keeps does not depend on how long others are

    def __init__(self, model: Any, *, cached: bool = True, positions: bool = True) -> None:
        self.name = "one by one" if cached else "one by one, without a cache"
        self.rows: list[Sequence] = []
        self._model = model
        self._cached = cached
        takes = inspect.signature(model.forward).parameters
        self._positions = positions and "position_ids" in takes
        self._options = {k: v for k, v in forward_options(model).items() if k != "position_ids"}
        self._kept = next((name for name in CACHES if name in takes), None)
        if cached and self._kept is None:
            raise TypeError(f"{type(model).__name__} keeps nothing of a row")
        self._border, self._dynamic = rope_border(model)
        self._measured: tuple[int, int] | None = None

    @property
    def bytes_per_token(self) -> int:
        """Of what the model keeps, as far as it grows with a row; measured."""
        return self._reckoned()[0]

    @property
    def bytes_per_row(self) -> int:
        """Of what it keeps of a row however short; measured."""
        return self._reckoned()[1]

    def prefill(self, sequences: list[Sequence]) -> torch.Tensor:
        """Take sequences in, one after the other."""
        self.rows += sequences
        for sequence in sequences:
            sequence.cache, sequence.filled = None, 0
        return torch.cat([self._forward(s) for s in sequences])

    def decode(self) -> torch.Tensor:
        """The newest token of every row."""
        return torch.cat([self._forward(s) for s in self.rows])

    def release(self, sequences: Iterable[Sequence], *, broken: bool = False) -> None:
        """Give up rows."""
        for sequence in sequences:
            self.rows.remove(sequence)
            sequence.cache, sequence.filled = None, 0

    def _reckoned(self) -> tuple[int, int]:
        """Bytes for each token and for each row, by what two prompts take; nothing where that cannot be seen."""
        if self._measured is None:
            try:
                few, more = (self._held(length) if self._cached else 0 for length in MEASURED)
            except (RuntimeError, TypeError, ValueError, AttributeError, LookupError):
                few = more = 0
            a_token = max(0, -(-(more - few) // (MEASURED[1] - MEASURED[0])))
            self._measured = a_token, max(0, few - MEASURED[0] * a_token)
        return self._measured

    def _held(self, length: int) -> int:
        row = Sequence("measured", [1] * length, SamplingOptions(), 1, Detokenizer(None, []))
        self._forward(row)
        return bytes_of(row.cache)

    def _forward(self, sequence: Sequence) -> torch.Tensor:
        length = len(sequence.prompt) + len(sequence.tokens)
        beyond = self._border is not None and length > self._border
        cached = self._cached and not (beyond and self._dynamic)
        if not cached or (beyond and self._border is not None and sequence.filled <= self._border):
            sequence.cache, sequence.filled = None, 0
        tokens = sequence.known(sequence.filled, length)
        device = self._model.device
        options: dict[str, Any] = {**self._options, "use_cache": cached}
        if self._positions:
            options["position_ids"] = torch.arange(sequence.filled, length, device=device).unsqueeze(0)
        if sequence.cache is not None:
            options[str(self._kept)] = sequence.cache
        if self._dynamic:
            reset_rope(self._model)
        out = self._model(input_ids=torch.tensor([tokens], device=device), **options)
        if cached:
            sequence.cache, sequence.filled = getattr(out, str(self._kept), None), length
            if sequence.cache is None:
                raise TypeError(f"{type(self._model).__name__} returns nothing that it keeps of a row")
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits


def rope_types(model: Any) -> dict[str, int | None]:
    """The kinds of rotary embeddings, each with the length that they were first trained for."""
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [part for part in rope.values() if isinstance(part, dict)]
    found: dict[str, int | None] = {}
    for part in nested or [rope]:
        border = part.get("original_max_position_embeddings")
        border = border or getattr(config, "original_max_position_embeddings", None)
        found[str(part.get("rope_type") or part.get("type") or "default")] = border or getattr(
            config, "max_position_embeddings", None
        )
    return found


def rope_border(model: Any) -> tuple[int | None, bool]:
    """The length beyond which rotary embeddings are others, and whether they change with every token from there on."""
    kinds = rope_types(model)
    changing = {kind: border for kind, border in kinds.items() if kind in ("longrope", "dynamic")}
    borders = [border for border in changing.values() if border]
    return (min(borders) if borders else None), "dynamic" in changing


def reset_rope(model: Any) -> None:
    """Dynamic rotary embeddings as they were at first: they keep the length of the longest prompt so far."""
    for module in model.modules():
        for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
            prefix = name.removesuffix("max_seq_len_cached")
            original = getattr(module, f"{prefix}original_inv_freq", None)
            if original is not None:
                setattr(module, name, module.original_max_seq_len)
                module.register_buffer(f"{prefix}inv_freq", original.to(model.device), persistent=False)
