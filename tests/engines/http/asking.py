"""Ask the server engine some prompts, as a run does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from batch.engines.desk import MemoryDesk
from batch.engines.http.engine import HttpEngine
from batch.engines.http.row import make
from batch.engines.http.server import Server
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import SamplingOptions


async def given(prompts: Sequence[str | Request]) -> AsyncIterator[BatchItem[Request]]:
    """The prompts as items, their ids in order."""
    for n, prompt in enumerate(prompts):
        yield BatchItem(n, prompt if isinstance(prompt, Request) else Request(prompt))


async def asked(
    spec: dict[str, Any], prompts: Sequence[str | Request], **sampling: Any
) -> tuple[dict[Any, BatchResponse[Answer]], HttpEngine]:
    """The answers of the server that an entry describes, by id, and the engine (closed) that has heard them."""
    engine = make(spec, SamplingOptions(**sampling), workers=None, timeout=60)
    assert isinstance(engine, HttpEngine)
    try:
        return {r.id: r async for r in engine.answer(given(prompts), MemoryDesk())}, engine
    finally:
        await engine.close()


async def ask(
    server: Server, prompts: Sequence[str | Request], sampling: SamplingOptions | None = None
) -> dict[Any, BatchResponse[Answer]]:
    """The answers of a server, by id."""
    engine = HttpEngine(server, sampling)
    try:
        return {r.id: r async for r in engine.answer(given(prompts), MemoryDesk())}
    finally:
        await engine.close()
