"""The torch engine in its own process: the real thing, on a tiny model."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from batch.engines.base import Engine
from batch.engines.desk import MemoryDesk
from batch.engines.local.host import HostedEngine
from batch.engines.local.process import worker_env
from batch.errors import FatalError
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.job import JobStatus
from batch.options import RunOptions, SamplingOptions
from batch.processor import BatchProcessor
from batch.running.run import Run

pytestmark = pytest.mark.model

PROMPTS = [f"search the list for item {i} and again {'fox ' * (i % 7)}" for i in range(24)]


async def collect(engine: Engine[Request, Answer]) -> dict[Any, BatchResponse[Answer]]:
    async def items() -> AsyncIterator[BatchItem[Request]]:
        for i, prompt in enumerate(PROMPTS):
            yield BatchItem(i, Request(prompt))

    try:
        return {r.id: r async for r in engine.answer(items(), MemoryDesk())}
    finally:
        await engine.close()


def test_importing_the_host_imports_no_model_library() -> None:
    code = (
        "import sys, batch.engines.local.host, batch.engines.local.worker, batch.engines.torch.engine; "
        "print([m for m in ('torch', 'transformers', 'tokenizers', 'mlx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=worker_env(1))
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_killed_mid_batch_the_answers_are_the_same(qwen3: Path, tmp_path: Path) -> None:
    from batch.engines.torch.engine import TorchEngine

    sampling = SamplingOptions(max_tokens=60)
    wanted = asyncio.run(collect(TorchEngine(qwen3, sampling=sampling, max_batch=4)))
    engine = HostedEngine("torch", {"path": qwen3}, sampling, max_batch=4, threads=1, backoff=(0.01,))
    job = BatchProcessor(tmp_path).create_job("tiny", PROMPTS)
    pids: list[int] = []

    def kill(_: Any) -> None:
        if engine.pid and not pids:
            pids.append(engine.pid)
            os.kill(pids[0], signal.SIGKILL)

    run = Run(job, engine, RunOptions(workers=4), on_results=kill).start()
    partial: set[tuple[Any, str]] = set()
    about: dict[str, Any] = {}
    while not run.wait(0.01):
        partial |= set(engine.partial_texts().items())
        about |= engine.about
    assert run.error is None and job.status == JobStatus.COMPLETED and job.processed == len(PROMPTS)
    assert pids and about["precision"] == "fp32" and about["batching"] == "together"
    _, results = BatchProcessor(tmp_path).load_checkpoint(job.checkpoint_file or "")
    assert [r.prompt_index for r in results] == list(range(len(PROMPTS)))
    # What died with the engine was no failure; random weights may still give an empty answer.
    assert {r.error_message for r in results} <= {None, "the model gave an empty answer"}
    answers = {r.prompt_index: r.response_text for r in results}
    assert answers == {i: r.data.text if r.data else "" for i, r in wanted.items()}
    assert partial and all(answers[i].startswith(text) for i, text in partial)


async def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    engine = HostedEngine("torch", {"path": tmp_path / "nowhere"})
    with pytest.raises(FatalError, match="there is no such model folder"):
        await collect(engine)
