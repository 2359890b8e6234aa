"""A job on a real Ray cluster of this machine: the same answers, and nothing lost or doubled when parts of it die."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from engines.ray_cluster import LOOPBACK, cluster

from ai_router.cli.cluster import ask
from batch import BatchProcessor, Run
from batch.engines.desk import MemoryDesk
from batch.engines.local.host import HostedEngine
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import SamplingOptions

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),  # on a machine that does other things as well; alone all of it takes a minute and a half
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None and "AI_ROUTER_CLUSTER_TESTS" not in os.environ,  # in CI they must run
        reason="needs Ray: pip install 'ai-router[cluster]'",
    ),
    pytest.mark.skipif(sys.platform == "win32", reason="a session of processes is ended as POSIX has it"),
]
HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "ai_router" / "demo"


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[str, str]]:
    with cluster() as both:
        yield both


@pytest.fixture
def address(addresses: tuple[str, str]) -> str:
    return addresses[0]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LOOPBACK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])))


def on(address: str, *, engine: str = "ray_core:open_core", actors: int = 2, **told: Any) -> HostedEngine:
    model = told.pop("model", {})
    resources = {"cpus": 1, "actors": actors, **told.pop("resources", {})}
    spec = {"cluster": address, "engine": engine, "model": model, "resources": resources, **told}
    return HostedEngine("ray", spec, SamplingOptions(max_tokens=16), max_batch=8, backoff=(0.1,), elsewhere=True)


async def answers(engine: HostedEngine, texts: Sequence[str]) -> list[BatchResponse[Answer]]:
    async def items() -> AsyncIterator[BatchItem[Request]]:
        for number, text in enumerate(texts):
            yield BatchItem(number, Request(text))

    got = [response async for response in engine.answer(items(), MemoryDesk())]
    assert sorted(int(response.id) for response in got) == list(range(len(texts))), "lost or doubled"
    return sorted(got, key=lambda response: int(response.id))


def status_of(address: str) -> dict[str, Any]:
    """What the cluster says, once its actors answer: on a busy machine they may take longer than a user would wait."""
    until = time.monotonic() + 120
    while True:
        said = ask(address)
        if all(actor["state"] == "ready" for actor in said["actors"]) or time.monotonic() > until:
            return said


def texts_of(got: Sequence[BatchResponse[Answer]]) -> list[str | None]:
    return [response.data.text if response.data else None for response in got]


async def test_an_actor_that_dies_costs_nothing(address: str, tmp_path: Path) -> None:
    prompts = [f"slow {n % 7 + 2}" for n in range(40)]
    prompts[5] = f"die once {tmp_path / 'died'}"
    engine = on(address)
    try:
        got = await answers(engine, prompts)
        assert engine.status.startswith("1 node")
    finally:
        await engine.close()
    assert (tmp_path / "died").exists() and texts_of(got) == [prompt.upper() for prompt in prompts]


async def test_a_driver_that_dies_is_followed_by_another(addresses: tuple[str, str], tmp_path: Path) -> None:
    """Within a job, whose answers are committed once each; as a client of the cluster (`ray://`)."""
    processor = BatchProcessor(tmp_path)
    job = processor.create_job("m", [f"slow {n % 5 + 5}" for n in range(60)])
    engine = on(addresses[1], actors=1)
    run = Run(job, engine).start()
    while run.snapshot().completed < 10 and not run.snapshot().state.over:
        await asyncio.sleep(0.05)
    assert engine.pid is not None, run.error
    os.kill(engine.pid, signal.SIGKILL)
    await asyncio.to_thread(run.wait)
    assert (job.completed, job.failed, run.snapshot().duplicates) == (60, 0, 0)


@pytest.mark.model
async def test_the_answers_are_those_of_one_machine(address: str) -> None:
    pytest.importorskip("torch")
    prompts = [f"What is number {n}?" for n in range(12)]
    model = {"path": str(DEMO), "precision": "fp32"}
    here = HostedEngine("torch", model, SamplingOptions(max_tokens=16), max_batch=8)
    there = on(address, engine="torch", model=model)
    try:
        assert texts_of(await answers(there, prompts)) == texts_of(await answers(here, prompts))
        about = there.about["cluster"]
        assert [actor["state"] for actor in about["actors"]] == ["ready", "ready"] and about["duplicates"] == 0
        said = await asyncio.to_thread(status_of, address)
        assert [actor["state"] for actor in said["actors"]] == ["ready", "ready"], said
        assert sum(actor["done"] for actor in said["actors"]) == 12 and said["actors"][0]["model"] == str(DEMO)
        assert [node["has"].startswith("2 CPUs") for node in said["nodes"]] == [True]
    finally:
        await here.close()
        await there.close()


async def test_a_model_is_sent_along(address: str, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    engine = on(address, actors=1, model={"path": str(tmp_path / "weights")}, ship=True)
    try:
        (where,) = texts_of(await answers(engine, ["where"]))
    finally:
        await engine.close()
    assert where is not None and not where.startswith(str(tmp_path)) and (Path(where) / "config.json").is_file()
