"""What every engine that runs a model on this machine shares: the core's shape, and sampling options per item."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any, Protocol

from batch.engines.desk import Desk
from batch.engines.pull import Puller
from batch.engines.schema import schema_of
from batch.errors import EngineError, FatalError, PermanentError
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request, Timing
from batch.options import OptionError, SamplingOptions, parse_option

PARTIAL_SECONDS = 0.1  # how often the text so far is looked at; no screen needs it faster

# What the OpenAI form calls an option of ours.
ALIASES = {"max_completion_tokens": "max_tokens", "max_new_tokens": "max_tokens"}
# Parts of an OpenAI request body that change nothing about the text of one answer.
WITHOUT_EFFECT = frozenset({"model", "messages", "stream", "stream_options", "user", "metadata", "store"})


class LocalCore(Protocol):
    """A model that answers items in steps: no thread, no event loop, no process of its own.

    One thread calls all of it. `step` advances every running item by about one token.
    """

    about: Mapping[str, Any]  # device, precision, parameters, …; JSON, for display; may change as it goes

    @property
    def room(self) -> int:
        """Items worth holding at once; may change as it goes."""
        ...

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        ...

    def submit(self, item: BatchItem[Request]) -> None:
        """Take an item; what is wrong with it comes back from the next `step`, as its response."""
        ...

    def cancel(self, item_id: ItemId) -> None:
        """Forget an item; one that is not held is no error."""
        ...

    def step(self) -> list[BatchResponse[Answer]]:
        """Advance, and return what has finished."""
        ...

    def partial_texts(self) -> dict[ItemId, str]:
        """The text so far of every running item; it only ever grows."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


class StepClock:
    """Steps a core and keeps time of its items from outside: when each began, and when its first token came.

    A core may have `token_counts() -> dict[ItemId, int]`, the tokens so far of every running item. One without it is
    asked for its partial texts, and an item that has one is taken to have its first token; this costs a decoding of
    all texts at steps where an item waits for its first token.
    """

    def __init__(self, core: LocalCore) -> None:
        self._core = core
        self._counts: Callable[[], Mapping[ItemId, int]] = getattr(core, "token_counts", self._from_partials)
        self._taken: dict[ItemId, int] = {}
        self._began: dict[ItemId, int] = {}
        self._first: dict[ItemId, int] = {}

    def submit(self, item: BatchItem[Request]) -> None:
        """Hand an item to the core."""
        self._taken[item.id] = time.perf_counter_ns()
        self._core.submit(item)

    def cancel(self, item_id: ItemId) -> None:
        """Cancel an item."""
        self._forget(item_id)
        self._core.cancel(item_id)

    def step(self) -> list[BatchResponse[Answer]]:
        """Advance; the responses carry their `timing`."""
        start = time.perf_counter_ns()
        responses = self._core.step()
        end = time.perf_counter_ns()
        timed = [replace(response, timing=self._timing(response, start, end)) for response in responses]
        if len(self._first) < len(self._taken):
            for item_id, count in self._counts().items():
                self._began.setdefault(item_id, start)
                if count and item_id not in self._first:
                    self._first[item_id] = end
        return timed

    def _timing(self, response: BatchResponse[Answer], start: int, end: int) -> Timing:
        item_id = response.id
        taken = self._taken.get(item_id, start)
        first = self._first.get(item_id, end if response.tokens_output else None)
        timing = Timing(
            queue_ns=self._began.get(item_id, start) - taken,
            first_token_ns=None if first is None else first - taken,
            total_ns=end - taken,
        )
        self._forget(item_id)
        return timing

    def _forget(self, item_id: ItemId) -> None:
        for times in (self._taken, self._began, self._first):
            times.pop(item_id, None)

    def _from_partials(self) -> Mapping[ItemId, int]:
        return dict.fromkeys(self._core.partial_texts(), 1)


