"""What every engine must do, whatever it is made of: a class of tests, to be inherited by one class an engine.

A class says how its engine is made (`make`), a request that is answered soon (`quick`) and, where there is one, a
request that takes a while (`slow`), so that something is in flight when a test interferes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import weakref
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from servers.waiting import until

from batch import BatchJob, BatchProcessor, Run
from batch.checkpoint import CheckpointStore, schema
from batch.engines.base import Engine, closing_answers
from batch.engines.desk import MemoryDesk
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import RunOptions
from batch.running.progress import RunState

Item = BatchItem[Request]
Response = BatchResponse[Answer]


class Watched(Request):
    """A request that can be seen to go."""


def asked(core: Any, *requests: Request) -> list[Any]:
    """What a core answers to requests that are put to it at once, in their order."""
    for number, request in enumerate(requests):
        core.submit(BatchItem(number, request))
    found: dict[Any, Any] = {}
    while core.busy:
        found |= {response.id: response for response in core.step()}
    return [found[number] for number in range(len(requests))]


class Contract:
    """The tests. `count` is how many items are asked for where many are wanted."""

    count = 12
    items_in_jobs_only = False  # it needs a job's desk
    timed = True  # it says how long each answer took
    gathers = False  # it keeps items until it has all, also while the run is paused

    def make(self, folder: Path) -> Engine[Request, Answer]:
        """A fresh engine."""
        raise NotImplementedError

    def quick(self, number: int) -> Request:
        """A request that is answered soon."""
        return Request(f"number {number}")

    def slow(self, number: int) -> Request:
        """A request that takes a while."""
        return self.quick(number)

    def right(self, request: Request, text: str) -> bool:
        """Whether this answer may be one to this request."""
        return bool(text)

    # -- without a job -----------------------------------------------------------------------------------------------

    def desk(self, requests: Iterable[Request]) -> MemoryDesk:
        return MemoryDesk(dict(enumerate(requests)))

    @pytest.fixture
    async def engine(self, tmp_path: Path) -> AsyncIterator[Engine[Request, Answer]]:
        if self.items_in_jobs_only:
            pytest.skip("it answers for jobs")
        engine = self.make(tmp_path)
        yield engine
        await engine.close()

    async def test_it_has_the_shape_of_one(self, engine: Engine[Request, Answer]) -> None:
        assert isinstance(engine, Engine) and engine.name
        assert isinstance(engine.status, str) and json.dumps(dict(engine.about)) and dict(engine.partial_texts()) == {}
        await self.answered(engine, [self.quick(0)])
        assert isinstance(engine.status, str) and json.dumps(dict(engine.about)) and dict(engine.partial_texts()) == {}

    async def answered(self, engine: Engine[Request, Answer], requests: list[Request]) -> dict[Any, Response]:
        """Each request answered once, under its id."""

        async def items() -> AsyncIterator[Item]:
            for number, request in enumerate(requests):
                yield BatchItem(number, request)

        got: dict[Any, Response] = {}
        async with closing_answers(engine.answer(items(), self.desk(requests))) as answers:
            async for response in answers:
                assert response.id not in got, "answered twice"
                got[response.id] = response
        assert sorted(got) == list(range(len(requests)))
        for number, response in got.items():
            assert response.error is None and response.data is not None and response.duration_ns >= self.timed
            assert self.right(requests[number], response.data.text)
        return got

    async def test_every_item_is_answered_once_and_ids_may_come_again(self, engine: Engine[Request, Answer]) -> None:
        requests = [self.slow(n) if n % 3 == 0 else self.quick(n) for n in range(self.count)]
        first = await self.answered(engine, requests)
        again = await self.answered(engine, requests)  # the same ids, in another call
        assert first.keys() == again.keys()
        assert await self.answered(engine, []) == {}

    async def test_it_never_waits_for_an_item_while_an_answer_is_ready(self, engine: Engine[Request, Answer]) -> None:
        """As while a run is paused: the next items come only when those before are answered."""
        requests = [self.quick(n) for n in range(4)]
        answered = [asyncio.Event() for _ in range(4)]

        async def items() -> AsyncIterator[Item]:
            for number, request in enumerate(requests):
                yield BatchItem(number, request)
                await answered[number].wait()

        async with asyncio.timeout(60), closing_answers(engine.answer(items(), self.desk(requests))) as answers:
            async for response in answers:
                answered[response.id].set()
        assert all(event.is_set() for event in answered)

    async def test_what_is_abandoned_is_forgotten_and_the_engine_goes_on(self, engine: Engine[Request, Answer]) -> None:
        requests = [self.quick(0), *(self.slow(n) for n in range(1, self.count))]
        closed = asyncio.Event()

        async def items() -> AsyncIterator[Item]:
            try:
                for number, request in enumerate(requests):
                    yield BatchItem(number, request)
                await asyncio.Event().wait()
            finally:
                closed.set()

        async with asyncio.timeout(60):
            async with closing_answers(engine.answer(items(), self.desk(requests))) as answers:
                await anext(answers)
            assert dict(engine.partial_texts()) == {}
            got = await self.answered(engine, [self.quick(n) for n in range(5)])
        assert len(got) == 5

    async def test_what_was_abandoned_answers_nobody_later(self, engine: Engine[Request, Answer]) -> None:
        """The next call's items have the same ids and ask for something else."""
        before = [self.quick(0), *(self.slow(n) for n in range(1, self.count))]
        after = [self.quick(self.count + n) for n in range(self.count)]

        async def items() -> AsyncIterator[Item]:
            for number, request in enumerate(before):
                yield BatchItem(number, request)

        async with (
            asyncio.timeout(60),
            closing_answers(engine.answer(items(), self.desk(before))) as answers,
        ):
            await anext(answers)
        await self.answered(engine, after)  # looks at each answer

    async def test_what_was_answered_is_held_no_longer(self, engine: Engine[Request, Answer]) -> None:
        held: list[weakref.ref[Request]] = []

        async def items() -> AsyncIterator[Item]:
            for number in range(self.count):
                request = Watched(self.quick(number).text, self.quick(number).extra)
                held.append(weakref.ref(request))
                yield BatchItem(number, request)

        async with asyncio.timeout(60), closing_answers(engine.answer(items(), MemoryDesk({}))) as answers:
            async for response in answers:
                assert response.error is None
        del response
        gc.collect()
        alive = sum(request() is not None for request in held)
        assert len(held) == self.count and alive <= self.count // 3  # the last ones may stand in idle threads' frames

    async def test_a_source_that_fails_is_heard(self, engine: Engine[Request, Answer]) -> None:
        async def items() -> AsyncIterator[Item]:
            yield BatchItem(0, self.quick(0))
            raise LookupError("the disk is gone")

        with pytest.raises(LookupError, match="the disk is gone"):
            async with (
                asyncio.timeout(60),
                closing_answers(engine.answer(items(), self.desk([]))) as answers,
            ):
                async for _ in answers:
                    pass
        assert len(await self.answered(engine, [self.quick(1)])) == 1

    # -- within a job ------------------------------------------------------------------------------------------------

    def job(self, folder: Path, *, slow: bool = False) -> tuple[BatchProcessor, BatchJob]:
        processor = BatchProcessor(folder / "jobs")
        ask = self.slow if slow else self.quick
        return processor, processor.create_job("m", [ask(n) for n in range(self.count)])

    def check(self, job: BatchJob) -> int:
        """Each stored answer is one to its own item; how many there are."""
        assert job.checkpoint_file is not None
        with CheckpointStore(job.checkpoint_file) as store:
            results = list(store.iter_results())
            requests = dict(store.requests([r.prompt_index for r in results]))
        for result in results:
            assert result.success and self.right(requests[result.prompt_index], result.response_text)
        assert job.completed == len(results) and not job.failed
        return len(results)

    def test_a_job(self, tmp_path: Path) -> None:
        _, job = self.job(tmp_path)
        run = Run(job, self.make(tmp_path), RunOptions())
        run.execute()
        snapshot = run.snapshot()
        assert run.error is None and snapshot.state is RunState.FINISHED and self.check(job) == self.count
        assert (snapshot.duplicates, snapshot.strangers, snapshot.in_flight) == (0, 0, 0)

    @pytest.mark.parametrize("mode", ["drain", "now"])
    def test_a_job_that_is_paused_and_stopped_and_resumed(self, tmp_path: Path, mode: Any) -> None:
        processor, job = self.job(tmp_path, slow=True)
        run = processor.run(job, self.make(tmp_path), RunOptions(workers=3))
        until(lambda: run.snapshot().in_flight > 0 or run.snapshot().with_provider > 0 or run.wait(0), 60)
        run.pause()
        until(lambda: run.snapshot().in_flight == 0 or self.gathers or run.wait(0), 60)  # what was in flight comes in
        run.resume()
        run.stop(mode)
        assert run.wait(60) and run.error is None and run.snapshot().state is not RunState.FAILED
        done = self.check(job)
        if done < self.count:
            again = processor.open_job(job.checkpoint_file)  # type: ignore[arg-type]
            run = Run(again, self.make(tmp_path), RunOptions())
            run.execute()
            assert run.error is None and run.snapshot().state is RunState.FINISHED
            assert self.check(again) == self.count

    def test_a_job_whose_process_dies(self, tmp_path: Path) -> None:
        """What is on the disk at any moment is enough: another process goes on from there, and keeps what was there."""
        _, job = self.job(tmp_path, slow=True)
        run = Run(job, self.make(tmp_path), RunOptions(workers=3)).start()
        until(lambda: job.completed > 0 or run.snapshot().with_provider > 0 or run.wait(0))
        left = self.left_behind(job, tmp_path / "left")
        run.stop("now")
        assert run.wait(60)
        before = self.stored(left)
        again = BatchProcessor(left.parent).open_job(left)
        run = Run(again, self.make(tmp_path), RunOptions())
        run.execute()
        assert run.error is None and run.snapshot().state is RunState.FINISHED and self.check(again) == self.count
        assert before.items() <= self.stored(left).items()

    def left_behind(self, job: BatchJob, folder: Path) -> Path:
        """The job's files as a death at this moment would leave them; nothing writes while they are copied."""
        assert job.checkpoint_file is not None
        folder.mkdir()
        with closing(schema.connect(job.checkpoint_file, "write")) as connection, schema.transaction(connection):
            for path in job.checkpoint_file.parent.glob(f"{job.checkpoint_file.name}*"):
                if not path.name.endswith("-shm"):  # which is made anew
                    shutil.copy(path, folder / path.name)
        return folder / job.checkpoint_file.name

    def stored(self, path: Path) -> dict[int, str]:
        """The answers on the disk."""
        with CheckpointStore(path) as store:
            return {result.prompt_index: result.response_text for result in store.iter_results()}
