"""The torch engine with little memory: `spec` {"spare_mb": N} leaves so much address space to load the model in."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from typing import Any

import torch
from transformers import Qwen3ForCausalLM  # noqa: F401 - libraries are no part of what is limited

from batch.engines.torch.engine import open_core as open_torch
from batch.options import SamplingOptions


def limit(spare_mb: float) -> None:
    with open("/proc/self/statm") as figures:
        pages = int(figures.read().split()[0])
    most = int(pages * resource.getpagesize() + spare_mb * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def open_core(spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> Any:
    torch.set_num_threads(1)
    spec = dict(spec)
    limit(spec.pop("spare_mb"))
    return open_torch(spec, sampling, max_batch)
