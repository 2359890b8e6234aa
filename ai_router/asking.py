"""One question at a time: to an engine at hand, or to a model kept warm on an event loop of its own in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from ai_router.models import ModelSpec, make_engine
from batch.engines.base import Engine
from batch.engines.desk import MemoryDesk
from batch.errors import EngineError, classify
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import SamplingOptions, options_dict
from batch.thinking import thinking_apart, with_thinking

IDLE_SECONDS = 600.0
POLL_SECONDS = 0.1
EMPTY = "the answer is empty"
NO_ANSWER = "the model thought and gave no answer; max_tokens may be too few"
MakeEngine = Callable[[ModelSpec], Engine[Request, Answer]]


@dataclass(slots=True)
class Asking:
    """One prompt on its way. Read from the screen's timer; written by the pool's thread."""

    prompt: str
    model: str
    number: int
    began: float = field(default_factory=time.monotonic)
    first: float | None = None  # when the first text was seen
    ended: float | None = None
    text: str = ""  # whole once it has ended; what was thought stands before the answer, as with_thinking writes it
    tokens_input: int = 0
    tokens_output: int = 0
    duration: float | None = None  # seconds of answering, without the loading of the model
    error: str = ""
    stopped: bool = False
    cut: bool = False  # whether the limit of tokens ended it

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.ended is not None

    @property
    def answer(self) -> str:
        """The text without what was thought."""
        return thinking_apart(self.text)[1]

    @property
    def seconds(self) -> float:
        """Since the question, to now or to the end."""
        return (self.ended or time.monotonic()) - self.began

    @property
    def tokens_per_second(self) -> float | None:
        """Output tokens a second while answering; None until known."""
        return self.tokens_output / self.duration if self.duration and self.tokens_output else None

    @property
    def loading(self) -> float | None:
        """Seconds before the answering began; None until known."""
        return None if self.duration is None else max(0.0, self.seconds - self.duration)


async def response_to(engine: Engine[Request, Answer], item: BatchItem[Request]) -> BatchResponse[Answer] | None:
    """What an engine answers to one item; None where it ends without a word."""

    async def items() -> AsyncIterator[BatchItem[Request]]:
        yield item

    answers: AsyncIterator[BatchResponse[Answer]] = engine.answer(items(), MemoryDesk())
    async with aclosing(answers) as responses:  # type: ignore[type-var]
        async for response in responses:
            return response
    return None


async def ask_once(
    engine: Engine[Request, Answer], request: Request, on_text: Callable[[str], None]
) -> BatchResponse[Answer] | None:
    """Ask one thing and close the engine; `on_text` is given the text so far, again and again."""

    async def show() -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            on_text(engine.partial_texts().get(0, ""))

    shower = asyncio.create_task(show())
    try:
        return await response_to(engine, BatchItem(0, request))
    finally:
        shower.cancel()
        await engine.close()


async def _nothing() -> AsyncIterator[BatchItem[Request]]:
    none: tuple[BatchItem[Request], ...] = ()
    for item in none:
        yield item


class EnginePool:
    """Keeps one engine open for the last model asked; closed when another is asked, on idle, and by `close`."""

    def __init__(self, make: MakeEngine | None = None, *, idle: float = IDLE_SECONDS) -> None:
        self._make = make or (lambda spec: make_engine(spec, SamplingOptions(), workers=1))
        self._idle = idle
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: Engine[Request, Answer] | None = None
        self._model = ""
        self._task: asyncio.Task[None] | None = None
        self._warming: list[Future[None] | asyncio.Task[None]] = []  # the order to load, and the loading
        self._closing: asyncio.Future[None] | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._number = 0
        self._asking: Asking | None = None

    def another(self) -> EnginePool:
        """A pool of its own that makes engines in the same way."""
        return EnginePool(self._make, idle=self._idle)

    @property
    def status(self) -> str:
        """What the engine says it is doing; from any thread."""
        engine = self._engine
        return str(getattr(engine, "status", "ready")) if engine is not None else ""

    @property
    def warm(self) -> str:
        """The id of the model that is open, or nothing."""
        return self._model if self._engine is not None else ""

    @property
    def warming(self) -> bool:
        """Whether a model is being loaded that nothing was asked yet."""
        return not all(step.done() for step in self._warming)

    def warm_up(self, spec: ModelSpec) -> None:
        """Load a local model ahead of a question, also where it was stopped while it loaded for one.

        What goes wrong is said when that is asked.
        """
        if not spec.is_remote and (self._asking is None or self._asking.over):
            self._warming = [self._submit(self._load(spec))]

    def ask(
        self, spec: ModelSpec, prompt: str, sampling: SamplingOptions, before: Sequence[tuple[str, str]] = ()
    ) -> Asking:
        """Begin to answer; what was being answered before is stopped. `before` are questions and answers so far."""
        self.stop()
        self._number += 1
        asking = self._asking = Asking(prompt, spec.id, self._number)
        params = {name: value for name, value in options_dict(sampling).items() if name != "system"}
        messages = [
            {"role": role, "content": text}
            for turn in (*before, (prompt, None))
            for role, text in zip(("user", "assistant"), turn, strict=True)
            if text is not None
        ]
        if sampling.system:
            messages.insert(0, {"role": "system", "content": sampling.system})
        extra = {"messages": messages, "params": params}
        self._submit(self._begin(spec, asking, Request(prompt, extra)))
        return asking

    def partial(self, asking: Asking) -> str:
        """The text so far."""
        if asking.over:
            return asking.text
        engine = self._engine
        text = engine.partial_texts().get(asking.number, "") if engine is not None else ""
        if text and asking.first is None:
            asking.first = time.monotonic()
        if len(text) > len(asking.text):
            asking.text = text
        return asking.text

    def stop(self) -> None:
        """Stop what is being answered; its text so far stays."""
        asking = self._asking
        if asking is not None and not asking.over:
            asking.text = self.partial(asking)
            asking.stopped = True
            asking.ended = time.monotonic()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel)

    def close(self, wait: float | None = None) -> None:
        """Close the engine, as before a batch that needs the memory; waits so many seconds for it where asked to."""
        self.stop()
        if self._loop is None:
            return
        future = self._submit(self._close_engine())
        if wait is not None:
            with suppress(TimeoutError):
                future.result(wait)

    def shutdown(self, wait: float = 3.0) -> None:
        """Close the engine and end the thread."""
        self.close(wait)
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    async def _load(self, spec: ModelSpec) -> None:
        if self._task is not None and not self._task.done():
            return

        async def load() -> None:
            with suppress(Exception):
                if self._engine is None or self._model != spec.id:
                    await self._close_now()
                    self._engine, self._model = self._make(spec), spec.id
                answers: AsyncIterator[BatchResponse[Answer]] = self._engine.answer(_nothing(), MemoryDesk())
                async with aclosing(answers) as responses:  # type: ignore[type-var]
                    async for _ in responses:
                        pass

        self._task = asyncio.create_task(load())
        self._warming.append(self._task)

    # -- on the loop ----------------------------------------------------------------------------------------------

    def _submit(self, coroutine: object) -> Future[None]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="ask-engine", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)  # type: ignore[arg-type]

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _begin(self, spec: ModelSpec, asking: Asking, request: Request) -> None:
        before = self._task
        self._task = task = asyncio.create_task(self._answer(spec, asking, request, before))
        with suppress(asyncio.CancelledError):
            await task

    async def _answer(
        self, spec: ModelSpec, asking: Asking, request: Request, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        if asking.stopped:
            return
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        try:
            if self._engine is None or self._model != spec.id:
                await self._close_now()
                self._engine, self._model = self._make(spec), spec.id
            await self._hear(self._engine, asking, request)
            if not asking.over:
                asking.error = "the engine gave no answer"
        except EngineError as error:
            asking.error = asking.error or str(error)
            await self._close_now()  # a broken engine is made anew by the next question
        except asyncio.CancelledError:
            raise
        except Exception as error:
            asking.error = classify(error).message
            await self._close_now()
        finally:
            asking.ended = asking.ended or time.monotonic()
            self._idle_timer = asyncio.get_running_loop().call_later(self._idle, self._idled)

    async def _hear(self, engine: Engine[Request, Answer], asking: Asking, request: Request) -> None:
        response = await response_to(engine, BatchItem(asking.number, request))
        if response is None or asking.stopped:
            return
        asking.duration = response.duration_ns / 1e9
        asking.tokens_input, asking.tokens_output = response.tokens_input, response.tokens_output
        if response.error is not None:
            asking.error = response.error.message
        elif response.data is not None:
            said = response.data
            asking.text, asking.cut = with_thinking(str((said.extra or {}).get("reasoning", "")), said.text), said.cut
            if not asking.answer.strip():
                asking.error = NO_ANSWER if asking.text.strip() else EMPTY
        asking.ended = time.monotonic()

    def _idled(self) -> None:
        self._closing = asyncio.ensure_future(self._close_engine())

    async def _close_engine(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._close_now()

    async def _close_now(self) -> None:
        engine, self._engine, self._model = self._engine, None, ""
        if engine is not None:
            await engine.close()
