"""A model that loads while one fills in a form: one at a time, only where it fits, used where it was told the same."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ai_router import jobs
from ai_router.models import ModelSpec
from ai_router.preloading import Preloaded, Preloading, Wanted
from batch.engines.desk import MemoryDesk
from batch.engines.local import memory
from batch.engines.local.host import HostedEngine
from batch.items import BatchItem, Request
from batch.options import SamplingOptions

FAKE = "tests.engines.fake_worker:Fake"
SPEC = ModelSpec(
    "tiny", "tiny", "torch", Path("tiny"), "found", parameters=1000, size_bytes=4000, cache_bytes_per_token=8
)
WANTED = Wanted(SPEC, SamplingOptions(max_tokens=7))


def make(
    spec: ModelSpec, sampling: SamplingOptions, *, workers: int | None = None, timeout: float | None = None
) -> HostedEngine:
    return HostedEngine(FAKE, {"name": spec.id}, sampling, workers, timeout=timeout)


def until(condition: Callable[[], Any], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def gone(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return True
    return False


def held(preloading: Preloading) -> HostedEngine:
    until(lambda: preloading._held is not None)
    assert preloading._held is not None
    return preloading._held[1]


def answer(engine: Any) -> str:
    async def items() -> AsyncIterator[BatchItem[Request]]:
        yield BatchItem(0, Request("two words"))

    async def ask() -> str:
        try:
            (found,) = [r.data.text async for r in engine.answer(items(), MemoryDesk()) if r.data]
            return str(found)
        finally:
            await engine.close()

    return asyncio.run(ask())


def test_a_run_goes_on_with_what_was_loaded_ahead() -> None:
    preloading = Preloading(make)
    preloading.want(WANTED)
    engine = held(preloading)
    until(lambda: engine.status == "ready")
    pid, ahead = engine.pid, preloading.claim()
    found = ahead.instead_of(make(SPEC, SamplingOptions(max_tokens=7), timeout=60))
    ahead.end()  # of what is in use nothing is ended
    assert found is engine and engine.pid == pid and engine._timeout == 60
    assert answer(found) == "two words"


def test_what_is_still_loading_is_waited_for_and_not_begun_anew() -> None:
    engine = HostedEngine(FAKE, {"load_seconds": 0.5})
    engine.preload()
    pid = engine.pid
    engine.preload()
    assert engine.pid == pid is not None and engine.status != "ready"
    answers = answer(engine)
    assert answers == "two words" and gone(pid)


def test_another_model_takes_its_place_and_none_ends_it() -> None:
    preloading = Preloading(make)
    preloading.want(WANTED)
    first = held(preloading)
    pid = first.pid
    other = replace(WANTED, spec=replace(SPEC, id="other"))
    preloading.want(other)
    until(lambda: preloading._held is not None and preloading._held[0] == other)
    assert gone(pid) and first.pid is None
    second = held(preloading)
    later = second.pid
    preloading.want(other)  # nothing changes
    assert held(preloading) is second
    preloading.want(None)
    until(lambda: gone(later))
    assert preloading._held is None and preloading.claim().instead_of(second) is second


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, ready=False, why="no weights"),
        replace(SPEC, size_bytes=2**60, parameters=2**58),
        replace(SPEC, size_bytes=None),  # whose size is not known
    ],
)
def test_what_is_not_ready_or_would_not_fit_is_not_loaded(spec: ModelSpec) -> None:
    made: list[Any] = []
    preloading = Preloading(lambda *args, **how: made.append(args) or make(*args, **how))
    preloading.want(Wanted(spec, SamplingOptions()))
    until(lambda: preloading._thread is None)
    assert not made and preloading._held is None


def test_it_is_looked_at_what_is_free_once_the_other_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    preloading = Preloading(make)
    preloading.want(WANTED)
    first = held(preloading)
    monkeypatch.setattr(memory, "available", lambda: 0 if first.pid is not None else 2**40)
    other = replace(WANTED, workers=3)
    preloading.want(other)
    until(lambda: preloading._held is not None and preloading._held[0] == other)
    preloading.claim().end()


def test_what_was_told_otherwise_is_ended_and_not_used() -> None:
    preloading = Preloading(make)
    preloading.want(WANTED)
    pid = held(preloading).pid
    ahead, fresh = preloading.claim(), make(SPEC, SamplingOptions(max_tokens=8))
    assert ahead.instead_of(fresh) is fresh
    ahead.end()
    assert gone(pid)


def test_a_job_takes_what_was_loaded_ahead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ai_router.settings import Settings, Workspace

    class Models:
        workspace = Workspace(tmp_path, Settings())

        def get(self, name: str) -> ModelSpec:
            return SPEC

    monkeypatch.setattr(jobs, "make_engine", make)
    engine = make(SPEC, SamplingOptions(max_tokens=7))
    plan = jobs.JobPlan("tiny", SamplingOptions(max_tokens=7))
    assert jobs.engine_for(Models(), plan, Preloaded(engine)) is engine  # type: ignore[arg-type]
    assert jobs.engine_for(Models(), jobs.JobPlan("tiny"), Preloaded(engine)) is not engine  # type: ignore[arg-type]
