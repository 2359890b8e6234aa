"""The runner for a model: the fastest that is right, and the one that runs all rows as a padded rectangle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from batch.engines.torch import remembered
from batch.engines.torch.lean.model import LeanModel
from batch.engines.torch.linear import rounds
from batch.engines.torch.native import INT8, kernels, why_not
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
ROUNDED = 5e-2  # of the largest logit: how far apart they may be where numbers are rounded on the way
IN_INT8 = ", keys and values in int8"  # of a maker's name
# Rotary embeddings that change with the longest row of a batch, so that rows would not be independent.
LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}


def open_runner(
    model: Any,
    max_batch: int,
    *,
    share: bool = True,
    cache_dtype: torch.dtype | None = None,
    int8: bool = False,
    notes: list[str] | None = None,
    text: list[int] | None = None,
    key: str = "",
) -> Runner:
    """The fastest runner that is right for this model: each must show in a trial what the whole model gives.

    `int8` asks for keys and values in eight bits, `cache_dtype` is their type in a runner that does not have them so.
    `notes` is added to where a faster one was passed over, for want of memory or for what it gave, where there is no
    cache, and by what eight bits cost or why there are none. `text`: tokens of a real text, for the trial. `key`: the
    name under which its outcome is remembered, "" where it is not. Raises FatalError where the model gives no answer
    that could be relied on.
    """
    said = notes if notes is not None else []
    makers = _makers(model, max_batch, share, cache_dtype, int8)
    if (found := remembered.runner(key, makers, said)) is not None:
        return found
    if int8 and not any(name.endswith(IN_INT8) for name, _ in makers):
        said.append(f"kv_cache int8 is not used: {_no_int8(model)}")
    trial = _trial(model, text)
    tolerance = ROUNDED if cache_dtype is not None or rounds(model) else 1e-3
    if not isinstance(model, LeanModel):  # whose few families are asked as a plain pass asks them
        trial.check_generate(tolerance)
    failed = ""
    for name, make in makers:
        runner, problem = _tried(make, trial, ROUNDED if name.endswith(IN_INT8) else tolerance)
        if runner is not None:
            said += _chosen(name, trial, runner)
            remembered.keep(key, name, runner, said)
            return runner
        said += _passed_over(name, trial, problem)
        if out_of_memory(problem) or name.endswith(IN_INT8):
            continue
        if not failed and problem.args:
            failed = f"{name}: {first_line(problem)}"
    whole = SingleRunner(model, cached=False, positions=False)
    said.append("slow: what it keeps of a prompt is not right, so every token runs the whole text again")
    if failed:
        said.append(f"no cache, {failed}")
    return whole


def _chosen(name: str, trial: Trial, runner: Runner) -> list[str]:
    """What is to be said of a runner that agrees."""
    if name.endswith(IN_INT8):
        return [f"kv_cache int8: {trial.measured or trial.cost(runner)}"]
    return [f"{name} runner by trial: {trial.measured}"] if trial.measured else []


def _passed_over(name: str, trial: Trial, problem: Exception) -> list[str]:
    """What is to be said of one that does not, or cannot be had."""
    if name.endswith(IN_INT8):
        return [f"kv_cache int8 is not used: {trial.measured or first_line(problem)}"]
    if out_of_memory(problem):
        return [f"slower than it could be: no memory for the {name} runner ({first_line(problem)})"]
    return [f"slower than it could be: the {name} runner is not used, its {trial.measured}"] if trial.measured else []


def _makers(
    model: Any, max_batch: int, share: bool, cache_dtype: torch.dtype | None, int8: bool
) -> list[tuple[str, Callable[[], Runner]]]:
    """Runners by name, the fastest first."""
    makers: list[tuple[str, Callable[[], Runner]]] = []
    options: dict[str, Any] = {"share": share, "cache_dtype": cache_dtype}
    if _rows_may_share(model):
        if "position_ids" in forward_options(model) or counts_itself(model):
            if model.device.type == "cpu":
                makers += _native("native packed", NativePackedRunner, model, max_batch, options, int8)
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
            makers += _native("native packed with states", NativeStatesRunner, model, max_batch, options, int8)
            makers.append(("packed with states", lambda: PlainStatesRunner(model, max_batch, **options)))
        makers.append(("rows with states", lambda: StatesRunner(model, max_batch)))
    for positions in (True, False):
        makers.append(("one by one", lambda positions=positions: SingleRunner(model, positions=positions)))  # type: ignore[misc]
    return makers


def _native(
    name: str, kind: Callable[..., Runner], model: Any, max_batch: int, options: dict[str, Any], int8: bool
) -> list[tuple[str, Callable[[], Runner]]]:
    """With the native kernels, where there are any; first with keys and values in eight bits, if that is asked for."""
    if kernels() is None:
        return []
    found: list[tuple[str, Callable[[], Runner]]] = []
    if int8:
        found.append((name + IN_INT8, lambda: kind(model, max_batch, **{**options, "cache_dtype": INT8})))
    return [*found, (name, lambda: kind(model, max_batch, **options))]


def _no_int8(model: Any) -> str:
    """Why no runner of this model has keys and values of eight bits."""
    if model.device.type != "cpu":
        return "it is for runners on a CPU"
    if (problem := why_not()) != "":
        return f"it needs the native kernels, {problem}"
    return "what this model keeps of a prompt runs in another way"


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
