"""Runs the model: prompts in one pass, then every running row by one token."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from transformers import DynamicCache

from batch.engines.torch.cache import SharedCache
from batch.engines.torch.graphs import PlainSteps
from batch.engines.torch.packed import PackedRunner
from batch.engines.torch.sequence import Sequence
from batch.engines.torch.static import StaticRunner
from batch.engines.torch.text import TextStream
from batch.options import SamplingOptions

# Kinds of layers whose past is plain keys and values, and masks that follow from columns alone.
SHARED_LAYERS = {"full_attention", "sliding_attention"}
# Rotary embeddings that change with the longest row of a batch, so that rows would not be independent.
LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}


class Runner(Protocol):
    """The model over the sequences it was given, until they are released. Logits: [rows, vocabulary], float32."""

    rows: list[Sequence]  # in the order of `decode`'s logits

    @property
    def bytes_per_token(self) -> int:
        """Of cache, measured; 0 where it is not known."""
        ...

    def expect(self, sequence: Sequence) -> None:
        """Hear of a sequence that will come."""
        ...

    def advance(self, newcomers: list[Sequence]) -> tuple[list[Sequence], torch.Tensor | None]:
        """One step: the rows that have a next token, and its logits; newcomers are rows from now on."""
        ...

    def prefill(self, sequences: list[Sequence]) -> torch.Tensor:
        """Take sequences in; logits of each one's first token, in the given order."""
        ...

    def decode(self) -> torch.Tensor:
        """Logits of the next token of every row."""
        ...

    def release(self, sequences: Iterable[Sequence], *, broken: bool = False) -> None:
        """Give up rows; `broken` ones had logits that are not numbers."""
        ...


class _InTurns(ABC):
    """Steps that either fill prompts in or decode."""

    rows: list[Sequence]

    def expect(self, sequence: Sequence) -> None:  # noqa: B027 - optional
        """Nothing is prepared."""

    def own(self, sequence: Sequence) -> int:
        """Columns to reckon with where such a runner takes the place of one that shares: all it may come to."""
        return sequence.most_tokens

    def limit(self, tokens: int, warm: int = 0) -> None:  # noqa: B027 - optional
        """The scheduler's reckoning is all there is."""

    def advance(self, newcomers: list[Sequence]) -> tuple[list[Sequence], torch.Tensor | None]:
        """Newcomers by themselves, or else every row."""
        if newcomers:
            return newcomers, self.prefill(newcomers)
        return list(self.rows), self.decode()

    @abstractmethod
    def prefill(self, sequences: list[Sequence]) -> torch.Tensor:
        """Take sequences in; logits of each one's first token, in the given order."""

    @abstractmethod
    def decode(self) -> torch.Tensor:
        """Logits of the next token of every row."""


