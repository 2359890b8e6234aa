"""The torch engine with little memory: `spec` {"spare_mb": N} leaves so much address space after what is there already.

{"when": "loading"} limits it before the model is loaded, else it is limited once the engine is ready. {"log": PATH} is
appended the number of rows each time the engine makes its batch smaller.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from typing import Any

from batch.options import SamplingOptions


def limit(spare_mb: float) -> None:
    with open("/proc/self/statm") as figures:
        pages = int(figures.read().split()[0])
    most = int(pages * resource.getpagesize() + spare_mb * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def open_core(spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> Any:
    import torch
    from transformers import Qwen3ForCausalLM  # noqa: F401 - libraries are no part of what is limited

    from batch.engines.torch.engine import open_core as open_torch

    torch.set_num_threads(1)
    spec = dict(spec)
    spare, when, log = spec.pop("spare_mb"), spec.pop("when", "ready"), spec.pop("log", None)
    if when == "loading":
        limit(spare)
    core = open_torch(spec, sampling, max_batch)
    if log:
        shrink = core._shrink

        def logged(problem: str) -> Any:
            with open(log, "a") as file:
                file.write(f"{len(core._scheduler.running)}\n")
            return shrink(problem)

        core._shrink = logged  # type: ignore[method-assign]
    if when == "ready":
        limit(spare)
    return core