class CoreFactory(Protocol):
    """Opens a core; raises FatalError, with one sentence, where the model cannot be loaded."""

    def __call__(self, spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> LocalCore: ...


def item_sampling(base: SamplingOptions, params: Mapping[str, Any]) -> tuple[SamplingOptions, list[str]]:
    """The engine's options with those of one item on top, and the names of parameters that no local engine has."""
    if not params:
        return base, []
    known = {spec.name for spec in fields(SamplingOptions)}
    params = dict(params)
    asked = "json_schema" in params or "response_format" in params
    # On its own, as the other way a text could be the name of a file.
    changes: dict[str, Any] = {"json_schema": schema_of(params)} if asked else {}
    ignored: list[str] = []
    for name, value in params.items():
        option = ALIASES.get(name, name)
        if option not in known:
            if name not in WITHOUT_EFFECT:
                ignored.append(name)
        elif value is not None:
            try:
                changes[option] = parse_option(SamplingOptions, option, value)
            except OptionError as error:
                raise PermanentError(str(error)) from None
    return (replace(base, **changes) if changes else base), ignored


class ThreadedEngine:
    """A local core as an engine within this process, on a thread of its own; `HostedEngine` is the sturdier choice.

    With `timing` set, responses tell when work on them began and when their first token came.
    """

    def __init__(self, name: str, open_core: Callable[[], LocalCore], *, timing: bool = False) -> None:
        self.name = name
        self.timing = timing
        self._open_core = open_core
        self._core: LocalCore | None = None
        self._partials: dict[ItemId, str] = {}
        self._partials_at = 0.0
        # One worker: everything that touches the core runs there, one thing after the other.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"engine-{name}")

    @property
    def status(self) -> str:
        """`ready` once the model is loaded."""
        return "ready" if self._core is not None else ""

    @property
    def about(self) -> Mapping[str, Any]:
        """Device, precision, parameters, … once the model is loaded; empty before."""
        core = self._core
        return core.about if core is not None else {}

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        """Yield one response for every item pulled."""
        loop = asyncio.get_running_loop()
        core = self._core
        if core is None:
            core = self._core = await loop.run_in_executor(self._thread, self._open_core)
        stepper = StepClock(core) if self.timing else core
        inbox: asyncio.Queue[BatchItem[Request] | Exception | None] = asyncio.Queue()
        pulled: dict[ItemId, int] = {}
        puller = Puller(items, inbox.put_nowait, inbox.put_nowait, core.room)
        ended = False
        try:
            while pulled or not ended:
                while not (ended and inbox.empty()) and (not inbox.empty() or not pulled):
                    item = await inbox.get()
                    if isinstance(item, Exception):
                        raise item
                    if item is None:
                        ended = True
                        break
                    pulled[item.id] = time.perf_counter_ns()
                    await loop.run_in_executor(self._thread, stepper.submit, item)
                if not pulled:
                    continue
                for response in await loop.run_in_executor(self._thread, self._step, core, stepper):
                    duration = time.perf_counter_ns() - pulled.pop(response.id)
                    puller.release()
                    yield replace(response, duration_ns=duration)
        finally:
            puller.cancel()
            self._partials = {}
            # Through the thread, so that it comes after a step that is still under way.
            for item_id in pulled:
                self._thread.submit(core.cancel, item_id)

    def _step(self, core: LocalCore, stepper: LocalCore | StepClock) -> list[BatchResponse[Answer]]:
        try:
            responses = stepper.step()
        except EngineError:
            raise
        except Exception as error:
            raise FatalError(f"the {self.name} engine failed: {type(error).__name__}: {error}") from error
        now = time.monotonic()
        if now - self._partials_at >= PARTIAL_SECONDS:
            self._partials, self._partials_at = core.partial_texts(), now
        return responses

    def partial_texts(self) -> Mapping[ItemId, str]:
        """The text so far of items in flight."""
        return self._partials

    async def close(self) -> None:
        """Free the model and end the thread."""
        core, self._core = self._core, None
        if core is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, core.close)
        self._thread.shutdown(wait=False)
