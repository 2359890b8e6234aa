"""The runner for a model: the fastest that is right, and the one that runs all rows as a padded rectangle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from batch.engines.torch import remembered
from batch.engines.torch.lean.model import LeanModel
from batch.engines.torch.linear import rounds
from batch.engines.torch.native import kernels
from batch.engines.torch.own import counts_itself
from batch.engines.torch.packed_native import NativePackedRunner
from batch.engines.torch.packed_plain import PlainPackedRunner
from batch.engines.torch.single import SingleRunner, rope_types
from batch.engines.torch.trial import Trial
from batch.engines.torch.troubles import first_line, out_of_memory
from batch.engines.torch.turns import Runner, forward_options
from batch.errors import FatalError

# Kinds of layers whose past is plain keys and values, and masks that follow from columns alone.
SHARED_LAYERS = {"full_attention", "sliding_attention", "chunked_attention", "indexed_attention"}
# Rotary embeddings that change with the longest row of a batch, so that rows would not be independent.
LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}


def open_runner(
    model: Any,
    max_batch: int,
    *,
    share: bool = True,
    cache_dtype: torch.dtype | None = None,
    notes: list[str] | None = None,
    text: list[int] | None = None,
    key: str = "",
) -> Runner:
    """The fastest runner that is right for this model: each must show in a trial what the whole model gives.

    `notes` is added to where a faster one was passed over, for want of memory or for what it gave, and where there is
    no cache. `text`: tokens of a real text, for the trial. `key`: the name under which its outcome is remembered, ""
    where it is not. Raises FatalError where the model gives no answer that could be relied on.
    """
    said = notes if notes is not None else []
    makers = _makers(model, max_batch, share, cache_dtype)
    if (found := remembered.runner(key, makers, said)) is not None:
        return found
    trial = _trial(model, text)
    tolerance = 5e-2 if cache_dtype is not None or rounds(model) else 1e-3
    if not isinstance(model, LeanModel):  # whose few families are asked as a plain pass asks them
        trial.check_generate(tolerance)
    failed = ""
    for name, make in makers:
        runner, problem = _tried(make, trial, tolerance)
        if runner is not None:
            if trial.measured:
                said.append(f"{name} runner by trial: {trial.measured}")
            remembered.keep(key, name, runner, said)
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
    options: dict[str, Any] = {"share": share, "cache_dtype": cache_dtype}
    if _rows_may_share(model):
        if "position_ids" in forward_options(model) or counts_itself(model):
            if model.device.type == "cpu":
                if kernels() is not None:
                    makers.append(("native packed", lambda: NativePackedRunner(model, max_batch, **options)))
                makers.append(("packed", lambda: PlainPackedRunner(model, max_batch, **options)))
            elif model.device.type == "cuda":
                from batch.engines.torch.graphs import PlainSteps
                from batch.engines.torch.static import StaticRunner

                plain = PlainSteps()  # where replaying gives other answers
                makers.append(("static", lambda: StaticRunner(model, max_batch, share=share)))
                makers.append(("static", lambda: StaticRunner(model, max_batch, share=share, steps=plain)))
        if not isinstance(model, LeanModel):  # which knows packed steps and whole texts
            from batch.engines.torch.rectangle import BatchRunner  # which imports transformers' caches

            makers.append(("rectangle", lambda: BatchRunner(model, max_batch)))
    elif _has_states(model):
        from batch.engines.torch.packed_states import NativeStatesRunner, PlainStatesRunner
        from batch.engines.torch.states import StatesRunner

        if model.device.type == "cpu":
            if kernels() is not None:
                makers.append(("native packed with states", lambda: NativeStatesRunner(model, max_batch, **options)))
            makers.append(("packed with states", lambda: PlainStatesRunner(model, max_batch, **options)))
        makers.append(("rows with states", lambda: StatesRunner(model, max_batch)))
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


def _has_states(model: Any) -> bool:
    """Whether its past is to be tried as states by layer; rotary embeddings that change need rows by themselves."""
    return not rope_types(model).keys() & LENGTH_DEPENDENT_ROPE
