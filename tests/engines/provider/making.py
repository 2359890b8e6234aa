"""Engines over the batch APIs of `servers.batches`, and jobs that run on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from servers.batches import Batches

from batch import BatchJob, BatchProcessor, BatchResult, Run
from batch.checkpoint import CheckpointStore
from batch.engines.provider.engine import ProviderEngine
from batch.engines.provider.row import make
from batch.options import RunOptions, SamplingOptions
from batch.running.policy import RetryPolicy

PROVIDERS = ("openai", "anthropic", "gemini", "gemini-file", "vertex", "openrouter")
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY", "GOOGLE_API_KEY", "GROQ_API_KEY")
PRICE = {"input": 2, "output": 8, "batch": {"input": 1, "output": 4}}


def engine_for(name: str, url: str, **more: Any) -> ProviderEngine:
    """An engine of a provider, quick to look and quick to give up."""
    provider = name.partition("-")[0]
    ends = {"anthropic": "", "gemini": "/g", "vertex": "/x"}
    spec: dict[str, Any] = {
        "provider": provider,
        "model": "tiny-1",
        "url": f"{url}{ends.get(provider, '/v1')}",
        "poll": 0.02,
        "grace": 0.3,
        "timeout": 20.0,
        "price": PRICE,
    }
    if provider == "vertex":
        spec |= {"bucket": "jobs", "project": "p", "location": "l"}
    # Answers that may be long go through files.
    most = {"max_tokens": 90_000} if name == "gemini-file" else {"max_tokens": 64}
    sampling = SamplingOptions(**{**most, **more.pop("sampling", {})})
    return make({**spec, **more}, sampling, workers=None, timeout=90.0)


def job_of(folder: Path, count: int = 7) -> BatchJob:
    """A job with so many prompts."""
    return BatchProcessor(folder).create_job("m", [f"prompt {i}" for i in range(count)])


def again(job: BatchJob) -> BatchJob:
    """The same job as a later process finds it."""
    assert job.checkpoint_file is not None
    return BatchProcessor(job.checkpoint_file.parent).open_job(job.checkpoint_file)


def run(job: BatchJob, engine: Any, *, wait: bool = True, options: RunOptions | None = None, **kw: Any) -> Run:
    """Run it to its end, with retries that come soon."""
    made = Run(job, engine, options, wait_for_providers=wait, **kw)
    made.retry = RetryPolicy(2, base=0.001)
    made._answering._handed_back = RetryPolicy(5, base=0.001)
    made.execute()
    return made


def results(job: BatchJob) -> list[BatchResult]:
    """What is on the disk."""
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        return list(store.iter_results())


def all_right(job: BatchJob, count: int = 7) -> None:
    """Every item has its own answer."""
    found = results(job)
    assert [r.response_text.strip() for r in found] == [f"answer to prompt {i}" for i in range(count)]
    assert all(r.success for r in found)


def keys(setenv: Callable[[str, str], None], batches: Batches) -> None:
    """Keys as a user has them."""
    for name in KEYS:
        if name != "GOOGLE_API_KEY":
            setenv(name, batches.secret)


def words(folder: Path) -> Iterator[bytes]:
    """All that was written under a folder."""
    for root, _, names in os.walk(folder):
        for name in names:
            yield Path(root, name).read_bytes()
