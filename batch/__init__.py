"""Batches of prompts through any engine: resumable, measured, exportable. Usable without a terminal."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batch.job import BatchJob, BatchResult, JobStatus
    from batch.options import RunOptions
    from batch.processor import BatchProcessor
    from batch.running.run import Run

# What the library has to say is heard by who asks for it.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = ["BatchJob", "BatchProcessor", "BatchResult", "JobStatus", "Run", "RunOptions"]

_HOMES = {
    "BatchJob": "batch.job",
    "BatchResult": "batch.job",
    "JobStatus": "batch.job",
    "BatchProcessor": "batch.processor",
    "Run": "batch.running.run",
    "RunOptions": "batch.options",
}


def __getattr__(name: str) -> Any:
    # On first use, so that importing one module of the library does not import all of it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value
