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

from batch.engines.desk import MemoryDesk
from batch.engines.local.host import HostedEngine
from batch.engines.local.process import worker_env
from batch.errors import FatalError
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import SamplingOptions

pytestmark = pytest.mark.model

PROMPTS = [f"search the list for item {i} and again {'fox ' * (i % 7)}" for i in range(24)]


async def items() -> AsyncIterator[BatchItem[Request]]:
    for i, prompt in enumerate(PROMPTS):
        yield BatchItem(f"item {i}", Request(prompt))


async def collect(engine: HostedEngine) -> dict[Any, BatchResponse[Answer]]:
    return {r.id: r async for r in engine.answer(items(), MemoryDesk())}


def texts(responses: dict[Any, BatchResponse[Answer]]) -> dict[Any, str | None]:
    return {i: r.data.text if r.data else None for i, r in responses.items()}


def test_importing_the_host_imports_no_model_library() -> None:
    code = (
        "import sys, batch.engines.local.host, batch.engines.local.worker, batch.engines.torch.engine; "
        "print([m for m in ('torch', 'transformers', 'tokenizers', 'mlx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=worker_env(1))
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(os.name != "posix", reason="signals")
async def test_killed_mid_batch_the_answers_are_the_same(qwen3: Path) -> None:
    engine = HostedEngine("torch", {"path": qwen3}, SamplingOptions(max_tokens=60), max_batch=4, threads=1)
    try:
        expected = await collect(engine)
        assert len(expected) == len(PROMPTS)
        assert engine.about["precision"] == "fp32" and engine.about["batching"] == "together"
        first, again = engine.pid, {}
        async for response in engine.answer(items(), MemoryDesk()):
            again[response.id] = response
            if len(again) == 3 and engine.pid == first:
                assert first
                os.kill(first, signal.SIGKILL)
        assert engine.pid not in (None, first)
        assert texts(again) == texts(expected)
    finally:
        await engine.close()


async def test_partial_texts_begin_the_answers(qwen3: Path) -> None:
    engine = HostedEngine("torch", {"path": qwen3}, SamplingOptions(max_tokens=120), max_batch=2, threads=1)
    try:
        task = asyncio.create_task(collect(engine))
        seen: set[tuple[Any, str]] = set()
        while not task.done():
            seen |= set(engine.partial_texts().items())
            await asyncio.sleep(0.01)
        final = texts(await task)
        assert all((final[i] or "").startswith(text) for i, text in seen)
    finally:
        await engine.close()


async def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    engine = HostedEngine("torch", {"path": tmp_path / "nowhere"})
    with pytest.raises(FatalError, match="there is no such model folder"):
        await collect(engine)
    await engine.close()
