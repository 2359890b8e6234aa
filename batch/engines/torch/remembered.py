"""The runner that a trial chose at an earlier start, taken again without it where it still gives the logits it gave.

A few logits of a short prompt are remembered beside its name. They are asked for anew at each start, so that a file
that was damaged, or a kernel that computes otherwise, is tried as if nothing were known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from batch.engines.torch import verdicts
from batch.engines.torch.packed import SIZES
from batch.engines.torch.sequence import Sequence as Row
from batch.engines.torch.text import Detokenizer
from batch.engines.torch.turns import Runner
from batch.options import SamplingOptions

PROMPT = (5, 17, 9, 3, 11, 2, 7)  # of tokens, as far as the vocabulary has them
SHOWN = 48  # logits that are remembered, spread over the vocabulary
CLOSE = 2e-3  # of the largest of them; rounding is the same from start to start, the order of threads' sums is not
SECONDS = 2.0  # for the trial of sizes, once
# Runners that are worth it: others need their trial to be set up.
KNOWN = ("native packed", "native packed, keys and values in int8", "packed")


def runner(key: str, makers: Sequence[tuple[str, Callable[[], Runner]]], notes: list[str]) -> Runner | None:
    """The one that was chosen, with its notes added; None where it is not known, or is not what it was."""
    kept = verdicts.read(key)
    make = dict(makers).get(kept.get("runner", "")) if kept.get("runner") in KNOWN else None
    said, shown = kept.get("notes"), kept.get("logits")
    if make is None or not isinstance(said, list) or not isinstance(shown, list):
        return None
    try:
        found = make()
        before, now = torch.tensor(shown), _logits(found)
    except (MemoryError, RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError):
        return None
    if before.shape != now.shape or not float((before - now).abs().max()) <= CLOSE * float(before.abs().max()):
        return None
    notes += map(str, said)
    return found


def keep(key: str, name: str, chosen: Runner, notes: list[str]) -> None:
    """Remember what was chosen, and what was said of it."""
    if key and name in KNOWN:
        verdicts.write(key, {"runner": name, "notes": notes, "logits": _logits(chosen).tolist()})


def sizes(key: str, chosen: Any) -> int | None:
    """The width of a batch for a runner that finds it by a trial, the one of an earlier start where it is known.

    What is remembered may take longer to try. None where the runner does not measure it.
    """
    found: int | None
    if not key or not hasattr(chosen, "set_sizes"):
        found = chosen.find_sizes()
        return found
    name = f"{key}-sizes"
    width = verdicts.read(name).get("width")
    if type(width) is int and width in SIZES:
        return int(chosen.set_sizes(width))
    found = chosen.find_sizes(SECONDS)
    if found is not None:
        verdicts.write(name, {"width": max(found, SIZES[0])})
    return found


def _logits(chosen: Any) -> torch.Tensor:
    """A few of a short prompt's; the runner is left as it was."""
    most = getattr(chosen._model.config.get_text_config(), "vocab_size", 2)
    tokens = [token % most for token in PROMPT]
    row = Row("remembered", tokens, SamplingOptions(), 1, Detokenizer(None, []))
    try:
        logits: torch.Tensor = chosen.prefill([row])[0]
    finally:
        chosen.release(list(chosen.rows))
    return logits[:: max(1, len(logits) // SHOWN)][:SHOWN].float().cpu()
