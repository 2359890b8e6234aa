"""The hosted engine: its process comes and goes, and no item is lost on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from batch.engines.base import Engine
from batch.engines.desk import MemoryDesk
from batch.engines.local import frames
from batch.engines.local.host import HostedEngine
from batch.engines.local.process import physical_cores, worker_env
from batch.errors import ErrorClass, FatalError, MissingExtraError
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import SamplingOptions

FAKE = "tests.engines.fake_worker:Fake"
posix = pytest.mark.skipif(os.name != "posix", reason="signals")


def hosted(**kwargs: Any) -> HostedEngine:
    spec = kwargs.pop("spec", {})
    return HostedEngine(FAKE, spec, backoff=(0.01,), **kwargs)


async def given(texts: Iterable[str]) -> AsyncIterator[BatchItem[Request]]:
    for i, text in enumerate(texts):
        yield BatchItem(i, Request(text))


async def collect(engine: HostedEngine, texts: Iterable[str]) -> dict[Any, BatchResponse[Answer]]:
    responses: dict[Any, BatchResponse[Answer]] = {}
    async for response in engine.answer(given(texts), MemoryDesk()):
        assert response.id not in responses
        responses[response.id] = response
    return responses


async def until(condition: Callable[[], Any], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A zombie whose parent has not looked yet is as gone as it gets for a test of the parent's death.
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


async def test_answers_and_stays_for_the_next_run() -> None:
    engine = hosted(sampling=SamplingOptions(temperature=0.5), threads=3)
    assert isinstance(engine, Engine)
    assert engine.status == "stopped" and engine.pid is None and engine.about == {}
    texts = [f"prompt {i} of many words" for i in range(30)]
    first = await collect(engine, texts)
    assert {i: r.data and r.data.text for i, r in first.items()} == dict(enumerate(texts))
    assert all(r.success and r.duration_ns > 0 and r.tokens_output == 5 for r in first.values())
    assert engine.status == "ready"
    assert engine.about["temperature"] == 0.5 and engine.about["omp"] == "3"
    pid = engine.pid
    assert len(await collect(engine, texts[:3])) == 3
    assert await collect(engine, []) == {}
    assert engine.pid == pid
    await engine.close()
    assert engine.status == "stopped" and engine.pid is None
    if pid and os.name == "posix":
        with pytest.raises(ProcessLookupError):  # no zombie either
            os.kill(pid, 0)
    with pytest.raises(FatalError, match="closed"):
        await collect(engine, ["x"])


def test_serves_several_event_loops() -> None:
    engine = hosted()
    pids = set()
    for _ in range(2):
        assert len(asyncio.run(collect(engine, ["a", "b"]))) == 2
        pids.add(engine.pid)
    assert len(pids) == 1
    asyncio.run(engine.close())


async def test_status_while_loading() -> None:
    engine = hosted(spec={"load_seconds": 0.5})
    task = asyncio.create_task(collect(engine, ["a"]))
    seen = []
    while not task.done():
        if not seen or seen[-1] != engine.status:
            seen.append(engine.status)
        await asyncio.sleep(0.005)
    assert [s for s in seen if s != "stopped"][:2] == ["starting", "loading model…"]
    await engine.close()


async def test_failures_are_responses() -> None:
    engine = hosted()
    responses = await collect(engine, ["fail no answer to this", "fine", "half a \ud800 pair"])
    assert responses[0].error and responses[0].error.message == "no answer to this"
    assert responses[1].success
    bad = responses[2].error
    assert bad and bad.error_class is ErrorClass.PERMANENT and "cannot be sent" in bad.message
    await engine.close()


async def test_stray_prints_do_no_harm(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    engine = hosted(log_path=log)
    responses = await collect(engine, ["print hello there", "two words"])
    assert all(r.success for r in responses.values())
    await engine.close()
    text = log.read_text()
    assert "hello there" in text and "raw bytes" in text and "from a grandchild" in text


async def test_failure_to_load_is_fatal() -> None:
    engine = hosted(spec={"refuse": "/models/x: there is no such model folder"})
    with pytest.raises(FatalError, match="no such model folder"):
        await collect(engine, ["a"])
    assert engine.status == "stopped" and engine.pid is None
    await engine.close()


@pytest.mark.parametrize("kind", ["tests.engines.no_such_module:Fake", "no_such_kind"])
async def test_unknown_kind_is_fatal(kind: str) -> None:
    engine = HostedEngine(kind, {})
    with pytest.raises(FatalError, match="no_such"):
        await collect(engine, ["a"])
    await engine.close()


async def test_missing_extra_keeps_its_class(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    engine = HostedEngine("torch", {"path": tmp_path / "model"})
    with pytest.raises(MissingExtraError) as caught:
        await collect(engine, ["a"])
    assert str(caught.value) == str(MissingExtraError("local", "The torch engine"))
    await engine.close()


@posix
async def test_killed_mid_batch_loses_nothing() -> None:
    engine = hosted(spec={"step_seconds": 0.01}, max_batch=8)
    texts = [f"prompt {i} with quite a few words to say" for i in range(40)]
    task = asyncio.create_task(collect(engine, texts))
    await until(lambda: engine.partial_texts())
    assert engine.pid
    os.kill(engine.pid, signal.SIGKILL)
    responses = await task
    assert {i: r.data and r.data.text for i, r in responses.items()} == dict(enumerate(texts))
    await engine.close()


@posix
async def test_dead_while_idle_starts_again() -> None:
    engine = hosted()
    await collect(engine, ["a"])
    assert engine.pid
    os.kill(engine.pid, signal.SIGKILL)
    await until(lambda: engine.status == "stopped")
    assert (await collect(engine, ["b"]))[0].success
    assert engine.status == "ready"
    await engine.close()


@posix
async def test_one_prompt_that_kills_is_singled_out() -> None:
    engine = hosted(max_batch=4)
    texts = ["one", "two words", "die", "three", "four", "five more words", "six"]
    responses = await collect(engine, texts)
    assert len(responses) == len(texts)
    assert [i for i, r in responses.items() if not r.success] == [2]
    error = responses[2].error
    assert error and error.error_class is ErrorClass.EXHAUSTED
    assert "died 3 times while answering this prompt (signal 9" in error.message
    assert engine.status in ("ready", "stopped")
    await engine.close()


@posix
async def test_one_death_is_no_failure(tmp_path: Path) -> None:
    engine = hosted()
    responses = await collect(engine, ["before", f"die once {tmp_path / 'marker'}", "after"])
    assert all(r.success for r in responses.values())
    await engine.close()


async def test_an_exception_in_the_engine_is_told() -> None:
    engine = hosted()
    error = (await collect(engine, ["raise the roof fell in"]))[0].error
    assert error and error.error_class is ErrorClass.EXHAUSTED
    assert "exit code 1: RuntimeError: the roof fell in" in error.message
    await engine.close()


@posix
@posix
async def test_one_that_dies_before_it_is_ready_starts_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AI_ROUTER_NATIVE", raising=False)
    engine = hosted(spec={"die_with_kernels": True})
    responses = await collect(engine, ["a b"])
    assert responses[0].data is not None and engine.about["kernels"] == "died"
    await engine.close()
    engine = hosted()
    await collect(engine, ["a"])
    assert engine.about["kernels"] == "on"
    await engine.close()


async def test_dying_again_and_again_ends_the_run() -> None:
    engine = hosted(spec={"die_loading": True})
    with pytest.raises(FatalError, match=r"died 4 times in a row \(signal 9.*loading goes wrong"):
        await collect(engine, ["a", "b"])
    await engine.close()


async def test_closing_the_iterator_cancels_what_is_in_flight() -> None:
    engine = hosted(max_batch=4)
    responses = engine.answer(given(["quick", *["slow 100000"] * 10]), MemoryDesk())
    assert (await anext(responses)).id == 0
    await until(lambda: len(engine.partial_texts()) >= 3)
    await responses.aclose()
    assert engine.partial_texts() == {}
    pid = engine.pid
    after = (await collect(engine, ["next"]))[0]
    assert after.data and after.data.extra and after.data.extra["cancelled"] >= 3 and after.data.extra["rows"] == 0
    assert engine.pid == pid
    await engine.close()


async def test_a_cancelled_reader_frees_the_engine() -> None:
    engine = hosted()
    task = asyncio.create_task(collect(engine, ["slow 100000"]))
    await until(lambda: engine.partial_texts())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await collect(engine, ["next"]))[0].success
    await engine.close()


async def test_leaving_while_it_loads_ends_the_load() -> None:
    engine = hosted(spec={"load_seconds": 600})
    task = asyncio.create_task(collect(engine, ["a"]))
    await until(lambda: engine.status == "loading model…")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.pid is None
    await engine.close()


async def test_pulls_only_what_it_has_room_for() -> None:
    engine = hosted(max_batch=3)
    pulled = 0

    async def items() -> AsyncIterator[BatchItem[Request]]:
        nonlocal pulled
        for i in range(20):
            pulled += 1
            yield BatchItem(i, Request("slow 3"))

    answered = 0
    async for _ in engine.answer(items(), MemoryDesk()):
        answered += 1
        assert pulled <= answered + 3
    assert answered == 20
    await engine.close()


async def test_answers_come_while_the_source_waits() -> None:
    engine = hosted()
    release = asyncio.Event()

    async def items() -> AsyncIterator[BatchItem[Request]]:
        yield BatchItem("first", Request("a"))
        await release.wait()
        yield BatchItem("second", Request("b"))

    responses = engine.answer(items(), MemoryDesk())
    assert (await asyncio.wait_for(anext(responses), 90)).id == "first"
    release.set()
    assert [r.id async for r in responses] == ["second"]
    await engine.close()


async def test_an_error_of_the_source_is_raised() -> None:
    engine = hosted()

    async def items() -> AsyncIterator[BatchItem[Request]]:
        yield BatchItem(0, Request("a"))
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        async for _ in engine.answer(items(), MemoryDesk()):
            pass
    await engine.close()


async def test_an_item_that_takes_too_long_is_given_up_alone() -> None:
    engine = hosted(timeout=2, max_batch=2)
    responses = await collect(engine, ["slow 1000000", "quick", "quick again"])
    await engine.close()
    assert responses[0].error is not None and responses[0].error.error_class is ErrorClass.TRANSIENT
    assert responses[0].error.message == "no answer within 2 s"
    assert responses[1].success and responses[2].success


async def test_partial_texts_grow() -> None:
    engine = hosted(spec={"step_seconds": 0.02})
    task = asyncio.create_task(collect(engine, ["slow 60"]))
    seen: list[str] = []
    while not task.done():
        if text := engine.partial_texts().get(0):
            seen.append(text)
        await asyncio.sleep(0.01)
    assert len(set(seen)) >= 3
    assert all(later.startswith(earlier) for earlier, later in pairwise(seen))
    assert engine.partial_texts() == {}
    await engine.close()


async def test_one_run_at_a_time() -> None:
    engine = hosted()
    responses = engine.answer(given(["slow 50", "slow 50"]), MemoryDesk())
    first = asyncio.ensure_future(anext(responses))
    await until(lambda: engine.status == "ready")
    with pytest.raises(FatalError, match="another run"):
        await collect(engine, ["b"])
    await first
    await responses.aclose()
    await engine.close()


async def test_close_ends_a_run_too() -> None:
    engine = hosted()
    task = asyncio.create_task(collect(engine, ["slow 100000"]))
    await until(lambda: engine.partial_texts())
    await engine.close()
    with pytest.raises(FatalError, match="closed"):
        await task


@posix
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
async def test_dies_with_its_parent_and_not_of_ctrl_c(how: signal.Signals) -> None:
    script = textwrap.dedent(f"""
        import asyncio
        from batch.engines.desk import MemoryDesk
        from batch.engines.local.host import HostedEngine
        from batch.items import BatchItem, Request
        async def items():
            yield BatchItem(0, Request("slow 1000000"))
        async def main():
            engine = HostedEngine({FAKE!r}, {{}})
            task = asyncio.create_task(anext(engine.answer(items(), MemoryDesk())))
            while not engine.partial_texts():
                await asyncio.sleep(0.01)
            print(engine.pid, flush=True)
            await task
        asyncio.run(main())
    """)
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=worker_env(1)
    )
    assert parent.stdout
    with parent.stdout:
        child = int(await asyncio.to_thread(parent.stdout.readline))
    assert os.getsid(child) != os.getsid(parent.pid)
    os.kill(child, signal.SIGINT)
    await asyncio.sleep(0.2)
    assert not gone(child)
    parent.send_signal(how)
    await asyncio.to_thread(parent.wait)
    await until(lambda: gone(child), 15)


def test_frames_end_where_the_stream_does(tmp_path: Path) -> None:
    data = frames.encode({"op": "add", "text": "日本"})
    path = tmp_path / "stream"
    path.write_bytes(data + data[:-1])
    with path.open("rb") as stream:
        assert frames.read(stream) == {"op": "add", "text": "日本"}
        assert frames.read(stream) is None


def test_a_worker_finds_this_package_and_no_part_of_it_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` is a library of others: a worker that looks for it must not be given `batch/datasets`."""
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    *first, last = worker_env(None)["PYTHONPATH"].split(os.pathsep)
    assert last == "elsewhere" and [(Path(folder) / "batch" / "__init__.py").is_file() for folder in first] == [True]
    monkeypatch.setattr("sysconfig.get_path", lambda name: first[0])
    assert worker_env(None)["PYTHONPATH"] == "elsewhere"


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert worker_env(None)["OMP_NUM_THREADS"] == "7"
    assert worker_env(2)["OMP_NUM_THREADS"] == "2"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert worker_env(None)["OMP_NUM_THREADS"] == str(physical_cores())
