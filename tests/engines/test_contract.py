"""Every engine passes the contract."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from engines.contract import Contract
from engines.provider.making import engine_for, keys
from servers.batches import Batches, serving
from servers.remote import RemoteEngine

from ai_router.routing.checks import CheckedEngine, check_of
from batch.datasets.answers import CleaningEngine
from batch.engines.function import FunctionEngine
from batch.engines.http.engine import HttpEngine
from batch.engines.http.server import Server
from batch.engines.lane import Lane
from batch.engines.lanes import LanesEngine
from batch.engines.local.host import HostedEngine
from batch.engines.reuse import Answers, ReuseEngine
from batch.items import Request
from batch.options import SamplingOptions

DEMO = Path(__file__).parents[2] / "ai_router" / "demo"


def plain(text: str) -> str:
    if "slow" in text:
        time.sleep(0.03)
    return text.upper()


async def coroutine(text: str) -> str:
    await asyncio.sleep(0.03 if "slow" in text else 0)
    return text.upper()


class OfTexts(Contract):
    """An engine that says what it is asked, in capitals."""

    def slow(self, number: int) -> Request:
        return Request(f"slow {number}")

    def right(self, request: Request, text: str) -> bool:
        return text == request.text.upper()


class TestPlainFunction(OfTexts):
    def make(self, folder: Path) -> Any:
        return FunctionEngine(plain, workers=4)


class TestCoroutine(OfTexts):
    def make(self, folder: Path) -> Any:
        return FunctionEngine(coroutine, workers=4)


class TestCleaned(OfTexts):
    def make(self, folder: Path) -> Any:
        return CleaningEngine(FunctionEngine(coroutine, workers=4))


class TestLanes(OfTexts):
    def make(self, folder: Path) -> Any:
        return LanesEngine(
            [
                Lane("a", lambda: FunctionEngine(coroutine, workers=4), workers=3, fallback=("b",)),
                Lane("b", lambda: FunctionEngine(plain), local=True),
            ],
            "a",
        )


class TestLanesOverADeadOne(OfTexts):
    def make(self, folder: Path) -> Any:
        def dead() -> Any:
            raise RuntimeError("no such server")

        return LanesEngine(
            [Lane("a", dead, fallback=("b",)), Lane("b", lambda: FunctionEngine(coroutine, workers=4), adaptive=True)],
            "a",
        )


class TestChecked(OfTexts):
    def make(self, folder: Path) -> Any:
        return CheckedEngine(FunctionEngine(coroutine, workers=4), check_of({"regex": "[A-Z]"}), "small")


class TestHosted(Contract):
    def make(self, folder: Path) -> Any:
        return HostedEngine("tests.engines.fake_worker:Fake", {"step_seconds": 0.002}, max_batch=4)

    def slow(self, number: int) -> Request:
        return Request("slow 20")

    def right(self, request: Request, text: str) -> bool:
        return text == request.text


class TestRemote(Contract):
    items_in_jobs_only = True

    def make(self, folder: Path) -> Any:
        return RemoteEngine(folder / "remote", size=5)

    def right(self, request: Request, text: str) -> bool:
        return text == f"answer to {request.text}"


class OfServers(Contract):
    """One that asks the stand-in for OpenAI, over its wire."""

    @pytest.fixture(autouse=True)
    def served(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        batches = Batches()
        keys(monkeypatch.setenv, batches)
        with serving(batches) as self.url:
            yield

    def right(self, request: Request, text: str) -> bool:
        return text == f"answer to {request.text}"


class TestHttp(OfServers):
    def make(self, folder: Path) -> Any:
        return HttpEngine(Server("tiny-1", (f"{self.url}/v1",)))


class TestHttpReused(OfServers):
    timed = False  # what was known already took no time

    def make(self, folder: Path) -> Any:
        http = HttpEngine(Server("tiny-1", (f"{self.url}/v1",)), SamplingOptions(temperature=0))
        return ReuseEngine(http, SamplingOptions(temperature=0), {"url": self.url}, Answers(folder / "answers.db"))


class TestProvider(OfServers):
    gathers = True
    timed = False  # a batch does not say how long each of its answers took

    def make(self, folder: Path) -> Any:
        return engine_for("openai", self.url)


class Kept:
    """One engine for all tests of a class: to load a model takes a while. Closed at the end of the class."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.name = inner.name
        self.answer = inner.answer
        self.partial_texts = inner.partial_texts

    @property
    def status(self) -> str:
        return str(self.inner.status)

    @property
    def about(self) -> Mapping[str, Any]:
        return dict(self.inner.about)

    async def close(self) -> None:
        pass


class OfModels(Contract):
    """A real model."""

    count = 6
    sampling = SamplingOptions(max_tokens=12)
    kept: Kept | None = None

    def load(self) -> Any:
        raise NotImplementedError

    def make(self, folder: Path) -> Any:
        made = type(self).kept = type(self).kept or Kept(self.load())
        return made

    @classmethod
    def teardown_class(cls) -> None:
        if cls.kept is not None:
            asyncio.run(cls.kept.inner.close())

    def quick(self, number: int) -> Request:
        return Request("What is a stack?", {"params": {"max_tokens": 1 + number % 2}})

    def slow(self, number: int) -> Request:
        return Request("What is a queue?")


@pytest.mark.model
class TestTorch(OfModels):
    def load(self) -> Any:
        pytest.importorskip("torch")
        from batch.engines.torch.engine import TorchEngine

        return TorchEngine(DEMO, precision="fp32", sampling=self.sampling, max_batch=3)


@pytest.mark.model
class TestMlx(OfModels):
    def load(self) -> Any:
        pytest.importorskip("mlx_lm")
        from batch.engines.mlx.engine import MlxEngine

        return MlxEngine(DEMO, sampling=self.sampling, max_batch=3)