class BatchRunner(_InTurns):
    """All rows in one forward pass, over a cache they share."""

    def __init__(self, model: Any, max_batch: int) -> None:
        self.rows: list[Sequence] = []
        self._model = model
        self._max_batch = max_batch
        self._cache = SharedCache()
        self._end = 0  # column after the newest tokens
        self._options = _forward_options(model)

    @property
    def bytes_per_token(self) -> int:
        """Of cache, measured; 0 before the first pass."""
        return self._cache.bytes_per_token()

    def prefill(self, sequences: list[Sequence]) -> torch.Tensor:
        """Take sequences in, left-padded to the longest, as new rows that end where the others do."""
        longest = max(len(s.prompt) for s in sequences)
        self._make_room(len(sequences), longest)
        first = len(self.rows)
        self.rows += sequences
        # [rows, longest]
        ids = torch.tensor([[0] * (longest - len(s.prompt)) + s.prompt for s in sequences])
        return self._forward(ids, first=first, start=self._end - longest, lengths=[len(s.prompt) for s in sequences])

    def decode(self) -> torch.Tensor:
        """One more column: the newest token of every row."""
        self._make_room(0, 0, columns=1)
        self._end += 1
        lengths = [s.cached + 1 for s in self.rows]
        ids = torch.tensor([[s.last_token] for s in self.rows])  # [rows, 1]
        return self._forward(ids, first=0, start=self._end - max(lengths), lengths=lengths)

    def release(self, sequences: Iterable[Sequence], *, broken: bool = False) -> None:
        """Give up rows; the last row moves into each gap, so that rows stay dense."""
        start = self._end - max((s.cached for s in self.rows), default=0)
        for sequence in sequences:
            row, last = self.rows.index(sequence), len(self.rows) - 1
            if broken:
                self._cache.wipe_row(row)
            if row != last:
                self._cache.copy_row(last, row, start, self._end)
                self.rows[row] = self.rows[last]
            self.rows.pop()
        if not self.rows:
            self._end = 0

    def _forward(self, ids: torch.Tensor, *, first: int, start: int, lengths: list[int]) -> torch.Tensor:
        """The last position's logits. ids: [rows, new]; lengths: tokens of each row, the new ones included."""
        window = self._cache.window
        window.first, window.last = first, first + ids.shape[0]
        window.start, window.end, window.new = start, self._end, ids.shape[1]
        width = self._end - start
        columns = torch.arange(width)
        position = columns - (width - torch.tensor(lengths).unsqueeze(1))  # [rows, width]; below 0 is padding
        device = self._model.device
        options = dict(self._options)
        if options.pop("position_ids", False):
            options["position_ids"] = position[:, -ids.shape[1] :].clamp(min=0).to(device)
        out = self._model(
            input_ids=ids.to(device),
            attention_mask=(position >= 0).long().to(device),
            past_key_values=self._cache,
            use_cache=True,
            **options,
        )
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    def _make_room(self, rows: int, longest: int, columns: int = 0) -> None:
        """Room for more rows, for prompts as long as the window's columns, and for more columns at its end."""
        start = self._end - max((s.cached for s in self.rows), default=0)
        width, held = self._end - start, len(self.rows)
        needed = max(width, longest) + columns
        if held + rows > self._cache.rows:
            self._cache.reserve(max(held + rows, min(2 * self._cache.rows, self._max_batch)), needed)
        if self._end + columns > self._cache.columns or self._end < longest:
            # The window leaves its place. A quarter of free columns after it makes that rare.
            self._cache.reserve(0, needed + max(needed // 4, 64))
            end = max(width, longest)
            if held and end != self._end:
                self._cache.shift(held, start, self._end, to=end - width)
            self._end = end


class SingleRunner(_InTurns):
    """Every row in a forward pass of its own, over transformers' own cache: right for any model, and slow."""

    def __init__(self, model: Any) -> None:
        self.rows: list[Sequence] = []
        self._model = model
        options = _forward_options(model)
        self._options = {k: v for k, v in options.items() if k != "position_ids"}
        takes = inspect.signature(model.forward).parameters
        self._cache_name = "cache_params" if "cache_params" in takes else "past_key_values"

    @property
    def bytes_per_token(self) -> int:
        """Not known: the past of such a model may not be keys and values."""
        return 0

    def prefill(self, sequences: list[Sequence]) -> torch.Tensor:
        """Take sequences in, one after the other."""
        self.rows += sequences
        for sequence in sequences:
            sequence.cache = DynamicCache(config=self._model.config.get_text_config())
        return torch.cat([self._forward(s, s.prompt) for s in sequences])

    def decode(self) -> torch.Tensor:
        """The newest token of every row."""
        return torch.cat([self._forward(s, [s.last_token]) for s in self.rows])

    def release(self, sequences: Iterable[Sequence], *, broken: bool = False) -> None:
        """Give up rows."""
        for sequence in sequences:
            self.rows.remove(sequence)
            sequence.cache = None

    def _forward(self, sequence: Sequence, tokens: list[int]) -> torch.Tensor:
        ids = torch.tensor([tokens], device=self._model.device)
        options = {**self._options, self._cache_name: sequence.cache}
        out = self._model(input_ids=ids, use_cache=True, **options)
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits


def open_runner(model: Any, max_batch: int, *, share: bool = True, cache_dtype: torch.dtype | None = None) -> Runner:
    """The fastest runner that is right for this model: rows share a pass only where a trial shows they may."""
    if _rows_may_share(model):
        tolerance = 1e-3 if model.dtype == torch.float32 and cache_dtype is None else 5e-2
        makers: list[Callable[[], Runner]] = [lambda: BatchRunner(model, max_batch)]
        if "position_ids" in _forward_options(model):
            if model.device.type == "cpu":
                makers.insert(0, lambda: PackedRunner(model, max_batch, share=share, cache_dtype=cache_dtype))
            elif model.device.type == "cuda":
                plain = PlainSteps()  # where replaying gives other answers
                makers.insert(0, lambda: StaticRunner(model, max_batch, share=share, steps=plain))
                makers.insert(0, lambda: StaticRunner(model, max_batch, share=share))
        for make in makers:
            try:
                runner = make()
                if _agree(runner, SingleRunner(model), tolerance):
                    return runner
            except (RuntimeError, TypeError, ValueError, AttributeError, LookupError):
                pass  # a model that does not take such a cache; the next runner asks less of it
    return SingleRunner(model)


def _forward_options(model: Any) -> dict[str, Any]:
    """Arguments of `forward` that not every model has."""
    takes = inspect.signature(model.forward).parameters
    options: dict[str, Any] = {}
    if "position_ids" in takes:
        options["position_ids"] = True
    if "logits_to_keep" in takes:
        options["logits_to_keep"] = 1  # else a long prompt's logits take prompt × vocabulary floats
    return options


def _rows_may_share(model: Any) -> bool:
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ())
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = {rope.get("rope_type")} | {r.get("rope_type") for r in rope.values() if isinstance(r, dict)}
    return layers <= SHARED_LAYERS and not kinds & LENGTH_DEPENDENT_ROPE and not getattr(model, "_is_stateful", False)


def _agree(batch: Runner, single: Runner, tolerance: float) -> bool:
    """Whether rows of different lengths, one joining late, give the logits they give alone.

    Sums in another order differ a little: `tolerance` is a share of the largest logit.
    """
    results: list[list[torch.Tensor]] = []
    for runner in (batch, single):
        early, late = _trial([3, 7, 1, 4, 9, 2, 5]), _trial([8, 6, 2])
        logits = [runner.prefill([early])]
        early.tokens.append(5)
        logits.append(runner.prefill([late]))
        late.tokens.append(6)
        logits.append(runner.decode())
        early.tokens.append(1)
        late.tokens.append(1)
        runner.release([early])
        logits.append(runner.decode())
        runner.release([late])
        results.append(logits)
    largest = max(float(alone.abs().max()) for alone in results[1])
    return all(
        float((together - alone).abs().max()) <= tolerance * largest for together, alone in zip(*results, strict=True)
    )


def _trial(prompt: list[int]) -> Sequence:
    return Sequence("trial", prompt, SamplingOptions(), 4, TextStream(None, []))
