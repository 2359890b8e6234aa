"""The torch engine with little memory.

`spec` {"spare_mb": N} leaves so much address space after what is there before the model is loaded; {"pages": N} lets
the KV cache have so many pages. {"log": PATH} is appended the rows each time the engine makes its batch smaller.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from typing import Any

import torch
from transformers import Qwen3ForCausalLM  # noqa: F401 - libraries are no part of what is limited

from batch.engines.torch.engine import open_core as open_torch
from batch.engines.torch.pages import PageCache
from batch.options import SamplingOptions


def limit(spare_mb: float) -> None:
    with open("/proc/self/statm") as figures:
        pages = int(figures.read().split()[0])
    most = int(pages * resource.getpagesize() + spare_mb * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def scarce(most: int) -> None:
    """No memory for a cache of more pages."""
    usual = PageCache._resize

    def resize(cache: PageCache, pages: int) -> None:
        if pages > most:
            raise MemoryError(f"{pages} pages")
        usual(cache, pages)

    PageCache._resize = resize  # type: ignore[method-assign]


def open_core(spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> Any:
    torch.set_num_threads(1)
    spec = dict(spec)
    spare, pages, log = spec.pop("spare_mb", None), spec.pop("pages", None), spec.pop("log", None)
    if spare is not None:
        limit(spare)
    if pages is not None:
        scarce(pages)
    core = open_torch(spec, sampling, max_batch)
    if log:
        shrink = core._shrink

        def logged(problem: str) -> Any:
            with open(log, "a") as file:
                file.write(f"{len(core._scheduler.running)}\n")
            return shrink(problem)

        core._shrink = logged  # type: ignore[method-assign]
    return core
