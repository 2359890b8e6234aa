"""The runner for a model: the fastest that is right, and the one that runs all rows as a padded rectangle."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from batch.engines.torch.cache import SharedCache
from batch.engines.torch.graphs import PlainSteps
from batch.engines.torch.native import kernels
from batch.engines.torch.packed_native import NativePackedRunner
from batch.engines.torch.packed_plain import PlainPackedRunner
from batch.engines.torch.sequence import Sequence
from batch.engines.torch.single import SingleRunner, rope_types
from batch.engines.torch.static import StaticRunner
from batch.engines.torch.trial import Trial
from batch.engines.torch.troubles import first_line, out_of_memory
from batch.engines.torch.turns import InTurns, Runner, forward_options
from batch.errors import FatalError

# Kinds of layers whose past is plain keys and values, and masks that follow from columns alone.
SHARED_LAYERS = {"full_attention", "sliding_attention"}
# Rotary embeddings that change with the longest row of a batch, so that rows would not be independent.
LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}


class BatchRunner(InTurns):
    """All rows in one forward pass, over a cache they share."""

    name = "rectangle"

    def __init__(self, model: Any, max_batch: int) -> None:
        self.rows: list[Sequence] = []
        self._model = model
        self._max_batch = max_batch
        self._cache = SharedCache()
        self._end = 0  # column after the newest tokens
        self._options = forward_options(model)

    @property
    def bytes_per_token(self) -> int:
        """Of cache, measured; 0 before the first pass."""
        return self._cache.bytes_per_token()

    def prefill(self, sequences: list[Sequence]) -> torch.Tensor:
        """Take sequences in, left-padded to the longest, as new rows that end where the others do."""
        longest = max(len(s.prompt) for s in sequences)
        self._reserve(len(sequences), longest)
        first = len(self.rows)
        self.rows += sequences
        # [rows, longest]
        ids = torch.tensor([[0] * (longest - len(s.prompt)) + s.prompt for s in sequences])
        return self._forward(ids, first=first, start=self._end - longest, lengths=[len(s.prompt) for s in sequences])

    def decode(self) -> torch.Tensor:
        """One more column: the newest token of every row."""
        self._reserve(0, 0, columns=1)
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

    def _reserve(self, rows: int, longest: int, columns: int = 0) -> None:
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


def open_runner(
    model: Any,
    max_batch: int,
    *,
    share: bool = True,
    cache_dtype: torch.dtype | None = None,
    notes: list[str] | None = None,
    text: list[int] | None = None,
) -> Runner:
    """The fastest runner that is right for this model: each must show in a trial what the whole model gives.

    `notes` is added to where a faster one was passed over, for want of memory or for what it gave, and where there is
    no cache. `text`: tokens of a real text, for the trial. Raises FatalError where the model gives no answer that could
    be relied on.
    """
    said = notes if notes is not None else []
    trial = _trial(model, text)
    tolerance = 1e-3 if model.dtype == torch.float32 and cache_dtype is None else 5e-2
    failed = ""
    for name, make in _makers(model, max_batch, share, cache_dtype):
        runner, problem = _tried(make, trial, tolerance)
        if runner is not None:
            if trial.measured:
                said.append(f"{name} runner by trial: {trial.measured}")
            return runner
        if out_of_memory(problem):
            said.append(f"slower than it could be: no memory for the {name} runner ({first_line(problem)})")
            continue
        if trial.measured:
            said.append(f"slower than it could be: the {name} runner is not used, its {trial.measured}")
        if not failed and problem.args:
            failed = f"{name}: {first_line(problem)}"
    whole = SingleRunner(model, cached=False, positions=False)
    said.append("slow: what it keeps of a prompt is not right, so every token runs the whole text again")
    if failed:
        said.append(f"no cache, {failed}")
    return whole


def _makers(
    model: Any, max_batch: int, share: bool, cache_dtype: torch.dtype | None
) -> list[tuple[str, Callable[[], Runner]]]:
    """Runners by name, the fastest first."""
    makers: list[tuple[str, Callable[[], Runner]]] = []
    if _rows_may_share(model):
        if "position_ids" in forward_options(model):
            if model.device.type == "cpu":
                options: dict[str, Any] = {"share": share, "cache_dtype": cache_dtype}
                if kernels() is not None:
                    makers.append(("native packed", lambda: NativePackedRunner(model, max_batch, **options)))
                makers.append(("packed", lambda: PlainPackedRunner(model, max_batch, **options)))
            elif model.device.type == "cuda":
                plain = PlainSteps()  # where replaying gives other answers
                makers.append(("static", lambda: StaticRunner(model, max_batch, share=share)))
                makers.append(("static", lambda: StaticRunner(model, max_batch, share=share, steps=plain)))
        makers.append(("rectangle", lambda: BatchRunner(model, max_batch)))
    for positions in (True, False):
        makers.append(("one by one", lambda positions=positions: SingleRunner(model, positions=positions)))  # type: ignore[misc]
    return makers


def _tried(make: Callable[[], Runner], trial: Trial, tolerance: float) -> tuple[Runner | None, Exception]:
    """A runner that agrees, or what is against it; nothing of it is kept."""
    trial.measured = ""
    try:
        runner = make()
        if trial.agrees(runner, tolerance):
            return runner, Exception()
        return None, ValueError("its logits are not those of the whole model")
    except (MemoryError, RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError) as error:
        return None, error.with_traceback(None)  # a model that does not take such a cache


def _trial(model: Any, text: list[int] | None) -> Trial:
    try:
        return Trial(model, text)
    except FatalError:
        raise
    except Exception as error:  # models raise what they like where they cannot be run
        if out_of_memory(error):
            raise FatalError(f"not enough memory to run the model: {first_line(error)}") from error
        name = type(model).__name__
        raise FatalError(f"{name} cannot be run: {type(error).__name__}: {first_line(error)}") from error


def _rows_may_share(model: Any) -> bool:
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ())
    changing = rope_types(model).keys() & LENGTH_DEPENDENT_ROPE
    return layers <= SHARED_LAYERS and not changing and not getattr(model, "_is_stateful", False)
